package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// A secondary that has lost the end of the log, or all of it, or is a new one, is
// filled again from this device (SPEC.md, "Messages", REFILL): with the very
// commits that were there, whoever signed them. So the log is what it was, and no
// device has to be told anything.

// ErrNotAll: this device lacks some of what the secondary has lost.
var ErrNotAll = errors.New("this device does not have everything")

// refillMode is a session of the vault's owner that fills the secondary again.
type refillMode struct {
	next     commitlog.CommitID // to be sent; 0: the secondary has not said yet what it has
	last     commitlog.CommitID // of this device's log
	answered uint64             // commits that the secondary has
	lost     uint64             // of these it had not had
	fresh    bool               // it must not have more than this device

	untaken map[commitlog.Hash]error // objects that it does not take, or that are not here, and why
}

// Refill sends to the vault's secondary the commits that this device has verified
// and the secondary has not, as its owner. With an invite's token it makes the vault
// there first, if it has none. It returns how many commits the secondary had lost.
//
// The secondary must hold the beginning of this device's log: where it holds
// another one, the error is [commitlog.ErrFork], and nothing was sent. This device
// must hold the whole log and everything that is live in it; otherwise it is
// [ErrNotAll]. An alarm that stands is not taken back, see [Vault.TryAgain].
//
// Where this device knows that the vault was moved to another secondary, the log says
// afterwards that it is at this one; where it learns of it only here, the error is
// [ErrMovedMeanwhile], and the next sync goes there.
func (v *Vault) Refill(ctx context.Context, a keys.Authority, token *wire.Token, o SyncOptions) (lost uint64, err error) {
	if a.Public().VaultID() != v.ID() {
		return 0, commitlog.ErrVaultIDMismatch
	}
	at, err := v.follow()
	if err != nil {
		return 0, err
	}
	if err := v.complete(); err != nil {
		return 0, err
	}
	before, err := v.Moved(ctx)
	if err != nil {
		return 0, err
	}
	refill, err := v.refillAt(ctx, a, at, token, false, &o)
	if err == nil {
		err = v.update(func(s *state) error { return s.forgetAcked(refill.answered) })
	}
	if err == nil {
		err = v.stay(ctx, a, before, at, &o)
	}
	return refill.lost, err
}

// refillAt fills one secondary, which must not have more than this device if it is a
// new one.
func (v *Vault) refillAt(ctx context.Context, a keys.Authority, at keyfile.Server, token *wire.Token, fresh bool, o *SyncOptions) (*refillMode, error) {
	id := client.Owner(a)
	if token != nil {
		id = client.NewVault(a, *token)
	}
	r := &runner{v: v, o: o, tell: notify(o.Progress)}
	refill := &refillMode{fresh: fresh}
	e := &engine{v: v, at: at, owner: &ownerMode{authority: a, now: v.conf.Now(), refill: refill}}
	err := r.attempt(ctx, e, v.connectAs(id))
	r.tell.end(err)
	return refill, err
}

