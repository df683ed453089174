package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A proc is a child process. It is started, killed and waited for by the main
// goroutine alone.
type proc struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when all that it printed was read: it is about to end, or has
	log   string        // file with what it writes to stderr
}

// start starts a child. line is called for each line that it prints, in a
// goroutine of the child's own. Its stderr is appended to the file log.
func start(name, log string, line func(string), program string, args ...string) (*proc, error) {
	stderr, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p := &proc{name: name, cmd: exec.Command(program, args...), done: make(chan struct{}), log: log}
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = attributes()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			line(s.Text())
		}
	}()
	return p, nil
}

// kill sends SIGKILL to the child's process group and returns when it has ended
// and everything that it had printed was read. It reports what the child died
// of, if it was not this.
func (p *proc) kill() error {
	if err := killGroup(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.done
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return fmt.Errorf("%s ended by itself: %v%s", p.name, p.cmd.ProcessState, p.last())
}

// wait waits until the child has ended by itself, and kills it when ctx ends.
func (p *proc) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		killGroup(p.cmd.Process)
		<-p.done
	}
	if err := p.cmd.Wait(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%s: %w%s", p.name, err, p.last()))
	}
	return ctx.Err()
}

// ended reports whether the child has ended, or is about to.
func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// last returns the end of what the child wrote to stderr.
func (p *proc) last() string {
	b, err := os.ReadFile(p.log)
	if err != nil || len(b) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-20):]
	return fmt.Sprintf("\n  %s ends with:\n    %s", filepath.Base(p.log), strings.Join(lines, "\n    "))
}
