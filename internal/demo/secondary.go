package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A secondary is a kistd that runs.
type secondary struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has, and err is final
	err    error
	stdout string // file that it prints to
	stderr string // file that it logs to
	files  []*os.File
}

// Where the secondary keeps its data and writes its output, in the
// demonstration's directory.
const (
	secondaryData = "secondary"
	secondaryOut  = "secondary.out"
	secondaryLog  = "secondary.log"
)

var (
	addressLine = regexp.MustCompile(`(?m)^listening on wss?://(\S+)/$`)
	inviteLine  = regexp.MustCompile(`(?m)^(kistinvite1\S+)$`)
)

// exitInUse is how kistd ends when it cannot have its address.
const exitInUse = 11

// startSecondary starts kistd with its data in a directory of its own, which
// outlives it, and returns the address that it listens on.
func (d *demo) startSecondary(address string) (string, error) {
	d.say("secondary$ kistd serve --data %s --listen %s", secondaryData, address)
	for deadline := time.Now().Add(20 * time.Second); ; {
		listening, err := d.trySecondary(address, deadline)
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != exitInUse || time.Now().After(deadline) {
			return listening, err
		}
		// While it was down, somebody's connection may have come to use its port.
		time.Sleep(200 * time.Millisecond)
	}
}

// trySecondary starts kistd once. With --verbose it logs all that it has to say,
// to be searched later.
func (d *demo) trySecondary(address string, deadline time.Time) (string, error) {
	s := &secondary{stdout: filepath.Join(d.dir, secondaryOut), stderr: filepath.Join(d.dir, secondaryLog), ended: make(chan struct{})}
	s.cmd = d.command(d.dir, d.program("kistd"), "serve", "--data", secondaryData, "--listen", address, "--log-level", "debug")
	var before int
	if b, err := os.ReadFile(s.stdout); err == nil {
		before = len(b)
	}
	for _, to := range []struct {
		path string
		set  func(*os.File)
	}{
		{s.stdout, func(f *os.File) { s.cmd.Stdout = f }},
		{s.stderr, func(f *os.File) { s.cmd.Stderr = f }},
	} {
		f, err := os.OpenFile(to.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return "", errors.Join(err, s.close())
		}
		to.set(f)
		s.files = append(s.files, f)
	}
	if err := s.cmd.Start(); err != nil {
		return "", errors.Join(err, s.close())
	}
	d.secondary = s
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	for {
		out, err := os.ReadFile(s.stdout)
		if err != nil {
			return "", err
		}
		out = out[before:]
		if m := addressLine.FindSubmatch(out); m != nil && (before > 0 || inviteLine.Match(out)) {
			d.quoteOutput(out)
			return string(m[1]), nil
		}
		select {
		case <-s.ended:
			d.secondary = nil
			log, _ := os.ReadFile(s.stderr)
			return "", errors.Join(fmt.Errorf("the secondary ended: %w\n%s", s.err, log), s.close())
		case <-d.ctx.Done():
			return "", context.Cause(d.ctx)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return "", errors.New("the secondary does not begin to listen")
		}
	}
}

// invite returns the invite that the secondary has printed.
func (d *demo) invite() (string, error) {
	out, err := os.ReadFile(filepath.Join(d.dir, secondaryOut))
	if err != nil {
		return "", err
	}
	m := inviteLine.FindSubmatch(out)
	if m == nil {
		return "", errors.New("the secondary has printed no invite")
	}
	return strings.TrimSpace(string(m[1])), nil
}

// stopSecondary stops the secondary if one runs. It has to end well.
func (d *demo) stopSecondary() error {
	s := d.secondary
	if s == nil {
		return nil
	}
	d.secondary = nil
	err := terminate(s.cmd.Process)
	select {
	case <-s.ended:
	case <-time.After(15 * time.Second):
		err = errors.Join(err, errors.New("the secondary did not stop"), s.cmd.Process.Kill())
		<-s.ended
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 && d.ctx.Err() == nil {
		log, _ := os.ReadFile(s.stderr)
		err = errors.Join(err, fmt.Errorf("the secondary ended with %v:\n%s", s.cmd.ProcessState, log))
	}
	return errors.Join(err, s.close())
}

func (s *secondary) close() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
