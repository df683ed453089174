package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// A vault that comes in is, until all of it is here, one that goes: out of reach of
// everything, and removed by the next Remove where nobody works at it any more. Its last
// transaction makes it a vault like any other.

// What comes is stored when it has so many bytes, or commits.
var (
	importBytes   = commitlog.TargetBytes
	importCommits = 1000
)

// importing is an [engine.Importing]. It is used by one goroutine.
type importing struct {
	e    *Engine
	o    engine.ImportOptions
	w    *engine.Whole // nil: not begun, or at its end
	sign map[keys.DeviceID]keys.VerifyKey

	objects     *store.Objects
	objectBytes uint64

	pending []*engine.WholeCommit // not stored yet
	bytes   int                   // of these
}

// Import implements [engine.Carrying].
func (e *Engine) Import(o engine.ImportOptions) engine.Importing { return &importing{e: e, o: o} }

// Begin implements [engine.Taker].
func (i *importing) Begin(ctx context.Context, w *engine.Whole) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if i.w != nil {
		return errors.New("an import begins once")
	}
	if err := checkWhole(w); err != nil {
		return err
	}
	if !i.e.coming.enter(w.Vault) {
		return fmt.Errorf("%w: it is being imported now", engine.ErrExists)
	}
	err := i.begin(ctx, w)
	if err != nil {
		i.e.coming.leave(w.Vault)
	}
	return err
}

