package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The disk is asked when somebody asks, and not more often than now and then; one that
// hangs is found out, and holds up nobody.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		var fault error
		var hang chan struct{}
		var log strings.Builder
		p := &probe{log: slog.New(slog.NewTextHandler(&log, nil)), try: func() error {
			tries.Add(1)
			if hang != nil {
				<-hang
			}
			return fault
		}}
		check := func(want string, wantTries int32) {
			t.Helper()
			got := fmt.Sprint(p.check())
			if got != want || tries.Load() != wantTries {
				t.Errorf("%q after %d tries, want %q after %d", got, tries.Load(), want, wantTries)
			}
		}
		for range 3 {
			check("<nil>", 1)
		}
		time.Sleep(probeTime)
		fault = &fs.PathError{Op: "open", Path: "secret", Err: syscall.EROFS}
		for range 3 {
			check("the disk is read-only", 2)
		}
		fault = syscall.ENOSPC
		time.Sleep(probeAgain)
		check("the disk is full", 3)
		fault = syscall.EIO
		time.Sleep(probeAgain)
		check("the disk takes no writes", 4)
		fault = nil
		time.Sleep(probeAgain)
		check("<nil>", 5)

		time.Sleep(probeTime)
		hang = make(chan struct{})
		begun := time.Now()
		for range 3 {
			check(errSlowDisk.Error(), 6)
		}
		if took := time.Since(begun); took != probePatience {
			t.Errorf("who asked waited for %v", took)
		}
		close(hang)
		synctest.Wait()
		check("<nil>", 6)
		if n := strings.Count(log.String(), "the disk takes no writes"); n != 1 {
			t.Errorf("the log is told of it %d times:\n%s", n, log.String())
		}
		if !strings.Contains(log.String(), "the disk takes writes again") {
			t.Errorf("the log is not told of the end of it:\n%s", log.String())
		}
	})
}

func TestTryDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "probe.tmp")
	if err := os.WriteFile(path, []byte("left by a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tryDisk(path); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	if err := tryDisk(filepath.Join(dir, "gone", "probe.tmp")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is gone: %v", err)
	}
}
