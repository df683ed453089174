//go:build linux

package stress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A disk is where a program keeps its data, that can be filled and emptied.
type disk struct {
	what       string
	full, free func()
	stay       func() // full, also for a program that is started now
	all        bool   // for small files, too
	at         string // where this process finds the directory
}

// tmpfs gives a program that does not run yet a file system in memory of its own for a
// directory, in a namespace of its own, so that nobody has to be root: wrap becomes what
// leads there. It says false where the system does not allow that.
func tmpfs(t testing.TB, dir string, wrap *[]string, kill func()) (d disk, ok bool) {
	t.Helper()
	fatal(t, os.MkdirAll(dir, 0o700))
	// This process holds the namespace.
	holder := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", `mount -t tmpfs -o size=24m,mode=700 kist "$0"; echo mounted; exec cat`, dir)
	in, err := holder.StdinPipe()
	fatal(t, err)
	out, said := new(output), new(output)
	holder.Stdout, holder.Stderr = out, said
	if err := start(holder); err != nil {
		t.Logf("no file system of its own here: %v", err)
		return d, false
	}
	gone := make(chan struct{})
	go func() {
		holder.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		kill()
		in.Close()
		<-gone
	})
	eventually(t, func() error {
		select {
		case <-gone:
			return nil
		default:
		}
		if !strings.Contains(out.String(), "mounted") {
			return errors.New("nothing is mounted")
		}
		return nil
	})
	if !strings.Contains(out.String(), "mounted") {
		t.Logf("no file system of its own here: %s", said)
		return d, false
	}
	pid := fmt.Sprint(holder.Process.Pid)
	*wrap = []string{"nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials"}
	at := filepath.Join("/proc", pid, "root", dir)
	filler := filepath.Join(at, "filler")
	full := func() {
		t.Helper()
		f, err := os.Create(filler)
		fatal(t, err)
		for buf := make([]byte, 64<<10); len(buf) > 0; {
			if _, err = f.Write(buf); errors.Is(err, syscall.ENOSPC) {
				buf = buf[:len(buf)/2]
			} else {
				fatal(t, err)
			}
		}
		fatal(t, f.Close())
	}
	return disk{what: "a full file system", full: full, free: func() { t.Helper(); fatal(t, os.RemoveAll(filler)) }, stay: func() {}, all: true, at: at}, true
}

// fileLimit makes files of a program unable to grow beyond one of them, by a limit on
// their size.
func fileLimit(t testing.TB, file string, wrap *[]string, pid func() int) disk {
	var size, most uint64
	set := func(limit uint64) {
		t.Helper()
		fatal(t, unix.Prlimit(pid(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: most}, nil))
	}
	return disk{
		what: "a limit on the size of files",
		full: func() {
			t.Helper()
			info, err := os.Stat(file)
			fatal(t, err)
			var now unix.Rlimit
			fatal(t, unix.Prlimit(pid(), unix.RLIMIT_FSIZE, nil, &now))
			size, most = uint64(info.Size()), now.Max
			set(size)
		},
		free: func() { t.Helper(); set(most) },
		stay: func() { *wrap = []string{"prlimit", fmt.Sprintf("--fsize=%d:", size)} }, // from now on, which free undoes for the process
		at:   filepath.Dir(file),
	}
}

// H51: on a full disk nothing more is taken, and all that is there is served; with
// room again it goes on by itself. A server starts on a full disk, too.
func TestDiskFull(t *testing.T) {
	t.Run("file system", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, filepath.Join(t.TempDir(), "data"))
		d, ok := tmpfs(t, s.data, &s.wrap, s.kill)
		if !ok {
			t.Log("the same is tested with a limit on the size of files")
			d = fileLimit(t, filepath.Join(s.data, "kist.db"), &s.wrap, s.pid)
		}
		diskFull(t, s, d)
	})
	t.Run("file limit", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, filepath.Join(t.TempDir(), "data"))
		diskFull(t, s, fileLimit(t, filepath.Join(s.data, "kist.db"), &s.wrap, s.pid))
	})
}

func diskFull(t *testing.T, s *server, d disk) {
	t.Logf("the disk is full by %s", d.what)
	s.start()
	p := meet(t, s)
	a, aDir, err := p.tryDevice()
	fatal(t, err)
	b := p.device()
	for range 20 {
		p.write(a, 500)
	}
	p.sync(a, b)

	for _, restart := range []bool{false, true} {
		d.full()
		refused := p.untilRefused(a)
		s.notReady("read-only")
		big := p.write(b, 200_000) // objects are files of their own
		if restart {
			s.kill()
			d.stay()
			s.start()
			refused = p.untilRefused(a)
		}
		if _, err := b.Sync(t.Context(), vault.SyncOptions{}); d.all && !errors.Is(err, wire.ErrReadOnly) {
			t.Errorf("an object: %v, want ErrReadOnly", err)
		}
		if p.has(b, refused) {
			t.Error("what was not taken is on the other device")
		}
		// What is said to a person.
		fatal(t, a.Close())
		said, err := exec.Command(program("kist"), "sync", "--vault", aDir).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(string(said), "can store nothing") || !strings.Contains(string(said), "stays on this device") {
			t.Errorf("kist sync: %v\n%s", err, said)
		}
		a, err = vault.Open(t.Context(), aDir, vault.Config{})
		fatal(t, err)
		t.Cleanup(func() { a.Close() })
		if err := pull(b); err != nil {
			t.Errorf("reading from a full disk: %v", err)
		}

		d.free()
		s.isReady()
		p.sync(a, b, a)
		p.right(a, b)
		if !p.has(a, big) || !p.has(b, refused) {
			t.Error("what was refused has not gone in")
		}
	}
	s.kill()
	s.start()
	d.free()
	p.fresh(a, b)
	s.stop()
}

// untilRefused writes and syncs until the server takes nothing more, and returns what
// it has not taken.
func (p *person) untilRefused(a *vault.Vault) string {
	p.t.Helper()
	name := ""
	eventually(p.t, func() error {
		name = p.write(a, 20_000)
		_, err := a.Sync(p.t.Context(), vault.SyncOptions{})
		if err == nil {
			return errors.New("the server goes on taking what is written")
		}
		if !errors.Is(err, wire.ErrReadOnly) {
			p.t.Fatalf("a write that the disk does not take: %v, want ErrReadOnly", err)
		}
		return nil
	})
	return name
}

func pull(v *vault.Vault) error {
	_, err := v.Sync(context.Background(), vault.SyncOptions{Mode: vault.PullOnly})
	return err
}

// fresh checks that a device that gets it all anew, and verifies it all, has what it
// has to.
func (p *person) fresh(others ...*vault.Vault) {
	p.t.Helper()
	v := p.device()
	_, err := v.Sync(p.t.Context(), vault.SyncOptions{Full: true})
	fatal(p.t, err)
	p.sync(append(others, v)...)
	p.right(append(others, v)...)
	fatal(p.t, v.Close())
}
