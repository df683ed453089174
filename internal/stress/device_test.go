//go:build linux

package stress

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kistvault/kist/vault"
)

// An agent is a device's kist run in a process of its own.
type agent struct {
	t      testing.TB
	dir    string
	wrap   []string // as of a server
	cmd    *exec.Cmd
	log    *output
	exited chan struct{}
}

func (a *agent) start() {
	a.t.Helper()
	line := append(append([]string{}, a.wrap...), program("kist"), "run", "--vault", a.dir)
	a.cmd, a.log, a.exited = exec.Command(line[0], line[1:]...), new(output), make(chan struct{})
	a.cmd.Stderr = a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fatal(a.t, start(a.cmd))
	cmd, exited := a.cmd, a.exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	a.t.Cleanup(a.kill)
	a.says("live with")
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

func (a *agent) kill() {
	if a.cmd != nil {
		a.cmd.Process.Kill()
		<-a.exited
		a.cmd = nil
	}
}

// says waits until the agent has said something.
func (a *agent) says(what string) {
	a.t.Helper()
	eventually(a.t, func() error {
		select {
		case <-a.exited:
			a.t.Fatalf("kist run ended: %s", a.log)
		default:
		}
		if !strings.Contains(a.log.String(), what) {
			return fmt.Errorf("kist run has not said %q: %s", what, a.log)
		}
		return nil
	})
}

// do has the agent run a command with a value on its input.
func (a *agent) do(value string, args ...string) (out string, code int) {
	a.t.Helper()
	line := append(append(append([]string{}, a.wrap...), program("kist")), args...)
	c := exec.Command(line[0], append(line[1:], "--vault", a.dir)...)
	c.Stdin = strings.NewReader(value)
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	return b.String(), c.ProcessState.ExitCode()
}

func (a *agent) put(name, value string) {
	a.t.Helper()
	if out, code := a.do(value, "put", "notes/"+name); code != 0 {
		a.t.Fatalf("kist put: exit status %d: %s", code, out)
	}
}

// A device whose disk is full takes nothing more, says so, and shows what it has. When
// there is room again it goes on, both ways, in the same process; nothing that it took
// is lost.
func TestDeviceDiskFull(t *testing.T) {
	for _, how := range []string{"file system", "file limit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := run(t)
			p := meet(t, s)
			a := p.device()
			p.write(a, 500)
			p.sync(a)
			v, made, err := p.tryDevice()
			fatal(t, err)
			fatal(t, v.Close())
			b := &agent{t: t, dir: filepath.Join(t.TempDir(), "vault")}
			d, ok := disk{}, false
			if how == "file system" {
				if d, ok = tmpfs(t, b.dir, &b.wrap, b.kill); !ok {
					t.Log("the same is tested with a limit on the size of files")
				}
			}
			if !ok {
				fatal(t, os.Mkdir(b.dir, 0o700))
				d = fileLimit(t, filepath.Join(b.dir, "vault.db"), &b.wrap, b.pid)
			}
			fatal(t, os.CopyFS(d.at, os.DirFS(made)))
			for _, f := range []string{"device.key", "vault.db"} {
				fatal(t, os.Chmod(filepath.Join(d.at, f), 0o600))
			}
			b.start()
			pid := b.pid()
			deviceDiskFull(t, p, a, b, d)
			if b.pid() != pid {
				t.Error("it is another process")
			}
		})
	}
}

func deviceDiskFull(t *testing.T, p *person, a *vault.Vault, b *agent, d disk) {
	t.Logf("the disk is full by %s", d.what)
	put := func(name string) {
		t.Helper()
		b.put(name, "v")
		p.records[name] = "v"
	}
	arrives := func(name string) {
		t.Helper()
		eventually(t, func() error {
			fatal(t, pull(a))
			if !p.has(a, name) {
				return fmt.Errorf("the other device has no %s", name)
			}
			return nil
		})
	}
	shows := func(name string) {
		t.Helper()
		eventually(t, func() error {
			if out, code := b.do("", "get", "notes/"+name); code != 0 || out != p.records[name] {
				return fmt.Errorf("kist get: exit status %d: %.200s; kist run: %s", code, out, b.log)
			}
			return nil
		})
	}
	for round := range 2 {
		before := fmt.Sprint("before", round)
		put(before)
		arrives(before)
		d.full()
		refused := ""
		for n := 0; refused == ""; n++ {
			name := fmt.Sprintf("filling%d-%d", round, n)
			value := strings.Repeat("x", 20_000)
			out, code := b.do(value, "put", "notes/"+name)
			switch {
			case code == 0:
				p.records[name] = value
			case code == 1 && strings.Contains(out, "disk takes no writes") && strings.Contains(out, "try: make room"):
				refused = name
			default:
				t.Fatalf("kist put on a full disk: exit status %d: %s", code, out)
			}
		}
		shows(before)
		meanwhile := p.write(a, 50_000)
		p.sync(a)
		b.says("offline, trying again")
		d.free()
		shows(meanwhile)
		after := fmt.Sprint("after", round)
		put(after)
		arrives(after)
		if out, code := b.do("", "get", "notes/"+refused); code != 6 {
			t.Errorf("what was refused: exit status %d: %.200s, want 6", code, out)
		}
	}
	p.right(a)
	p.fresh(a)
	if out, code := b.do("", "doctor", "--check"); code != 0 {
		t.Errorf("kist doctor --check: exit status %d: %s", code, out)
	}
}
