//go:build linux

package stress

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

// rssAnon returns the memory that the process has for itself.
func (s *server) rssAnon() int64 {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	fatal(s.t, err)
	m := regexp.MustCompile(`RssAnon:\s*(\d+) kB`).FindSubmatch(b)
	if m == nil {
		s.t.Fatal("the system does not say what memory it has")
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	fatal(s.t, err)
	return n << 10
}

// A server that is used in all ways, again and again, keeps nothing of it but what is
// stored: memory and descriptors are those of the first rounds. For long the same is
// done by internal/bench (-run soak -soak 30m).
func TestSoak(t *testing.T) {
	t.Parallel()
	s := run(t, "--plain")
	p := meet(t, s)
	a, b := p.device(), p.device()
	p.sync(a, b)
	const each = 100 // connections of a round
	strangers := []func() error{
		func() error { // no protocol
			c, err := dial(s)
			if err != nil {
				return err
			}
			defer c.Close()
			c.Write(junk(500)) // which may meet a closed connection
			c.(*net.TCPConn).CloseWrite()
			return closed(c)
		},
		func() error { // a guess
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			var d keys.DeviceID
			rand.Read(d[:])
			_, err = c.signIn(p.root.VaultID(), d, keys.GenerateSigningKey())
			return err
		},
		func() error { // leaves in the middle of it
			c, err := connect(s)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.hello()
			return err
		},
		func() error { // looks at it
			for _, page := range []string{"/", "/readyz", "/nothing"} {
				if _, _, err := s.get(page); err != nil {
					return err
				}
			}
			return nil
		},
	}
	before := s.descriptors()
	round := func(n int) {
		for range 10 {
			p.write(a, 500)
		}
		long := p.write(a, 200_000)
		p.sync(a, b)
		fatal(t, b.Namespace("notes").Delete(t.Context(), long))
		delete(p.records, long)
		p.sync(b, a)
		if _, err := b.Sync(t.Context(), vault.SyncOptions{Full: true}); err != nil {
			t.Fatal(err)
		}
		crowd(t, each, each/2, func(i int) error {
			if err := strangers[i%len(strangers)](); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("round %d: %w", n, err)
			}
			return nil
		})
		s.quiet(before)
	}
	most := func(rounds int) (memory int64) {
		for n := range rounds {
			round(n)
			memory = max(memory, s.rssAnon())
		}
		return memory
	}
	rounds := 5
	if *long {
		rounds = 100
	}
	most(rounds / 2) // what is kept for good is there after this
	early, late := most(rounds), most(rounds)
	late = min(late, most(rounds)) // whenever the garbage is collected
	t.Logf("RssAnon of the server: at most %d KiB, later %d KiB", early>>10, late>>10)
	if late > early+early/4+8<<20 {
		t.Errorf("memory grows from %d to %d KiB", early>>10, late>>10)
	}
	p.right(a, b)
	if n, dump := s.goroutines(); n > 60 {
		t.Errorf("%d goroutines are left:\n%s", n, dump)
	}
}
