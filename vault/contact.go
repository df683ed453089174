package vault

import (
	"errors"
	"sync"
	"time"

	"github.com/kistvault/kist/secondary/client"
)

// keepContact is how often it is stored that a session is in step. Its end is stored, too;
// but a program that is killed has none.
const keepContact = time.Hour

// contact is when the vault was in step with its secondary last, as far as this process
// knows.
type contact struct {
	mu    sync.Mutex
	heard func() time.Time // while a session is in step: when it was heard last
	last  time.Time        // zero: not in this process
	kept  time.Time        // … as it is stored
}

// at returns when the vault was in step last.
func (c *contact) at() time.Time {
	if c.heard != nil {
		c.last = c.heard()
	}
	return c.last
}

// heardBy returns what says, by the device's clock, when a connection has carried
// something from the secondary last. It goes by the wall clock, which does not stand
// still while a computer sleeps.
func (v *Vault) heardBy(conn client.Messenger) func() time.Time {
	h, ok := conn.(interface{ Heard() time.Time })
	if !ok {
		at := v.conf.Now()
		return func() time.Time { return at }
	}
	return func() time.Time { return v.conf.Now().Add(h.Heard().Round(0).Sub(time.Now().Round(0))) }
}

// inContact notes, after a step of a session, whether it is in step.
func (r *runner) inContact(e *engine, conn client.Messenger, done bool) {
	o := e.owner
	if o != nil && (o.refill != nil || o.merge != nil || o.move != nil) || r.v.main != nil {
		return // it is about something else
	}
	if o != nil || e.mode == PullOnly { // … which may be done while there is something to send
		done = done && e.pending.changes == 0
	}
	c := &r.v.contact
	c.mu.Lock()
	c.at()
	if c.heard = nil; done {
		c.heard = r.v.heardBy(conn)
	}
	due := done && r.live && c.at().Sub(c.kept).Abs() > keepContact/2 // what was heard last is some seconds old
	c.mu.Unlock()
	if due {
		r.keepContact(e)
	}
}

// outOfContact notes that a session has ended.
func (r *runner) outOfContact(e *engine) {
	c := &r.v.contact
	c.mu.Lock()
	due := !c.at().Equal(c.kept)
	c.heard = nil
	c.mu.Unlock()
	if due {
		r.keepContact(e)
	}
}

// keepContact stores when the vault was in step last. Nothing depends on it, so what is
// in its way is no trouble of the session's.
func (r *runner) keepContact(e *engine) {
	c := &r.v.contact
	c.mu.Lock()
	at := c.at()
	c.kept = at // or tried: not at every step
	c.mu.Unlock()
	err := r.v.update(func(s *state) error {
		return s.meta.Put(metaInStep, append(be.AppendUint64(nil, millis(at)), e.at.Key[:]...))
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		r.v.conf.Logger.Warn("when the vault was in step could not be stored", "err", err)
	}
}

// inStepAt returns when the vault was in step last with its present secondary; zero: not
// known.
func (s *state) inStepAt() time.Time {
	servers, b := s.v.Servers(), s.meta.Get(metaInStep)
	if len(servers) == 0 || len(b) != 8+len(servers[0].Key) || string(b[8:]) != string(servers[0].Key[:]) {
		return time.Time{}
	}
	c := &s.v.contact
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.at(); !at.IsZero() {
		return at
	}
	return fromMillis(be.Uint64(b))
}
