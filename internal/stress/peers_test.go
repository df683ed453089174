//go:build linux

package stress

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// mostMemory is what a server may have in whatever is done to it here.
const mostMemory = 200 << 20

// beside runs an attack on a server while two honest devices sync, and checks that
// nothing of it stays.
func beside(t *testing.T, s *server, p *person, attack func()) {
	t.Helper()
	a, b := p.device(), p.device()
	besideOf(t, s, p, a, b, attack)
}

func besideOf(t *testing.T, s *server, p *person, a, b *vault.Vault, attack func()) {
	t.Helper()
	before := s.descriptors()
	over := s.watchMemory(mostMemory)
	p.honest(a, b, attack)
	over()
	s.quiet(before)
	p.fresh(a, b)
	s.quiet(before)
	n, dump := s.goroutines()
	t.Logf("%d goroutines in the end", n)
	if left := strings.Count(dump, "secondary.(*conn).read("); left > 4 { // those of honest devices that are about to end
		t.Errorf("%d sessions are left:\n%s", left, dump)
	}
	if n > 60 {
		t.Errorf("%d goroutines are left:\n%s", n, dump)
	}
}

// raise lets this process have n more files open.
func raise(t *testing.T, n int) {
	t.Helper()
	var r unix.Rlimit
	fatal(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &r))
	if want := uint64(n + 500); r.Cur < want {
		t.Fatalf("%d connections need a higher limit: ulimit -n %d, or a lower -stress.silent", n, want)
	}
}

// H52: thousands of connections that say nothing, or begin to. Who comes to speak is
// heard all the same.
func TestSilent(t *testing.T) {
	t.Parallel()
	raise(t, *silent)
	s := run(t)
	p := meet(t, s)
	beside(t, s, p, func() {
		conns := make([]net.Conn, *silent)
		crowd(t, len(conns), 50, func(i int) (err error) {
			if conns[i], err = dial(s); err != nil {
				return err
			}
			switch i % 3 { // what is written may meet a closed connection
			case 1:
				conns[i].Write([]byte{22, 3, 1, 2, 0, 1})
			case 2:
				conns[i].Write([]byte("G"))
			}
			return nil
		})
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
}

// H52: who does not come to the point is cut off, however he dallies.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	s := run(t, "--plain")
	p := meet(t, s)
	hello, err := wire.Append(nil, &wire.Hello{Proto: wire.Proto, Audience: "ws://" + s.addr + "/"})
	fatal(t, err)
	// A frame with a mask of zeros.
	frame := append([]byte{0x82, 0x80 | byte(len(hello)), 0, 0, 0, 0}, hello...)
	// each writes its bytes one a second, again and again, until it is cut off.
	dally := func(c net.Conn, text []byte) error {
		done := make(chan error, 1)
		go func() { done <- closed(c) }()
		for i := 0; ; i++ {
			select {
			case err := <-done:
				return err
			case <-time.After(time.Second):
			}
			c.Write(text[i%len(text):][:1])
		}
	}
	ways := []func() error{
		func() error {
			c, err := dial(s)
			if err != nil {
				return err
			}
			defer c.Close()
			return closed(c)
		},
		func() error {
			c, err := dial(s)
			if err != nil {
				return err
			}
			defer c.Close()
			return dally(c, []byte("GET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-Long: yes\r\n", 100)))
		},
		func() error {
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			return closed(c.NetConn())
		},
		func() error {
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			return dally(c.NetConn(), frame)
		},
		func() error { // alive, and says nothing
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			return dally(c.NetConn(), []byte{0x89, 0x80, 0, 0, 0, 0})
		},
		func() error {
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.hello(); err != nil {
				return err
			}
			return closed(c.NetConn())
		},
	}
	beside(t, s, p, func() {
		crowd(t, 10*len(ways), 10*len(ways), func(i int) error {
			if err := ways[i%len(ways)](); err != nil {
				return fmt.Errorf("way %d: %w", i%len(ways), err)
			}
			return nil
		})
	})
}

// H52: whoever guesses gets the same answer to everything, and is in nobody's way.
func TestBadSignIns(t *testing.T) {
	t.Parallel()
	s := run(t, "--plain")
	p := meet(t, s)
	a, b := p.device(), p.device()
	real := p.keys[0].ID()
	besideOf(t, s, p, a, b, func() {
		crowd(t, *signIns, 400, func(i int) error {
			var vault keys.VaultID
			var device keys.DeviceID
			rand.Read(vault[:])
			rand.Read(device[:])
			if i%3 > 0 {
				vault = p.root.VaultID()
			}
			if i%3 > 1 {
				device = real
			}
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := c.signIn(vault, device, keys.GenerateSigningKey())
			if err != nil {
				return err
			}
			if f, ok := m.(*wire.Fail); !ok || f.Code != wire.CodeDenied {
				return fmt.Errorf("signed in with junk: %+v", m)
			}
			return nil
		})
	})
}

