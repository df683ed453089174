package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// Errors of Move.
var (
	// ErrThere: the vault is at that secondary already.
	ErrThere = errors.New("the vault is at that secondary already")
	// ErrMovedMeanwhile: somebody else has moved the vault, to another one.
	ErrMovedMeanwhile = errors.New("the vault was moved to another secondary meanwhile")
)

// maxMoves bounds how often a move begins anew because others write.
const maxMoves = 32

var (
	// errGrown: the old secondary has commits that the new one has not.
	errGrown = errors.New("the others go on writing")
	// errAhead: the new one has commits that this device has not.
	errAhead = errors.New("the new secondary has commits of this vault that the present one has not")
)

// Move moves the vault to another secondary, and makes it there with an invite's
// token, if that has none. All devices follow: the last commit that the present
// secondary takes says where to, signed by the authority. This device must be able
// to come in step with that, and hold the whole log and everything that is live in
// it, otherwise it is [ErrNotAll].
//
//  1. Sync with the present secondary.
//  2. Fill the new one, as [Vault.Refill] does.
//  3. Append the move at the present one, if nothing has come meanwhile, and pull it.
//  4. Fill the move into the new one, and sync with that.
//
// Interrupted before 3 is done nothing has changed; after it, the other devices wait
// for 4 with [ErrNotArrived]. To call Move again goes on. It returns how many commits
// the new secondary has got; no [Vault.Run] may be going on ([ErrRunning]).
func (v *Vault) Move(ctx context.Context, a keys.Authority, to keyfile.Server, token *wire.Token, o SyncOptions) (sent uint64, r *Report, err error) {
	if a.Public().VaultID() != v.ID() {
		return 0, &Report{}, commitlog.ErrVaultIDMismatch
	}
	if running, paused, _ := v.running(); running && !paused {
		return 0, &Report{}, ErrRunning
	}
	fill := func(fresh bool) (uint64, error) {
		if err := v.complete(); err != nil {
			return 0, err
		}
		f, err := v.refillAt(ctx, a, to, nil, fresh, &o)
		if errors.Is(err, wire.ErrDenied) && token != nil {
			f, err = v.refillAt(ctx, a, to, token, fresh, &o)
		}
		sent += f.lost
		return f.answered, err
	}
	there := func() (*Moved, bool, error) {
		m, err := v.Moved(ctx)
		return m, m != nil && m.To.Key == to.Key, err
	}
	before, done, err := there()
	if err == nil && !done {
		_, serr := v.Sync(ctx, o) // which goes to where the vault is now
		if before, done, err = there(); err == nil && !done {
			err = serr
		}
	}
	for try := 0; !done && err == nil; try++ {
		switch err = v.announced(ctx, a, before, to, func() (uint64, error) { return fill(true) }, o); {
		case errors.Is(err, errGrown), errors.Is(err, errAhead) && try == 0, elsewhere(err):
			if try == maxMoves {
				return sent, &Report{}, err
			}
			_, err = v.Sync(ctx, o)
		}
		if err == nil || errors.Is(err, ErrNotArrived) {
			_, done, err = there()
		}
	}
	if err == nil {
		_, err = fill(false)
	}
	if err != nil {
		return sent, &Report{}, err
	}
	r, err = v.Sync(ctx, o)
	return sent, r, err
}

// announced goes two steps of a move: it fills the new secondary, and has the present
// one say so. before is the newest move in the log when it began.
func (v *Vault) announced(ctx context.Context, a keys.Authority, before *Moved, to keyfile.Server, fill func() (uint64, error), o SyncOptions) error {
	moved := func() (bool, error) { // while this was under way
		m, err := v.Moved(ctx)
		if err != nil || m == nil || before != nil && m.Commit == before.Commit {
			return false, err
		}
		if m.To.Key != to.Key {
			err = fmt.Errorf("%w: %s", ErrMovedMeanwhile, m.To.URL)
		}
		return true, err
	}
	if is, err := moved(); is || err != nil {
		return err
	}
	from, err := v.follow()
	if err != nil {
		return err
	}
	if from.Key == to.Key {
		return ErrThere
	}
	filled, err := fill()
	if err != nil {
		return err
	}
	err = v.announce(ctx, a, from, &moveMode{to: to, filled: filled}, &o)
	if is, merr := moved(); is || merr != nil {
		return merr
	}
	return err
}

// stay has the log say that the vault is at a secondary which has all of it, where it
// says that it is at another one, and has said so before this was filled.
func (v *Vault) stay(ctx context.Context, a keys.Authority, before *Moved, at keyfile.Server, o *SyncOptions) error {
	m, err := v.Moved(ctx)
	if err != nil || m == nil || m.To.Key == at.Key {
		return err
	}
	if before == nil || before.Commit != m.Commit {
		return fmt.Errorf("%w: %s", ErrMovedMeanwhile, m.To.URL)
	}
	return v.announce(ctx, a, at, &moveMode{to: at, before: m.Commit}, o)
}

