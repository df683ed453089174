package secondary_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary"
)

// street is a listener to which connections come from addresses.
type street struct {
	net.Listener
	come []*passer
}

type passer struct {
	net.Conn
	addr   string
	closed bool
}

func (p *passer) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(p.addr), 4711))
}

func (p *passer) Close() error {
	p.closed = true
	return nil
}

func (s *street) Accept() (net.Conn, error) {
	if len(s.come) == 0 {
		return nil, net.ErrClosed
	}
	p := s.come[0]
	s.come = s.come[1:]
	return p, nil
}

// Who knocks too often is turned away before anything is done for him; others are not.
func TestDoorkeep(t *testing.T) {
	now := time.Unix(1795280000, 0)
	f := start(t, func(c *secondary.Config) {
		c.Limits.Connects = secondary.Rate{PerSecond: 5, Burst: 10}
		c.Now = func() time.Time { return now }
	})
	s := new(street)
	proxy := netip.MustParseAddr("10.0.0.1")
	l := f.server.Doorkeep(s, func(a netip.Addr) bool { return a == proxy })
	comes := func(addr string, times, want int) {
		t.Helper()
		var all []*passer
		for range times {
			all = append(all, &passer{addr: addr})
		}
		s.come = append(s.come, all...)
		n := 0
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			if c.(*passer).closed {
				t.Error("a closed connection")
			}
			n++
		}
		for _, p := range all[n:] {
			if !p.closed {
				t.Errorf("one of %s is left open", addr)
			}
		}
		if n != want {
			t.Errorf("%d of %d from %s come in, want %d", n, times, addr, want)
		}
	}
	comes("192.0.2.1", 100, 20)
	comes("192.0.2.2", 1, 1)
	comes("::ffff:192.0.2.1", 1, 0)
	comes("2001:db8::1", 30, 20)
	comes("2001:db8::2", 30, 0) // of the same network
	comes("127.0.0.1", 100, 100)
	comes("10.0.0.1", 100, 100)
	now = now.Add(time.Second)
	comes("192.0.2.1", 100, 10)
}
