package embedded

import (
	"context"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Append implements [engine.Engine].
func (e *Engine) Append(ctx context.Context, r engine.AppendRequest) (outcomes []engine.Outcome, size uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if (r.Condition != nil || r.Control != nil) && len(r.Bundles) != 1 {
		return nil, 0, fmt.Errorf("%w: a condition or control commit beside others", wire.ErrProtocol)
	}
	if err := e.countFirst(r.Vault); err != nil {
		return nil, 0, err
	}
	err = e.db.Update(func(tx *store.Tx) error {
		outcomes = make([]engine.Outcome, 0, len(r.Bundles)) // a second run starts anew
		if _, err := active(tx, r.Vault); err != nil {
			return err
		}
		l, err := vaultLog(tx, r.Vault)
		if err != nil {
			return err
		}
		for _, b := range r.Bundles {
			id, err := e.append(tx, l, &r, b)
			if err != nil && wire.CodeOf(err) == 0 {
				return err
			}
			outcomes = append(outcomes, engine.Outcome{ID: id, Err: err})
		}
		size = l.Size()
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return outcomes, size, nil
}

// append decides on one commit. An error without a code decides nothing. All
// refusals come before the first write.
func (e *Engine) append(tx *store.Tx, l *store.Log, r *engine.AppendRequest, b *commitlog.Bundle) (commitlog.CommitID, error) {
	c := b.Commit
	known, err := l.OwnCommit(c.Header.Device, c.Header.Seq)
	if err != nil {
		return 0, err
	}
	if known != 0 {
		header, err := l.Header(known)
		if err != nil {
			return 0, err
		}
		if commitlog.LeafHash(header) == c.Leaf() {
			return known, nil
		}
		// Another one: Check refuses it. The condition comes first: two owners
		// who sign at once use the same sequence number, and the later one is to
		// sign again.
	}
	if at := movedAt(tx, r.Vault); at != 0 && (r.Control == nil || r.Control.Moved != wire.MovedHere) {
		return 0, fmt.Errorf("%w, with commit %d", wire.ErrMoved, at)
	}
	if r.Condition != nil && *r.Condition != l.Size() {
		return 0, fmt.Errorf("%w: %d, not %d", wire.ErrCondition, l.Size(), *r.Condition)
	}
	return e.add(tx, l, r, b, false)
}

// complete checks that all content of a commit is here.
func (e *Engine) complete(l *store.Log, r *engine.AppendRequest, b *commitlog.Bundle) error {
	c := b.Commit
	refuse := func(err error, format string, args ...any) error {
		return &commitlog.CommitError{ID: commitlog.CommitID(l.Size() + 1), Err: err, Reason: fmt.Sprintf(format, args...)}
	}
	for i := range c.Changes {
		ch := &c.Changes[i]
		if len(b.Blobs) != len(c.Changes) || len(b.Blobs[i]) != int(ch.BlobSize) {
			return refuse(commitlog.ErrBlob, "change %d has no blob", i)
		}
		if !ch.HasObject() {
			continue
		}
		have, whole, err := e.haveObject(r.Vault, ch.ObjectHash)
		if err != nil {
			return err
		}
		if !whole {
			return fmt.Errorf("%w: of change %d", wire.ErrObjectMissing, i)
		}
		if have != ch.ObjectSize {
			return refuse(commitlog.ErrBlob, "the object of change %d has another size", i)
		}
	}
	return nil
}

// add checks a commit against the log and appends it; partial says that content may
// be absent. An error without a code decides nothing.
func (e *Engine) add(tx *store.Tx, l *store.Log, r *engine.AppendRequest, b *commitlog.Bundle, partial bool) (commitlog.CommitID, error) {
	c := b.Commit
	effects, err := commitlog.Check(l, c)
	if err != nil {
		return 0, err
	}
	if err := e.fits(tx, l, r.Vault, b); err != nil {
		return 0, err
	}
	if !partial {
		if err := e.complete(l, r, b); err != nil {
			return 0, err
		}
	}
	t, err := getTenant(tx, r.Vault)
	if err != nil {
		return 0, err
	}
	registered, err := register(l, c, r.Control, effects.ID, e.quota(t).Devices)
	if err != nil {
		return 0, err
	}

	if err := l.Append(c, b.Blobs, effects, uint64(r.Now.UnixMilli())); err != nil {
		return 0, unknown(err)
	}
	for id, a := range registered {
		if err := l.SetAuthor(id, a); err != nil {
			return 0, unknown(err)
		}
		if a.Revoked != 0 {
			if err := dropCheckpoint(tx, r.Vault, id); err != nil {
				return 0, unknown(err)
			}
		}
	}
	if r.Control != nil {
		if err := setEpoch(l, r.Control.Epoch); err != nil {
			return 0, unknown(err)
		}
		for range r.Control.Resets {
			if err := l.AddReset(effects.ID); err != nil {
				return 0, unknown(err)
			}
		}
		if err := setMoved(tx, r.Vault, effects.ID, r.Control.Moved); err != nil {
			return 0, unknown(err)
		}
	}
	if err := addSize(l, effects.ID, uint64(b.EncodedSize())); err != nil {
		return 0, unknown(err)
	}
	return effects.ID, nil
}

// unknown keeps an error that comes after the first write from being read as a
// refusal: the transaction has to go.
func unknown(err error) error { return fmt.Errorf("appending: %v", err) }

// register works out what a control commit does to the authors, and checks that
// it can. quota is how many active devices there may be; 0: no limit of its own.
func register(l *store.Log, c *commitlog.Commit, control *wire.Control, id commitlog.CommitID, quota uint32) (map[keys.DeviceID]*commitlog.Author, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", wire.ErrRegistration, fmt.Sprintf(format, args...))
	}
	if (c.Header.Kind == commitlog.KindControl) != (control != nil) {
		return nil, refuse("it goes with a control commit, and only with one")
	}
	if control == nil {
		return nil, nil
	}
	if int(control.Resets) > len(c.Changes) {
		return nil, refuse("%d resets in %d statements", control.Resets, len(c.Changes))
	}
	if control.Moved > wire.MovedHere {
		return nil, refuse("moved %d", control.Moved)
	}
	epoch, err := l.EpochAt(l.Size())
	if err != nil {
		return nil, err
	}
	if control.Epoch != epoch && control.Epoch != epoch+1 {
		return nil, refuse("epoch %d after %d", control.Epoch, epoch)
	}
	active, added := 0, false
	err = l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			active++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make(map[keys.DeviceID]*commitlog.Author, len(control.Devices))
	for i := range control.Devices {
		d := &control.Devices[i]
		if d.ID() != d.Device {
			return nil, refuse("device %s: its id is not that of its keys", d.Device)
		}
		known := out[d.Device] // one that is admitted and revoked in a lost log, and now in one commit
		if known == nil {
			if known, err = l.Author(d.Device); err != nil {
				return nil, err
			}
		}
		a := &commitlog.Author{Sign: d.Sign, Auth: d.Auth}
		switch {
		case d.Revoked && (known == nil || known.Revoked != 0):
			return nil, refuse("device %s: revoked, and not active", d.Device)
		case d.Revoked:
			*a = *known
			a.Revoked = id
			active--
		case known != nil:
			return nil, refuse("device %s: registered before", d.Device)
		default:
			if d.Tags != nil {
				a.Scope = make([]keys.ScopeEntry, 0, len(d.Tags))
				for _, t := range d.Tags {
					a.Scope = append(a.Scope, keys.ScopeEntry{Tag: t, Write: true})
				}
			}
			active, added = active+1, true
		}
		out[d.Device] = a
	}
	if active > commitlog.MaxDevices {
		return nil, &commitlog.CommitError{ID: id, Err: commitlog.ErrLimit, Reason: fmt.Sprintf("%d active devices", active)}
	}
	if added && quota > 0 && active > int(quota) {
		return nil, quotaError("devices")
	}
	return out, nil
}

// setEpoch records the epoch in force after the log's newest commit, if it is new.
func setEpoch(l *store.Log, epoch uint32) error {
	now, err := l.EpochAt(l.Size())
	if err != nil || now == epoch {
		return err
	}
	return l.SetEpoch(l.Size(), epoch)
}

// Bytes of the bundles so far are kept for each commit, so that a device can be
// told how much is still to come.

func addSize(l *store.Log, id commitlog.CommitID, n uint64) error {
	before, err := l.Sum(id - 1)
	if err != nil {
		return err
	}
	return l.SetSum(id, before+n)
}