// announce holds a session in which the authority says where the vault is.
func (v *Vault) announce(ctx context.Context, a keys.Authority, at keyfile.Server, m *moveMode, o *SyncOptions) error {
	r := &runner{v: v, o: o, tell: notify(o.Progress)}
	e := &engine{v: v, at: at, owner: &ownerMode{authority: a, now: v.conf.Now(), move: m}}
	err := r.attempt(ctx, e, v.connectAs(client.Owner(a)))
	if errors.Is(err, errElsewhere) {
		err = nil // that was to be
	}
	r.tell.end(err)
	return err
}

// moveMode is a session of the vault's owner that says where it is.
type moveMode struct {
	to     keyfile.Server // the secondary of the session, or another one
	filled uint64         // … which has so many commits

	before commitlog.CommitID // to that of the session: the newest move known before
}

// stays reports whether the move is to the secondary of the session.
func (m *moveMode) stays(e *engine) bool { return m.to.Key == e.at.Key }

// done reports whether the log says so.
func (m *moveMode) done(s *state) (bool, error) {
	is, err := s.moved()
	return is != nil && is.To.Key == m.to.Key, err
}

// pump returns the control commit with the move, once for each size of the log.
func (m *moveMode) pump(e *engine) (out []wire.Message, err error) {
	o := e.owner
	err = e.v.update(func(s *state) error {
		out = nil
		is, err := s.moved()
		if err != nil || is != nil && is.To.Key == m.to.Key {
			return err
		}
		size := s.log.Size()
		control := &wire.Control{Moved: wire.MovedHere}
		switch {
		case m.stays(e) && is != nil && is.Commit != m.before:
			return fmt.Errorf("%w: %s", ErrMovedMeanwhile, is.To.URL)
		case !m.stays(e) && size != m.filled:
			return errGrown
		case !m.stays(e):
			control.Moved = wire.MovedAway
		}
		b, err := s.moveCommit(o, m.to)
		if err != nil {
			return err
		}
		if control.Epoch, err = s.epoch(); err != nil {
			return err
		}
		data, _ := b.AppendBinary(nil)
		out = []wire.Message{&wire.Upload{Condition: &size, Control: control, Items: wire.Cut(data)}}
		return nil
	})
	if err == nil && len(out) > 0 {
		o.tried, o.at = true, e.size
		e.frames++
	}
	return out, err
}

// moveCommit returns the control commit that says so as the next commit of the log. It
// is signed once for each size of the log and secondary, and kept: a secondary that
// lies must not have two of them.
func (s *state) moveCommit(o *ownerMode, to keyfile.Server) (*commitlog.Bundle, error) {
	name := append(slices.Clone(to.Key[:]), to.URL...)
	if kept := s.meta.Get(metaMove); len(kept) > 2 {
		if n := 2 + int(be.Uint16(kept)); len(kept) > n && string(kept[2:n]) == string(name) {
			b, err := commitlog.ParseBundle(slices.Clone(kept[n:]))
			if err != nil {
				return nil, fmt.Errorf("%w: kept control commit: %v", ErrDamaged, err)
			}
			if b.Commit.Header.SeenSize == s.log.Size() {
				return b, nil
			}
		}
	}
	st, err := moveStatement(to)
	if err != nil {
		return nil, err
	}
	b, err := s.controlCommit(o.authority, o.now, []*commitlog.Statement{st})
	if err != nil {
		return nil, err
	}
	kept := append(be.AppendUint16(nil, uint16(len(name))), name...)
	kept, _ = b.AppendBinary(kept)
	return b, s.meta.Put(metaMove, kept)
}

// stays returns the statement that the vault is at the secondary at which two histories
// are brought together, nil if it is not wanted: where one of them says something else.
func (m *mergeMode) stays(own, other *state, at keyfile.Server) (*commitlog.Statement, error) {
	is, err := other.moved()
	if err != nil || m.sign || is != nil && is.To.Key == at.Key {
		return nil, err
	}
	was, err := own.moved()
	if err != nil || is == nil && (was == nil || uint64(was.Commit) <= m.kept) {
		return nil, err
	}
	return moveStatement(at)
}

// moveStatement returns the statement that the vault is at a secondary, without number.
func moveStatement(to keyfile.Server) (*commitlog.Statement, error) {
	binding, err := wire.ParseBinding(string(to.Binding))
	return &commitlog.Statement{Move: &commitlog.Move{ServerKey: to.Key, URL: to.URL, Binding: uint8(binding)}}, err
}
