package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// probeTime is how long it counts that the disk took a write, and probeAgain that
	// it did not. Anybody can ask, so neither depends on how often somebody does.
	probeTime, probeAgain = 10 * time.Second, time.Second
	// probePatience is how long a disk may take to take a few bytes.
	probePatience = 3 * time.Second
)

var errSlowDisk = errors.New("the disk does not answer")

// A probe finds out whether the disk takes writes when somebody asks, so that a
// server to which nobody writes does not learn it from the next who does.
type probe struct {
	try func() error
	log *slog.Logger

	mu    sync.Mutex
	begun time.Time     // of the newest try
	ended chan struct{} // closed when it has ended; nil: there was none
	err   error         // of the newest that has ended
}

// probed is tryDisk where no test has another: a disk may be slow, and is then not ready.
var probed = tryDisk

// newProbe returns a probe of the disk that a directory is on.
func newProbe(dir string, log *slog.Logger) *probe {
	return &probe{try: func() error { return probed(filepath.Join(dir, "probe.tmp")) }, log: log}
}

// check says why the disk takes no writes, nil if it does. The text is for anybody; the
// log is told more.
func (p *probe) check() error {
	p.mu.Lock()
	if p.due() {
		p.begun, p.ended = time.Now(), make(chan struct{})
		go p.run(p.ended)
	}
	begun, ended := p.begun, p.ended
	p.mu.Unlock()

	late := time.NewTimer(time.Until(begun.Add(probePatience)))
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		select {
		case <-ended: // also
		default:
			return errSlowDisk
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return diskTrouble(p.err)
}

// due reports whether it is time for another try. One that has not ended is waited for,
// so that a disk that hangs holds up one goroutine and no more. mu is held.
func (p *probe) due() bool {
	if p.ended == nil {
		return true
	}
	select {
	case <-p.ended:
	default:
		return false
	}
	if p.err != nil {
		return time.Since(p.begun) >= probeAgain
	}
	return time.Since(p.begun) >= probeTime
}

func (p *probe) run(ended chan struct{}) {
	err := p.try()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil && p.err == nil:
		p.log.Warn("the disk takes no writes", "err", err)
	case err == nil && p.err != nil:
		p.log.Info("the disk takes writes again")
	}
	p.err = err
	close(ended)
}

// diskTrouble is what anybody may know of an error of the disk.
func diskTrouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS):
		return errors.New("the disk is read-only")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errors.New("the disk is full")
	}
	return errors.New("the disk takes no writes")
}

// tryDisk writes a file, brings it to the disk and removes it. One that is left by a
// process that was killed is written over by the next try.
func tryDisk(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}
