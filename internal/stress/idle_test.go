//go:build linux

package stress

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// H52: thousands of sessions that are signed in and do nothing cost little each, and are
// in nobody's way. What is beyond the number that is set is told to come back. With TLS
// it is internal/bench (-run idle) that has ten thousand.
func TestIdleSessions(t *testing.T) {
	t.Parallel()
	raise(t, *idle)
	const others = 4 // at most as many sessions of honest devices at a time
	s := run(t, "--plain", "--open", "--sessions", strconv.Itoa(*idle+others))
	p := meet(t, s)
	a, b := p.device(), p.device()
	over := s.watchMemory(40<<20 + int64(*idle)*24<<10)
	before := s.descriptors()
	conns := make([]*peer, *idle)
	p.honest(a, b, func() {
		crowd(t, len(conns), 50, func(i int) (err error) {
			conns[i], err = owner(s)
			return err
		})
	})
	p.sync(a, b)

	var more []*peer
	eventually(t, func() error {
		for {
			c, err := owner(s)
			if err != nil {
				break // there are as many as it takes
			}
			more = append(more, c)
		}
		if n := s.descriptors() - before; n > *idle+others+2 { // a connection that is refused, and its neighbour
			return fmt.Errorf("%d connections, and %d sessions are set", n, *idle+others)
		}
		if _, err := a.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrBusy) {
			return fmt.Errorf("one session too many: %v, want ErrBusy", err)
		}
		return nil
	})
	for _, c := range append(more, conns...) {
		if c != nil {
			c.Close()
		}
	}
	over()
	s.quiet(before)
	p.fresh(a, b)
	s.stop()
}

// owner returns a session of the owner of a vault of its own, at a server that is open.
func owner(s *server) (*peer, error) {
	c, err := connect(s)
	if err != nil {
		return nil, err
	}
	tr, err := c.hello()
	if err != nil {
		c.Close()
		return nil, err
	}
	k := keys.GenerateRoot().Authority()
	all := k.Public()
	vault := all.VaultID()
	err = c.send(&wire.Create{Sign: all.Sign, Auth: all.Auth, Signature: k.Auth.Sign(keys.PurposeClientAuth, vault, tr.ClientBytes(wire.RoleCreate, [16]byte{}))})
	var m wire.Message
	if err == nil {
		m, err = c.message()
	}
	if err == nil && m.Type() != wire.TypeOK {
		err = fmt.Errorf("not signed in: %+v", m)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
