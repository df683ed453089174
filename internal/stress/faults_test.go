//go:build linux

package stress

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// needStrace says whether system calls of another process can be made to fail here.
func needStrace(t *testing.T) {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if *all {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	if _, err := exec.LookPath("strace"); err != nil {
		missing("strace is missing: apt-get install strace, or .ci/need strace as root")
	}
	sleep := exec.Command("sleep", "600")
	fatal(t, start(sleep))
	defer func() {
		sleep.Process.Kill()
		sleep.Wait()
	}()
	said := new(output)
	probe := exec.Command("strace", "-p", fmt.Sprint(sleep.Process.Pid), "-o", os.DevNull)
	probe.Stderr = said
	fatal(t, start(probe))
	over := make(chan struct{})
	go func() {
		probe.Wait()
		close(over)
	}()
	defer func() {
		probe.Process.Signal(syscall.SIGINT)
		<-over
	}()
	eventually(t, func() error {
		select {
		case <-over:
			return nil
		default:
		}
		if !strings.Contains(said.String(), "attached") {
			return errors.New("strace says nothing")
		}
		return nil
	})
	if !strings.Contains(said.String(), "attached") {
		missing(fmt.Sprintf("strace may not look at other processes (sysctl kernel.yama.ptrace_scope=0, or as root): %s", said))
	}
}

// A fault makes system calls of a server fail until it is lifted.
type fault struct {
	t    testing.TB
	cmd  *exec.Cmd
	over chan struct{}
	log  string
}

// inject has strace make calls fail, each as in "fdatasync:error=EIO".
func inject(t testing.TB, s *server, calls ...string) *fault {
	t.Helper()
	f := &fault{t: t, over: make(chan struct{}), log: filepath.Join(t.TempDir(), "strace")}
	args := []string{"-f", "-y", "-e", "signal=none", "-p", fmt.Sprint(s.pid()), "-o", f.log}
	var names []string
	for _, c := range calls {
		name, _, _ := strings.Cut(c, ":")
		names = append(names, name)
	}
	args = append(args, "-e", "trace="+strings.Join(names, ","))
	for _, c := range calls {
		args = append(args, "-e", "inject="+c)
	}
	said := new(output)
	f.cmd = exec.Command("strace", args...)
	f.cmd.Stderr = said
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	fatal(t, start(f.cmd))
	go func() {
		f.cmd.Wait()
		close(f.over)
	}()
	t.Cleanup(f.lift)
	eventually(t, func() error {
		if !strings.Contains(said.String(), "attached") {
			return fmt.Errorf("strace: %s", said)
		}
		return nil
	})
	return f
}

// lift ends the fault.
func (f *fault) lift() {
	f.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-f.over:
	case <-time.After(timeout):
		f.t.Error("strace does not end")
	}
}

// struck returns how many calls have failed so far that a pattern matches.
func (f *fault) struck(pattern string) (n int) {
	b, _ := os.ReadFile(f.log)
	call := regexp.MustCompile(pattern)
	begun := make(map[string]string) // what a thread was at when another came between
	for line := range strings.Lines(string(b)) {
		thread, said, _ := strings.Cut(line, " ")
		if strings.Contains(said, "<unfinished ...>") {
			begun[thread] = said
			continue
		}
		if strings.Contains(said, " resumed>") {
			said = begun[thread] + said
		}
		if strings.Contains(said, "(INJECTED)") && call.MatchString(said) {
			n++
		}
	}
	return n
}

// H51: whatever call on the disk fails, nothing is acknowledged that is not durable,
// nobody is shown it, and nothing that was acknowledged is lost. When the disk works
// again, so does the server, without being started anew.
func TestDiskFails(t *testing.T) {
	needStrace(t)
	for _, c := range []struct {
		name  string
		calls []string
		hit   string // a call that must have failed
		stays bool   // nothing can be written while it lasts
	}{
		{"no fsync", []string{"fdatasync:error=EIO", "fsync:error=EIO"}, `fdatasync\(.*kist\.db>`, true},
		{"no fsync of the last page", []string{"fdatasync:error=EIO:when=2+2", "fsync:error=EIO"}, `fdatasync\(.*kist\.db>`, true},
		{"no fsync once", []string{"fdatasync:error=EIO:when=2"}, `fdatasync\(.*kist\.db>`, false},
		{"no space", []string{"pwrite64:error=ENOSPC"}, `pwrite64\(.*kist\.db>`, true},
		{"no space for some pages", []string{"pwrite64:error=ENOSPC:when=3+2"}, `pwrite64\(.*kist\.db>`, false},
		{"read-only", []string{"pwrite64:error=EROFS", "ftruncate:error=EROFS", "mkdirat:error=EROFS", "renameat:error=EROFS", "unlinkat:error=EROFS"}, `pwrite64\(.*kist\.db>`, true},
		{"bad blocks", []string{"pwrite64:error=EIO", "fsync:error=EIO", "fdatasync:error=EIO"}, `pwrite64\(.*kist\.db>`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := run(t)
			p := meet(t, s)
			a, b := p.device(), p.device()
			for range 5 {
				p.write(a, 500)
			}
			p.sync(a, b)

			f := inject(t, s, c.calls...)
			last := ""
			eventually(t, func() error {
				last = p.write(a, 500)
				_, err := a.Sync(t.Context(), vault.SyncOptions{})
				if err == nil {
					return errors.New("it goes on taking what is written")
				}
				if !errors.Is(err, wire.ErrReadOnly) {
					t.Fatalf("a write: %v, want ErrReadOnly", err)
				}
				return nil
			})
			if f.struck(c.hit) == 0 {
				t.Errorf("no call has failed")
			}
			if c.stays {
				// Whatever the page cache holds by now: what has not come to the disk
				// nobody is shown.
				if err := pull(b); err != nil && !errors.Is(err, wire.ErrReadOnly) {
					t.Errorf("a device that pulls: %v", err)
				}
				if p.has(b, last) {
					t.Error("what is not on the disk is on the other device")
				}
				s.notReady("read-only")
			}
			f.lift()
			s.isReady()
			p.sync(a, b)
			p.write(a, 500)
			p.sync(a, b)
			s.kill()
			s.start()
			p.fresh(a, b)
			s.stop()
		})
	}
}

// An object is a file. Where it cannot be brought to the disk it has to come again:
// that a second fsync succeeds says nothing of what the first has lost.
func TestObjectFails(t *testing.T) {
	needStrace(t)
	t.Parallel()
	s := run(t)
	p := meet(t, s)
	a, b := p.device(), p.device()
	p.write(a, 300_000) // with the first come directories
	p.sync(a, b)
	f := inject(t, s, "fsync:error=EIO")
	p.write(a, 300_000)
	if _, err := a.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrInternal) {
		t.Errorf("an object that cannot be stored: %v, want ErrInternal", err)
	}
	if f.struck(`fsync\(.*objects/.*\.part>`) == 0 {
		t.Error("no fsync of an object has failed")
	}
	f.lift()
	files, err := filepath.Glob(filepath.Join(s.data, "objects", "*", "*", "*"))
	fatal(t, err)
	if len(files) > 1 {
		t.Errorf("it is still there, beside the first: %q", files)
	}
	p.sync(a, b)
	p.right(a, b)
	p.fresh(a, b)
	s.stop()
}
