package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/wire"
)

// A secondary that has another log than this device may have the owner's word for it:
// a reset, which BOUND names and the device asks for. It is looked at before the log
// of which it is the newest part, so that nobody without that word can make a device
// take a whole log in vain.

// resetSession is the part of a session that looks at a reset.
type resetSession struct {
	id      commitlog.CommitID // that BOUND has named, and that has to be looked at; 0: none
	instead error              // the alarm without it; nil: this log is the beginning of the secondary's
	request uint32             // under way; 0: none
	parts   wire.Assembler
	known   commitlog.CommitID // one that was looked at, and has to come with the log …
	leaf    commitlog.Hash     // … as it was
}

// mayBeReset returns the alarm that BOUND would be, unless a reset may explain it.
func (e *engine) mayBeReset(b *wire.Bound, alarm error) error {
	if e.standing != nil {
		alarm = e.standing
	}
	if b.Reset == 0 || e.owner != nil {
		return alarm
	}
	e.reset, e.leave = resetSession{id: b.Reset, instead: alarm}, true
	return nil
}

// askReset asks for the commit that holds the reset.
func (e *engine) askReset() []wire.Message {
	r := &e.reset
	if r.request != 0 {
		return nil
	}
	e.request++
	r.request = e.request
	return []wire.Message{&wire.Read{Request: r.request, After: r.id - 1, To: r.id, Tags: wire.Tags{}}}
}

// noReset returns the error for a reset that is none.
func (e *engine) noReset(err error, reason string) error {
	if e.reset.instead != nil {
		return e.reset.instead
	}
	return &commitlog.CommitError{ID: e.reset.id, Err: err, Reason: reason}
}

// onReset looks at the commit that BOUND has named.
func (e *engine) onReset(m *wire.Commits) error {
	r := &e.reset
	var b *commitlog.Bundle
	for _, item := range m.Items {
		data, err := r.parts.Add(item)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if b != nil {
			return fmt.Errorf("%w: COMMITS beyond those that were asked for", wire.ErrProtocol)
		}
		if b, err = commitlog.ParseBundle(data); err != nil {
			return e.noReset(err, "the commit that the secondary named as a reset")
		}
	}
	if b == nil && r.parts.Partial() {
		return nil
	}
	if b == nil || b.ID != r.id {
		return fmt.Errorf("%w: COMMITS without what was asked for", wire.ErrProtocol)
	}
	if why := e.v.isReset(b); why != nil {
		return e.noReset(why, "the commit that the secondary named as a reset")
	}
	if r.instead == nil {
		e.reset = resetSession{known: r.id, leaf: b.Commit.Leaf()}
		e.quick = false
		if e.standing != nil {
			if err := e.v.TryAgain(context.Background()); err != nil {
				return err
			}
			e.standing = nil
		}
		return nil
	}
	other := &otherHistory{id: r.id, leaf: b.Commit.Leaf()}
	if known, err := e.v.has(other); known || err != nil {
		return errors.Join(err, r.instead)
	}
	return other
}

// asShown returns an error if the log has another commit in the place of the reset that
// was looked at. That excuses what was acknowledged and is not there, once it has come.
func (r *resetSession) asShown(b *commitlog.Bundle) error {
	if r.known == 0 || b.ID != r.known || b.Commit.Leaf() == r.leaf {
		return nil
	}
	return &commitlog.CommitError{ID: b.ID, Err: commitlog.ErrFork, Reason: "the reset that the secondary has shown is not in its log"}
}

// isReset returns nil if the authority has signed the commit and it holds a reset.
func (v *Vault) isReset(b *commitlog.Bundle) error {
	c := b.Commit
	if c.Header.Kind != commitlog.KindControl || c.Header.Tag != v.keys.control || c.Header.SeenSize+1 != uint64(b.ID) {
		return commitlog.ErrControlFork
	}
	var authority keys.AuthorityKeys
	if err := v.view(func(s *state) error { authority = s.log.Authority(); return nil }); err != nil {
		return err
	}
	if !c.Verify(v.keys.vault, authority.Sign) {
		return commitlog.ErrSignature
	}
	sealer, err := v.keys.sealer(c.Header.Tag, c.Header.Epoch)
	if err != nil {
		return fmt.Errorf("%w: %v", commitlog.ErrVersion, err)
	}
	for _, blob := range b.Blobs {
		if blob == nil {
			return commitlog.ErrOmission
		}
		p, err := sealer.Open(blob)
		if err != nil || p.Form != seal.FormInline {
			return commitlog.ErrControlFork
		}
		st, err := commitlog.ParseStatement(p.Value)
		if err != nil {
			return err
		}
		if st.Reset != nil {
			return nil
		}
	}
	return commitlog.ErrControlFork
}

// changeOver takes the other log beside the own one, and makes it the vault's. Where it
// is cut, it goes on the next time.
func (r *runner) changeOver(ctx context.Context, o *otherHistory) error {
	release, err := r.v.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	if done, err := r.v.has(o); done || err != nil {
		return err // by another session of this vault
	}
	if err := r.v.dropUsed(); err != nil {
		return err
	}
	side, err := r.v.beside()
	if err != nil {
		return err
	}
	e := &engine{v: side, mode: PullOnly, own: true, errand: true}
	sr := &runner{v: side, o: r.o, tell: r.tell, nudge: r.nudge}
	err = sr.once(ctx, e, side.connect)
	r.total = r.total.plus(&sr.total)
	if err == nil {
		err = e.keepAlarm(r.v.change(ctx, side, o))
	}
	var another *otherHistory
	if IsAlarm(err) || errors.As(err, &another) { // what has come is nothing to go on with
		err = errors.Join(err, r.v.dropBeside())
	}
	return err
}

// has reports whether the reset is in this vault's log.
func (v *Vault) has(o *otherHistory) (is bool, err error) {
	err = v.view(func(s *state) error {
		header, err := s.log.Header(o.id)
		is = err == nil && commitlog.LeafHash(header) == o.leaf
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return is, err
}

// dropUsed drops the other log if this device has written to it: it has begun to bring
// the histories together itself, and another device was faster.
func (v *Vault) dropUsed() error {
	used := false
	err := v.view(func(s *state) error {
		tx := s.tx.Within(roomOther)
		for _, name := range []string{bucketOutbox, bucketSent, bucketRefused} {
			if tx != nil {
				b := tx.Bucket(name)
				used = used || b == nil || !b.Empty()
			}
		}
		return nil
	})
	if err != nil || !used {
		return err
	}
	return v.dropBeside()
}
