package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
)

// Where a vault is, its log says: at the secondary that the newest move names
// (SPEC.md, "Moves"). A session with another one ends when all is here that this one
// has, and the next is with the one that is named. So the switch follows from the
// verified log, and the commit that brings it stands in the bucket meta from the
// same transaction on:
//
//	moving  → commit ID u64
//	arrived → commit ID u64
//
// until the new secondary has shown that commit: then it stands under "arrived". Until
// then every session begins with the device file, which has to name the new one.

// ErrNotArrived: the vault was moved to a secondary that does not have the last of
// its commits yet, the move itself. Whoever moved it was interrupted, or is at it.
var ErrNotArrived = errors.New("the vault is being moved, and is not whole at its new secondary yet")

// errElsewhere ends a session: the log says that the vault is at another secondary.
var errElsewhere = errors.New("the vault was moved to another secondary")

// maxHops bounds how many sessions one call holds because the vault was moved.
const maxHops = 8

// A Moved is where the log says that the vault is.
type Moved struct {
	To      keyfile.Server
	Commit  commitlog.CommitID // that says so
	Time    time.Time          // of the move, by the clock of the device that made it
	Arrived bool               // the secondary has shown that commit to this device
}

// Moved returns where the verified log says that the vault is, nil if it was never
// moved: then it is where this device found it.
func (v *Vault) Moved(ctx context.Context) (m *Moved, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = v.view(func(s *state) error {
		m, err = s.whereIs()
		return err
	})
	return m, err
}

func (s *state) whereIs() (*Moved, error) {
	m, err := s.moved()
	if m != nil {
		m.Arrived = s.move(metaArrived) == m.Commit
	}
	return m, err
}

// moved returns the newest move in the log, nil if there is none.
func (s *state) moved() (m *Moved, err error) {
	err = s.log.EachLive(s.v.keys.control, func(id commitlog.ChangeID) error {
		st, at, err := s.statement(id)
		if err == nil && st.Move != nil {
			m = &Moved{To: movedTo(st.Move), Commit: id.Commit, Time: at}
		}
		return err
	})
	return m, err
}