// begin makes the vault, out of reach, after what an import that was cut off has left.
func (i *importing) begin(ctx context.Context, w *engine.Whole) error {
	e := i.e
	if err := e.sweep(ctx, w.Vault); err != nil {
		return err
	}
	err := e.db.Update(func(tx *store.Tx) error {
		if _, err := getTenant(tx, w.Vault); err == nil {
			return engine.ErrExists
		} else if !errors.Is(err, wire.ErrNotFound) {
			return err
		}
		r := newTenant(w)
		if i.o.Bounded {
			if q := e.quota(r).Devices; q > 0 && activeDevices(w) > int(q) {
				return quotaError("devices")
			}
		}
		r.state = engine.StateRemoved
		if err := putTenant(tx, w.Vault, r); err != nil {
			return err
		}
		l, err := tx.CreateLog(logName(w.Vault), w.Vault, w.Authority)
		if err != nil {
			return err
		}
		for _, d := range w.Devices { // who can revoke them is believed about when they came
			if err := l.SetAuthor(d.ID, author(d)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	i.w, i.sign = w, map[keys.DeviceID]keys.VerifyKey{{}: w.Authority.Sign}
	for _, d := range w.Devices {
		i.sign[d.ID] = d.Sign
	}
	return nil
}

// Object implements [engine.Taker].
func (i *importing) Object(ctx context.Context, hash commitlog.Hash, size uint64, r io.Reader) (err error) {
	if err := i.begun(ctx); err != nil {
		return err
	}
	if i.objects == nil {
		if i.objects, err = i.e.vaultObjects(i.w.Vault); err != nil {
			return err
		}
	}
	if _, whole, err := i.objects.Have(hash); err != nil {
		return err
	} else if whole {
		return fmt.Errorf("%w: an object comes twice", wire.ErrProtocol)
	}
	i.objectBytes += uint64(counts(int64(size)))
	if err := i.e.db.View(func(tx *store.Tx) error { return i.fits(tx) }); err != nil {
		return err
	}
	_, err = i.objects.Create(func(w io.Writer) (commitlog.Hash, error) {
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(w, h), contextReader{ctx, r})
		if err == nil && (uint64(n) != size || commitlog.Hash(h.Sum(nil)) != hash) {
			err = fmt.Errorf("%w: object", commitlog.ErrBlob)
		}
		return hash, err
	})
	return err
}

func (i *importing) begun(ctx context.Context) error {
	if i.w == nil {
		return errors.New("an import has not begun, or has ended")
	}
	return ctx.Err()
}

// Commit implements [engine.Taker].
func (i *importing) Commit(ctx context.Context, c *engine.WholeCommit) error {
	if err := i.begun(ctx); err != nil {
		return err
	}
	i.pending = append(i.pending, c)
	if i.bytes += c.Bundle.EncodedSize(); i.bytes < importBytes && len(i.pending) < importCommits {
		return nil
	}
	return i.flush()
}

// flush stores the commits that have come.
func (i *importing) flush() error {
	if len(i.pending) == 0 {
		return nil
	}
	for _, c := range i.pending { // it takes longer than all else, and others wait to write
		if key, ok := i.sign[c.Bundle.Commit.Header.Device]; ok {
			c.Bundle.Commit.Verify(i.w.Vault, key)
		}
	}
	err := i.e.db.Update(func(tx *store.Tx) error {
		l, err := tx.Log(logName(i.w.Vault))
		for _, c := range i.pending {
			if err == nil {
				err = i.add(tx, l, c)
			}
		}
		if err == nil {
			err = i.fits(tx)
		}
		return err
	})
	i.pending, i.bytes = nil, 0
	return err
}

// add checks a commit and appends it.
func (i *importing) add(tx *store.Tx, l *store.Log, c *engine.WholeCommit) error {
	b := c.Bundle
	refuse := func(err error, format string, args ...any) error {
		return &commitlog.CommitError{ID: b.ID, Err: err, Reason: fmt.Sprintf(format, args...)}
	}
	if b.ID != commitlog.CommitID(l.Size()+1) {
		return refuse(commitlog.ErrOmission, "the log has %d commits", l.Size())
	}
	effects, err := commitlog.Check(l, b.Commit)
	if err != nil {
		return err
	}
	for n, blob := range b.Blobs {
		if blob == nil {
			continue
		}
		ch := &b.Commit.Changes[n]
		if err := commitlog.CheckBlob(ch, blob); err != nil {
			return refuse(commitlog.ErrBlob, "change %d", n)
		}
		if !ch.HasObject() {
			continue
		}
		have, whole, err := i.e.haveObject(i.w.Vault, ch.ObjectHash)
		if err != nil {
			return err
		}
		if whole && have != ch.ObjectSize {
			return refuse(commitlog.ErrBlob, "the object of change %d has another size", n)
		}
	}
	epoch, err := l.EpochAt(l.Size())
	switch {
	case err != nil:
		return err
	case b.Commit.Header.Kind != commitlog.KindControl && (c.Epoch != 0 || c.Resets != 0),
		b.Commit.Header.Kind == commitlog.KindControl && c.Epoch != epoch && c.Epoch != epoch+1,
		int(c.Resets) > len(b.Commit.Changes):
		return fmt.Errorf("%w: commit %d: epoch %d after %d, %d resets", wire.ErrRegistration, b.ID, c.Epoch, epoch, c.Resets)
	}

	if err := l.Append(b.Commit, b.Blobs, effects, c.At); err != nil {
		return unknown(err)
	}
	if c.Epoch != 0 {
		if err := setEpoch(l, c.Epoch); err != nil {
			return unknown(err)
		}
	}
	for range c.Resets {
		if err := l.AddReset(b.ID); err != nil {
			return unknown(err)
		}
	}
	for _, d := range i.w.Devices {
		if d.Revoked != b.ID {
			continue
		}
		if c.Epoch == 0 {
			return fmt.Errorf("%w: commit %d revokes a device, and is no control commit", wire.ErrRegistration, b.ID)
		}
		if err := revoke(l, d.ID, b.ID); err != nil {
			return unknown(err)
		}
	}
	if err := addSize(l, b.ID, uint64(b.EncodedSize())); err != nil {
		return unknown(err)
	}
	return nil
}

func revoke(l *store.Log, device keys.DeviceID, by commitlog.CommitID) error {
	a, err := l.Author(device)
	if err != nil {
		return err
	}
	now := *a
	now.Revoked = by
	return l.SetAuthor(device, &now)
}

// fits returns wire.ErrQuota where what has come is more than the vault may have.
func (i *importing) fits(tx *store.Tx) error {
	if !i.o.Bounded {
		return nil
	}
	q := i.e.quota(newTenant(i.w))
	l, err := tx.Log(logName(i.w.Vault))
	if err != nil {
		return err
	}
	if q.Commits > 0 && l.Size() > q.Commits {
		return quotaError("commits")
	}
	used, err := logBytes(tx, i.w.Vault, l)
	if err == nil && q.Bytes > 0 && used+i.objectBytes > q.Bytes {
		err = quotaError("bytes")
	}
	return err
}

// Checkpoint implements [engine.Taker].
func (i *importing) Checkpoint(ctx context.Context, c *commitlog.Checkpoint) error {
	if err := i.begun(ctx); err != nil {
		return err
	}
	if err := i.flush(); err != nil {
		return err
	}
	key, known := i.sign[c.Device]
	if c.Vault != i.w.Vault || c.Device.IsZero() || !known || !c.Verify(key) {
		return fmt.Errorf("%w: checkpoint of device %s", commitlog.ErrSignature, c.Device)
	}
	return i.e.putCheckpoint(c, func(tx *store.Tx, vault keys.VaultID) (*store.Log, error) { return tx.Log(logName(vault)) })
}

// End implements [engine.Taker].
func (i *importing) End(ctx context.Context) error {
	if err := i.begun(ctx); err != nil {
		return err
	}
	if err := i.flush(); err != nil {
		return err
	}
	w := i.w
	i.e.forgetUsage(w.Vault)
	err := i.e.db.Update(func(tx *store.Tx) error {
		l, err := tx.Log(logName(w.Vault))
		if err != nil {
			return err
		}
		root, err := l.RootAt(l.Size())
		if err != nil {
			return err
		}
		if l.Size() != w.Size || root != w.Root {
			return &commitlog.CommitError{Err: commitlog.ErrOmission, Reason: fmt.Sprintf("the log has %d commits, and should have %d; or its root is another", l.Size(), w.Size)}
		}
		if w.Moved != 0 {
			if err := setMoved(tx, w.Vault, w.Moved, wire.MovedAway); err != nil {
				return unknown(err)
			}
		}
		return putTenant(tx, w.Vault, newTenant(w))
	})
	if err == nil {
		i.w = nil
		i.e.coming.leave(w.Vault)
	}
	return err
}

// Close implements [engine.Importing].
func (i *importing) Close(ctx context.Context) error {
	if i.w == nil {
		return nil
	}
	vault := i.w.Vault
	i.w, i.pending = nil, nil
	defer i.e.coming.leave(vault) // and not before: the next Import would lose what it has
	return i.e.sweep(ctx, vault)
}
