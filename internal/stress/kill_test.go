//go:build linux

package stress

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// H50, while the server gives space back: killed at any moment of that, again and
// again, it loses nothing that is live and no commit, and comes to the end of it.
// Kills under load are internal/crash's.
func TestKillCompacting(t *testing.T) {
	t.Parallel()
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "--plain")
	var p *person
	var a, b *vault.Vault
	lastYear(t, s, func(i wire.Invite) {
		p = newPerson(t, i)
		a, b = p.device(), p.device()
		for round := range 4 {
			fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
				for n := range 1200 {
					name, value := fmt.Sprint("record", n), fmt.Sprintf("%0300d", round*10_000+n)
					if _, err := tx.Put(name, []byte(value)); err != nil {
						return err
					}
					p.records[name] = value
				}
				return nil
			}))
			p.serial = 10_000 + round
			for range 3 {
				p.write(a, 100_000) // objects
			}
			p.sync(a, b)
			if round < 3 {
				for name, value := range p.records {
					if len(value) == 100_000 {
						fatal(t, a.Namespace("notes").Delete(t.Context(), name))
						delete(p.records, name)
					}
				}
			}
		}
	})

	run := func(args ...string) *exec.Cmd {
		c := exec.Command(program("kistd"), args...)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		fatal(t, start(c))
		return c
	}
	for i := range 24 {
		args := append([]string{"serve", "--data", s.data, "--listen", s.addr}, s.args...)
		if i%2 == 1 {
			args = []string{"compact", "--data", s.data}
		}
		c := run(args...)
		time.Sleep(time.Duration(rand.IntN(80)) * time.Millisecond) // wherever it is then
		c.Process.Kill()
		c.Wait()
	}
	s.start()
	p.sync(a, b)
	p.right(a, b)
	p.fresh(a, b)
	s.stop()
	for i := range 2 {
		out, err := exec.Command(program("kistd"), "compact", "--data", s.data).CombinedOutput()
		if err != nil || i == 1 && !strings.Contains(string(out), "dropped 0 superseded values and 0 large values") {
			t.Errorf("kistd compact: %v: %s", err, out)
		}
	}
	objects, err := filepath.Glob(filepath.Join(s.data, "objects", "*", "*", "*"))
	fatal(t, err)
	if len(objects) != 3 {
		t.Errorf("%d objects are left, and 3 are live", len(objects))
	}
	s.start()
	p.sync(a, b)
	p.fresh(a, b)
	s.stop()
}

// lastYear runs a server in this process, with the data of s and a clock that is a
// year behind, for as long as do takes.
func lastYear(t *testing.T, s *server, do func(wire.Invite)) {
	t.Helper()
	d, err := secondary.InitDataDir(s.data)
	fatal(t, err)
	e, err := d.OpenEngine()
	fatal(t, err)
	address := secondary.Address{URL: "ws://" + s.addr + "/", Binding: wire.BindingNone}
	old, err := secondary.New(secondary.Config{Engine: e, Key: d.Key(), Now: func() time.Time { return time.Now().AddDate(-1, 0, 0) }})
	fatal(t, err)
	l, err := net.Listen("tcp", s.addr)
	fatal(t, err)
	web := &http.Server{Handler: old}
	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()
	i, err := secondary.NewInvite(t.Context(), e, d.Key().Public(), address, time.Now())
	fatal(t, err)
	s.first = i.String()
	do(i)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	fatal(t, old.Shutdown(ctx))
	fatal(t, web.Close())
	<-served
	fatal(t, e.Close())
	fatal(t, d.Close())
}