// forgetAcked forgets that commits of this device were acknowledged behind what the
// secondary has now: it has lost them before they came back. They are sent again as
// they are.
func (s *state) forgetAcked(size uint64) error {
	var lost [][]byte
	err := s.acked.Scan(localKey(size+1), func(k, _ []byte) (bool, error) {
		lost = append(lost, slices.Clone(k))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, at := range lost {
		seq := slices.Clone(s.acked.Get(at))
		if b := s.sent.Get(seq); b != nil {
			sc, err := parseSent(slices.Clone(b))
			if err != nil {
				return err
			}
			sc.acked = 0
			if err := s.sent.Put(seq, sc.encode()); err != nil {
				return err
			}
		}
		if err := s.acked.Delete(at); err != nil {
			return err
		}
	}
	return nil
}

// complete returns ErrNotAll unless this device has what is live, and the log
// from its beginning.
func (v *Vault) complete() error {
	if err := v.completeLive(); err != nil {
		return err
	}
	return v.view(func(s *state) error {
		if s.log.Base() > 0 {
			return fmt.Errorf("%w: its history is not verified from the first commit on", ErrNotAll)
		}
		return nil
	})
}

// completeLive returns ErrNotAll unless this device has what is live.
func (v *Vault) completeLive() error {
	return v.view(func(s *state) error {
		lacks := func(what string) error { return fmt.Errorf("%w: %s", ErrNotAll, what) }
		k, err := s.keeping()
		if err != nil {
			return err
		}
		switch {
		case s.log.Size() == 0:
			return lacks("it has no commit")
		case s.meta.Get(metaRebuild) != nil:
			return lacks("its store was made anew, and has not all of the log yet")
		case !k.All() || s.meta.Get(metaSweep) != nil:
			return lacks("it keeps a part of the vault")
		case !s.missing.Empty():
			return lacks("content of live changes has not come")
		}
		return nil
	})
}

// onBoundRefill looks how much of the log the secondary has.
func (r *refillMode) onBound(s *state, b *wire.Bound) error {
	r.last = commitlog.CommitID(s.log.Size())
	at := min(uint64(r.last), b.Size)
	root, err := s.log.RootAt(at)
	if err != nil {
		return err
	}
	if root != b.Root {
		return &commitlog.CommitError{ID: commitlog.CommitID(at), Err: commitlog.ErrFork, Reason: "the secondary holds another history, and cannot be filled with this one"}
	}
	if r.fresh && b.Size > at {
		return errAhead
	}
	r.next, r.answered = commitlog.CommitID(at+1), at
	return nil
}

// done reports whether the secondary has all that this device has.
func (r *refillMode) done(e *engine) bool {
	return r.next > r.last && e.frames == 0 && e.object == nil
}

// pump returns the next commits, or the objects that they name.
func (r *refillMode) pump(e *engine) (out []wire.Message, err error) {
	if r.next == 0 {
		return nil, nil
	}
	if e.object != nil {
		if out, err := e.pushObject(); err != nil || e.object != nil {
			return out, err
		}
	}
	for e.frames < uploadFrames && r.next <= r.last && e.object == nil {
		m, err := r.frame(e)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	if len(out) == 0 && e.object != nil {
		return e.pushObject()
	}
	return out, nil
}

// frame returns the messages of the next commits, or sets the object that has to
// go first.
func (r *refillMode) frame(e *engine) (out []wire.Message, err error) {
	var items []wire.Item
	var control *wire.Control
	next := r.next
	err = e.v.view(func(s *state) error {
		size := 0
		for ; next <= r.last && size < uploadBytes; next++ {
			b, err := s.log.Commit(next)
			if err != nil {
				return err
			}
			c := b.Commit
			for i := range c.Changes {
				ch := &c.Changes[i]
				live := s.log.Live(c.Header.Tag, commitlog.ChangeID{Commit: next, Index: uint16(i)})
				if err := r.untaken[ch.ObjectHash]; err != nil && live {
					return fmt.Errorf("a long value of commit %d: %w", next, err)
				}
				if !ch.HasObject() || e.uploaded[ch.ObjectHash] {
					continue
				}
				if _, whole, err := s.v.objects.Have(ch.ObjectHash); err != nil {
					return err
				} else if whole {
					e.object = &objectUpload{hash: ch.ObjectHash, size: ch.ObjectSize}
					return nil
				}
				if live {
					return fmt.Errorf("%w: a long value of commit %d", ErrNotAll, next)
				}
			}
			isControl := c.Header.Kind == commitlog.KindControl
			data, _ := b.AppendBinary(make([]byte, 0, b.EncodedSize()))
			cut := wire.Cut(data)
			if len(items) > 0 && (isControl || len(cut) > 1 || size+len(data) > wire.MaxFrame/2) {
				return nil
			}
			items = append(items, cut...)
			size += len(data)
			if isControl {
				if control, err = s.registrations(b); err != nil {
					return err
				}
				if control.Moved, err = s.comes(b, e.at.Key); err != nil {
					return err
				}
			}
			if isControl || len(cut) > 1 {
				next++
				return nil
			}
		}
		return nil
	})
	if err != nil || len(items) == 0 {
		return nil, err
	}
	r.next = next
	e.frames++
	if items[0].Kind == wire.ItemBundle {
		return []wire.Message{&wire.Refill{Control: control, Items: items}}, nil
	}
	for i := range items { // the parts of one large commit
		m := &wire.Refill{Items: items[i : i+1]}
		if i == len(items)-1 {
			m.Control = control
		}
		out = append(out, m)
	}
	return out, nil
}

// registrations returns what the secondary has to know of a control commit in the
// log.
func (s *state) registrations(b *commitlog.Bundle) (*wire.Control, error) {
	epoch, err := s.log.EpochAt(uint64(b.ID))
	if err != nil {
		return nil, err
	}
	out := &wire.Control{Epoch: epoch}
	known := make(map[keys.DeviceID]wire.Registration)
	err = s.statements(0, func(id commitlog.ChangeID, st *commitlog.Statement) error {
		if id.Commit > b.ID {
			return nil
		}
		var r wire.Registration
		switch {
		case st.AddDevice != nil:
			r = registration(st.AddDevice.Certificate)
			known[r.Device] = r
		case st.Reset != nil && !st.Reset.More && id.Commit == b.ID:
			out.Resets++
			return nil
		case st.Revoke != nil:
			r = known[st.Revoke.Device]
			r.Revoked = true
		default:
			return nil
		}
		if id.Commit == b.ID {
			out.Devices = append(out.Devices, r)
		}
		return nil
	})
	return out, err
}

// registration returns what the secondary is told of a device that is admitted.
func registration(cert *keys.Certificate) wire.Registration {
	r := wire.Registration{Device: cert.Device, Sign: cert.Sign, Auth: cert.Auth, KEMHash: sha256.Sum256(cert.KEM)}
	if cert.Scope != nil {
		r.Tags = wire.Tags{}
		for _, e := range cert.Scope {
			if e.Write {
				r.Tags = append(r.Tags, e.Tag)
			}
		}
	}
	return r
}

// untaken notes in a session that fills the secondary again that an object does not
// go there. The secondary would take its commit without it, which must not be where
// it is live.
func (e *engine) untaken(o *objectUpload, why error) {
	if e.owner == nil || e.owner.refill == nil {
		return
	}
	r := e.owner.refill
	if r.untaken == nil {
		r.untaken = make(map[commitlog.Hash]error)
	}
	r.untaken[o.hash] = why
}

func (e *engine) onRefilled(m *wire.Refilled) error {
	if e.owner == nil || e.owner.refill == nil || e.frames == 0 {
		return fmt.Errorf("%w: REFILLED without REFILL", wire.ErrProtocol)
	}
	e.frames--
	r := e.owner.refill
	if err := m.Err(); err != nil {
		return fmt.Errorf("filling the secondary again, at commit %d: %w", m.Size+1, err)
	}
	if m.Size < r.answered {
		return fmt.Errorf("%w: it has fewer commits than before", wire.ErrProtocol)
	}
	if m.Size > r.answered { // it may be another secondary, which has no checkpoint yet
		if err := e.v.update(func(s *state) error { return s.meta.Delete(metaPosted) }); err != nil {
			return err
		}
	}
	r.lost += m.Size - r.answered
	r.answered = m.Size
	return nil
}
