package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kistvault/kist/internal/porttest"
	"github.com/kistvault/kist/secondary/wire"
)

// server is the kistd under test.
type server struct {
	program, dir, log string
	addr              string
	p                 *proc // nil: not running
}

// kistd returns the path of the server program, built into dir if none is given.
func kistd(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	path := filepath.Join(dir, "kistd")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/kistvault/kist/cmd/kistd")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building kistd (run this from the module's directory, or give -kistd): %w", err)
	}
	return path, nil
}

// newServer returns a server that does not run. It has the same address whenever it
// runs, which this process keeps.
func newServer(program, dir string) (*server, error) {
	addr, _, err := porttest.Keep()
	return &server{program: program, dir: filepath.Join(dir, "server"), log: filepath.Join(dir, "server.log"), addr: addr}, err
}

// startTime bounds how long a child may take to come up, on a slow machine.
const startTime = time.Minute

// start starts the server and returns when it listens.
func (s *server) start(ctx context.Context) error {
	listening := make(chan struct{})
	var once sync.Once
	var err error
	s.p, err = start("kistd", s.log, func(line string) {
		if strings.HasPrefix(line, "listening on ") {
			once.Do(func() { close(listening) })
		}
	}, s.program, "serve", "--data", s.dir, "--listen", s.addr)
	if err != nil {
		return err
	}
	late := time.NewTimer(startTime)
	defer late.Stop()
	select {
	case <-listening:
		return nil
	case <-s.p.done:
	case <-late.C:
		err = errors.New("it does not listen")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return fmt.Errorf("starting kistd: %w", errors.Join(err, s.p.kill()))
}

// startCut starts the server and kills it after a while, wherever it is then.
func (s *server) startCut(after time.Duration) error {
	p, err := start("kistd", s.log, func(string) {}, s.program, "serve", "--data", s.dir, "--listen", s.addr)
	if err != nil {
		return err
	}
	time.Sleep(after)
	return p.kill()
}

func (s *server) kill() error {
	if s.p == nil {
		return nil
	}
	p := s.p
	s.p = nil
	return p.kill()
}

// invite asks for an invite, as a person does.
func (s *server) invite(ctx context.Context) (wire.Invite, error) {
	out, err := exec.CommandContext(ctx, s.program, "invite", "--data", s.dir).Output()
	if err != nil {
		return wire.Invite{}, fmt.Errorf("kistd invite: %w", err)
	}
	return wire.ParseInvite(strings.TrimSpace(string(out)))
}

// errorsLogged returns the lines in which the server reports trouble of its own.
func (s *server) errorsLogged() (out []string, err error) {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out, nil
}