// statement returns a statement of the log, and its time.
func (s *state) statement(id commitlog.ChangeID) (*commitlog.Statement, time.Time, error) {
	h, err := s.openChange(id)
	if err == nil && h == nil {
		err = fmt.Errorf("%w: a control statement does not open", ErrDamaged)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	st, err := commitlog.ParseStatement(h.payload.Value)
	return st, clockTime(min(h.payload.HLC, maxClock)), err
}

// movedTo returns the secondary that a move names.
func movedTo(m *commitlog.Move) keyfile.Server {
	return keyfile.Server{URL: m.URL, Key: m.ServerKey, Binding: keyfile.Binding(wire.Binding(m.Binding).String())}
}

// move returns the commit that stands under a key, metaMoving or metaArrived; 0: none.
func (s *state) move(key []byte) commitlog.CommitID {
	if b := s.meta.Get(key); len(b) == 8 {
		return commitlog.CommitID(be.Uint64(b))
	}
	return 0
}

// follow has the device file name the secondary of a move that is followed, and
// returns the one to go to.
func (v *Vault) follow() (to keyfile.Server, err error) {
	if v.main != nil { // a log beside another one: its secondary is the one of that
		return v.main.follow()
	}
	var m *Moved
	err = v.view(func(s *state) error {
		if s.move(metaMoving) == 0 {
			return nil
		}
		m, err = s.moved()
		return err
	})
	if err != nil {
		return to, err
	}
	servers := v.Servers()
	if m != nil && (len(servers) == 0 || servers[0] != m.To) {
		if err := v.writeServers([]keyfile.Server{m.To}); err != nil {
			return to, err
		}
		v.conf.Logger.Info("the vault was moved to another secondary", "secondary", m.To.URL, "commit", uint64(m.Commit))
		return m.To, nil
	}
	if len(servers) == 0 {
		return to, ErrNoSecondary
	}
	return servers[0], nil
}

// leaves reports whether the session has to end, the log being here up to a size: all
// of what the secondary has named is here, and the vault is at another one. What this
// one has acknowledged and not shown up to now it will not show any more. A log beside
// another one is taken to its end.
func (s *state) leaves(e *engine, size uint64) (bool, error) {
	if o := e.owner; size < e.first || e.v.main != nil || o != nil && (o.refill != nil || o.move != nil && o.move.stays(e)) {
		return false, nil
	}
	m, err := s.moved()
	if err != nil || m == nil {
		return false, err
	}
	if m.To.Key == e.at.Key {
		return false, s.arrived(m)
	}
	if s.move(metaMoving) == m.Commit {
		return true, nil
	}
	return true, errors.Join(
		s.forgetAcked(s.log.Size()),
		s.meta.Delete(metaPosted), // the other one has no checkpoint of this device
		s.meta.Put(metaMoving, localKey(uint64(m.Commit))),
	)
}

// arrived notes that the secondary which a move names has shown it.
func (s *state) arrived(m *Moved) error {
	if s.move(metaArrived) == m.Commit && s.move(metaMoving) == 0 {
		return nil
	}
	return errors.Join(s.meta.Put(metaArrived, localKey(uint64(m.Commit))), s.meta.Delete(metaMoving))
}

// whereabouts looks, when BOUND has come, whether the vault is where this session is,
// and notes that the secondary has the move to it.
func (e *engine) whereabouts() error {
	if e.reset.id != 0 || e.standing != nil { // it is another log, or there is an alarm
		return nil
	}
	var m *Moved
	var known bool
	err := e.v.view(func(s *state) (err error) {
		m, err = s.moved()
		known = m == nil || s.move(metaArrived) == m.Commit && s.move(metaMoving) == 0
		return err
	})
	if err != nil || m == nil {
		return err
	}
	var leaves bool
	switch here := m.To.Key == e.at.Key; {
	case here && !known && e.first >= uint64(m.Commit):
		return e.v.update(func(s *state) error { return s.arrived(m) })
	case !here && e.size >= e.first:
		err = e.v.update(func(s *state) error {
			leaves, err = s.leaves(e, e.size)
			return err
		})
	}
	if err == nil && leaves {
		err = errElsewhere
	}
	return err
}

// early returns ErrNotArrived where the secondary that this device has followed the
// vault to lacks the move, and has exactly what comes before. Nothing else that it
// lacks is taken for that, and nothing once it has shown the move.
func (e *engine) early(s *state, b *wire.Bound) error {
	size := s.log.Size()
	if size == 0 || b.Size+1 != size || s.move(metaArrived) == commitlog.CommitID(size) {
		return nil
	}
	m, err := s.moved()
	if err != nil || m == nil || uint64(m.Commit) != size || m.To.Key != e.at.Key {
		return err
	}
	raw, err := s.log.Header(m.Commit)
	if err != nil {
		return err
	}
	h, err := commitlog.ParseHeader(raw)
	if err != nil || h.SeenRoot != b.Root { // the authority's own word for what comes before
		return err
	}
	return ErrNotArrived
}

// comes returns what a control commit of the log means to a secondary.
func (s *state) comes(b *commitlog.Bundle, at keys.VerifyKey) (m wire.Moved, err error) {
	for i := range b.Commit.Changes {
		st, _, err := s.statement(commitlog.ChangeID{Commit: b.ID, Index: uint16(i)})
		switch {
		case err != nil:
			return 0, err
		case st.Move == nil:
		case st.Move.ServerKey == at:
			m = wire.MovedHere
		default:
			m = wire.MovedAway
		}
	}
	return m, nil
}

// elsewhere reports whether a session has ended because the vault is at another
// secondary, and there is another to be held: by the log, or by the word of the
// secondary, whose log has to show it.
func elsewhere(err error) bool {
	return errors.Is(err, errElsewhere) || errors.Is(err, wire.ErrMoved)
}

// hold holds a session for a caller who does not try again, and others where the first
// has found that they are needed: with own commits in full, or with the secondary that
// the vault was moved to.
func (r *runner) hold(ctx context.Context, dial dialer, begin func(own bool) *engine) (err error) {
	own := false
	for hops := 0; hops < maxHops; {
		err = r.attempt(ctx, begin(own), dial)
		switch {
		case errors.Is(err, errUnknownStub) && !own:
			own = true
		case elsewhere(err):
			hops++
		default:
			return err
		}
	}
	return err
}