// H52: devices that ask for much and read nothing of it. They are signed in; what the
// server holds for each is bounded all the same, and others are served.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	s := run(t, "--plain")
	p := meet(t, s)
	a, b := p.device(), p.device()
	// Commits of several MiB, which go in parts.
	for range 3 {
		fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
			for range 80 {
				p.serial++
				name, value := fmt.Sprint("record", p.serial), fmt.Sprintf("%060000d", p.serial)
				if _, err := tx.Put(name, []byte(value)); err != nil {
					return err
				}
				p.records[name] = value
			}
			return nil
		}))
	}
	p.sync(a, b)
	const slow = 16
	var conns [slow]*peer
	for range slow {
		fatal(t, p.device().Close())
	}
	p.sync(a, b)
	greedy := func(i int) error {
		c, err := connect(s)
		if err != nil {
			return err
		}
		conns[i] = c
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			tcp.SetReadBuffer(4 << 10)
		}
		k := p.keys[2+i]
		m, err := c.signIn(p.root.VaultID(), k.ID(), k.Auth)
		if err != nil {
			return err
		}
		if m.Type() != wire.TypeOK {
			return fmt.Errorf("sign-in: %+v", m)
		}
		if err := c.send(&wire.Bind{Root: sha256.Sum256(nil), Flags: wire.BindLive}); err != nil {
			return err
		}
		for i := range uint32(8) {
			if err := c.send(&wire.Fetch{Request: i + 1, Commit: 5, Length: wire.MaxRange}); err != nil {
				return err
			}
		}
		// Questions without end, until nothing more is taken.
		c.SetWriteDeadline(time.Now().Add(2 * time.Second))
		for n := uint64(0); n < 1<<20; n++ {
			if err := c.send(&wire.Ping{Token: n}); err != nil {
				return nil
			}
		}
		return errors.New("questions are taken without end, though no answer is read")
	}
	besideOf(t, s, p, a, b, func() {
		before := s.descriptors()
		crowd(t, slow, slow, greedy)
		// In the end the server closes them. This side need not learn of it: with no room
		// for what it was sent, its system may drop the reset, too.
		for by := time.Now().Add(5 * time.Minute); *long && s.descriptors() > before+4; time.Sleep(time.Second) {
			if time.Now().After(by) {
				t.Errorf("the connections stay open, though nothing is read: %d descriptors, %d before", s.descriptors(), before)
				break
			}
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
}

// H52: devices whose line is there and that are not: programs that are stopped.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	s := run(t)
	before := s.descriptors()
	p := meet(t, s)
	a, b := p.device(), p.device()
	p.write(a, 100)
	p.sync(a, b)
	var stopped []*exec.Cmd
	for range 8 {
		v, dir, err := p.tryDevice()
		fatal(t, err)
		fatal(t, v.Close())
		c := exec.Command(program("kist"), "run", "--vault", dir)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		fatal(t, start(c))
		stopped = append(stopped, c)
	}
	eventually(t, func() error {
		if n := s.sessions(); n < len(stopped) {
			return fmt.Errorf("%d sessions of %d", n, len(stopped))
		}
		return nil
	})
	for _, c := range stopped {
		fatal(t, c.Process.Signal(syscall.SIGSTOP))
	}
	over := s.watchMemory(mostMemory)
	p.honest(a, b, func() {
		crowd(t, 40, 1, func(int) error { _, _, err := s.get("/healthz"); return err })
	})
	over()
	if *long {
		s.quiet(before) // it finds out by itself
	}
	for _, c := range stopped {
		c.Process.Kill()
		c.Wait()
	}
	s.quiet(before)
	p.fresh(a, b)
	s.stop()
}

// H51: with too few descriptors connections wait or are refused, the server neither
// ends nor goes round in circles, and goes on when there are some again.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	s := newServer(t, t.TempDir()+"/data", "--plain")
	s.wrap = []string{"prlimit", "--nofile=64:4096"}
	s.start()
	p := meet(t, s)
	a, b := p.device(), p.device()
	if said := "no room for as many sessions as are set"; !strings.Contains(s.log.String(), said) {
		t.Errorf("its log does not say %q: %s", said, s.log)
	}
	p.write(a, 100)
	p.sync(a, b)
	before := s.descriptors()

	t.Log("connections that say nothing give way")
	var conns []net.Conn
	hold := func(n int) {
		for range n {
			c, err := dial(s)
			fatal(t, err)
			conns = append(conns, c)
		}
	}
	letGo := func() {
		for _, c := range conns {
			c.Close()
		}
		conns = nil
		s.quiet(before)
	}
	p.honest(a, b, func() { hold(300) })
	letGo()

	t.Log("sessions that do not sign in give way")
	p.honest(a, b, func() {
		for range 100 {
			c, err := connect(s)
			fatal(t, err)
			conns = append(conns, c.NetConn())
		}
	})
	letGo()
	p.sync(a, b)

	t.Log("no descriptor at all")
	limit := func(n uint64) {
		t.Helper()
		fatal(t, unix.Prlimit(s.pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 4096}, nil))
	}
	limit(uint64(before))
	hold(20)
	spent := s.cpu()
	time.Sleep(2 * time.Second) // the time in which it could go round in circles
	if n := s.cpu() - spent; n > time.Second {
		t.Errorf("it has worked for %v with nothing to do", n)
	}
	eventually(t, func() error {
		if !strings.Contains(s.log.String(), "too many open files") {
			return fmt.Errorf("its log does not say so: %s", s.log)
		}
		return nil
	})
	limit(4096)
	s.isReady()
	letGo()
	p.write(a, 200_000)
	p.sync(a, b)
	p.fresh(a, b)
	s.stop()
}
