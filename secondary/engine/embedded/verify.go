package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

var _ engine.Keeper = (*Engine)(nil)

// verifyBatch is how many commits are verified in one transaction, which keeps old
// pages from being used again.
const verifyBatch = 4096

// Verify implements [engine.Keeper]: each log is gone through as if its commits came
// in now. Without keys, control statements cannot be opened; what they do to authors
// is taken from the record.
func (e *Engine) Verify(ctx context.Context, o engine.VerifyOptions, found func(engine.Fault)) (done engine.Verified, err error) {
	if o.Pages {
		if err := e.db.Check(); errors.Is(err, store.ErrDamaged) {
			found(engine.Fault{Text: err.Error()})
			return done, nil // nothing of it can be relied on
		} else if err != nil {
			return done, err
		}
	}
	all, err := e.vaults(func(r *tenant) bool { return r.state != engine.StateRemoved })
	if errors.Is(err, store.ErrDamaged) {
		found(engine.Fault{Text: err.Error()})
		return done, nil
	}
	for _, vault := range all {
		if err != nil {
			break
		}
		err = e.verifyVault(ctx, vault, &done, func(text string) { found(engine.Fault{Vault: vault, Text: text}) })
	}
	return done, err
}

// verifier goes through the log of one vault.
type verifier struct {
	engine *Engine
	vault  keys.VaultID
	done   *engine.Verified
	found  func(text string)

	replay  *store.Replay
	bytes   uint64 // of the commits with the blobs that are here
	dropped int64  // when it began
	objects []namedObject
	seen    map[commitlog.Hash]struct{}
}

// namedObject is an object that a change with a blob names.
type namedObject struct {
	id   commitlog.ChangeID
	hash commitlog.Hash
	size uint64
}

func (e *Engine) verifyVault(ctx context.Context, vault keys.VaultID, done *engine.Verified, found func(string)) error {
	v := &verifier{engine: e, vault: vault, done: done, found: found, seen: make(map[commitlog.Hash]struct{})}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := e.view(ctx, vault, func(tx *store.Tx, l *store.Log) (err error) {
			more, err = v.part(tx, l)
			return err
		})
		var refused *commitlog.CommitError
		switch {
		case errors.Is(err, wire.ErrNotFound):
			return nil // it has gone meanwhile
		case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrNotFound), errors.As(err, &refused):
			found(err.Error())
			return nil // what follows cannot be understood
		case err != nil:
			return err
		}
		if err := v.checkObjects(ctx); err != nil {
			return err
		}
	}
	done.Vaults++
	return nil
}

// part goes on within one transaction, and reports whether there is more.
func (v *verifier) part(tx *store.Tx, l *store.Log) (more bool, err error) {
	begins := v.replay == nil
	if begins {
		v.replay = store.NewReplay(v.vault, l.Authority())
		v.dropped = dropped(compacted(tx, v.vault))
	}
	v.replay.In(l)
	if begins {
		if err := v.replay.Trust(); err != nil {
			return false, err
		}
		if v.vault != l.Authority().VaultID() {
			return false, fmt.Errorf("%w: the log is of another vault", store.ErrDamaged)
		}
	}
	for n := 0; v.replay.Size() < l.Size(); n++ {
		if n == verifyBatch {
			return true, nil
		}
		if err := v.commit(l, commitlog.CommitID(v.replay.Size()+1)); err != nil {
			return false, err
		}
	}
	return false, v.finish(tx, l)
}

// commit verifies one commit.
func (v *verifier) commit(l *store.Log, id commitlog.CommitID) error {
	b, err := l.Commit(id)
	if err != nil {
		return err
	}
	effects, err := commitlog.Check(v.replay, b.Commit)
	if err != nil {
		return err
	}
	if err := v.replay.Append(b.Commit, effects); err != nil {
		return err
	}
	n := uint64(b.EncodedSize())
	v.bytes += n
	v.done.Bytes += n
	v.done.Commits++
	for i, blob := range b.Blobs {
		ch, at := &b.Commit.Changes[i], commitlog.ChangeID{Commit: id, Index: uint16(i)}
		if blob == nil {
			if l.Live(b.Commit.Header.Tag, at) {
				v.found(fmt.Sprintf("change %v is live and has no content", at))
			}
			continue
		}
		v.done.Blobs++
		if err := commitlog.CheckBlob(ch, blob); err != nil {
			v.found(fmt.Sprintf("change %v: its content is another", at))
		}
		if _, known := v.seen[ch.ObjectHash]; ch.HasObject() && !known {
			v.seen[ch.ObjectHash] = struct{}{}
			v.objects = append(v.objects, namedObject{at, ch.ObjectHash, ch.ObjectSize})
		}
	}
	return nil
}

// checkObjects verifies the objects that were found in the last transaction.
func (v *verifier) checkObjects(ctx context.Context) error {
	o, err := v.engine.vaultObjects(v.vault)
	if err != nil {
		return err
	}
	for _, x := range v.objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		have, whole, err := o.Have(x.hash)
		if err != nil {
			return err
		}
		good := true
		if whole {
			if good, err = o.Verify(x.hash); err != nil {
				return err
			}
		}
		switch {
		case !whole:
			needed, err := v.needs(ctx, x.id)
			if err != nil {
				return err
			}
			if !needed {
				continue
			}
			v.found(fmt.Sprintf("change %v: its object is missing", x.id))
		case !good || uint64(have) != x.size:
			v.found(fmt.Sprintf("change %v: its object is damaged", x.id))
		}
		v.done.Objects++
		v.done.Bytes += uint64(have)
	}
	v.objects = v.objects[:0]
	return nil
}

// needs reports whether a change still has the blob, with which its object goes.
func (v *verifier) needs(ctx context.Context, id commitlog.ChangeID) (needed bool, err error) {
	err = v.engine.view(ctx, v.vault, func(_ *store.Tx, l *store.Log) error {
		_, blob, err := l.Entry(id)
		needed = blob != nil
		return err
	})
	if errors.Is(err, wire.ErrNotFound) {
		return false, nil
	}
	return needed, err
}

// finish compares what is stored of the log as a whole.
func (v *verifier) finish(tx *store.Tx, l *store.Log) error {
	if err := v.replay.Finish(); err != nil {
		return err
	}
	n, err := logBytes(tx, v.vault, l)
	if err != nil {
		return err
	}
	// Where compaction or Refill was here meanwhile, the sum is of no one time.
	if n != v.bytes && v.dropped == dropped(compacted(tx, v.vault)) {
		v.found(fmt.Sprintf("the log takes %d bytes, %d are counted", v.bytes, n))
	}
	b := checkpoints(tx, v.vault)
	if b == nil {
		return nil
	}
	return b.Scan(nil, func(k, raw []byte) (bool, error) {
		device := keys.DeviceID(k)
		c, err := commitlog.ParseCheckpoint(append([]byte(nil), raw...))
		author, aerr := l.Author(device)
		switch {
		case aerr != nil:
			return false, aerr
		case err != nil || author == nil || c.Vault != v.vault || c.Device != device || c.Size > l.Size() || !c.Verify(author.Sign):
			v.found(fmt.Sprintf("the checkpoint of device %s", device))
		}
		return true, nil
	})
}
