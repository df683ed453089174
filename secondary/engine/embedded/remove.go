package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// A vault that goes is marked first, and from then on is out of reach. Then its
// objects go, then its buckets, in steps, and its record last. Cut off anywhere, the
// record says that there is something left to do.

const removeBatch = 2048 // keys deleted in a transaction

// Remove implements [engine.Tenants].
func (e *Engine) Remove(ctx context.Context, before time.Time) (gone int, err error) {
	due, err := e.vaults(func(r *tenant) bool {
		return r.state == engine.StateDeleted && r.since <= millis(before)
	})
	for i := 0; i < len(due) && err == nil; i++ {
		err = e.changeTenant(ctx, due[i], func(r *tenant) bool {
			if r.state != engine.StateDeleted {
				return false // somebody has had second thoughts
			}
			r.state = engine.StateRemoved
			return true
		})
	}
	if err != nil {
		return 0, err
	}
	going, err := e.vaults(func(r *tenant) bool { return r.state == engine.StateRemoved })
	if err != nil {
		return 0, err
	}
	err = each(slices.DeleteFunc(going, e.coming.has), func(vault keys.VaultID) error {
		err := e.removeGoing(ctx, vault, false)
		if err == nil {
			gone++
		} else if errors.Is(err, errHeld) || errors.Is(err, wire.ErrNotFound) {
			return nil // the next call goes on, or somebody else was faster
		}
		return err
	})
	return gone, err
}

// removeGoing removes what is left of a vault that goes: wire.ErrNotFound where none of
// that id does, and errHeld where it cannot be done now. One that is on its way in goes
// where coming says so.
func (e *Engine) removeGoing(ctx context.Context, vault keys.VaultID, coming bool) error {
	unlock, err := e.keeping.lock(ctx, vault)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := e.State(ctx, vault) // it may have gone meanwhile, and another of its id have come
	if err == nil && (state != engine.StateRemoved || !coming && e.coming.has(vault)) {
		err = fmt.Errorf("vault that goes: %w", wire.ErrNotFound)
	}
	if err != nil {
		return err
	}
	return e.remove(ctx, vault)
}

func (e *Engine) remove(ctx context.Context, vault keys.VaultID) error {
	if err := e.removeFiles(vault); err != nil {
		return err
	}
	e.forgetUsage(vault)
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := e.db.Update(func(tx *store.Tx) (err error) {
			more, err = removeStep(tx, vault)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes a vault's objects, or returns errHeld. Whoever holds them from now on
// finds the vault marked, and needs none of them.
func (e *Engine) removeFiles(vault keys.VaultID) error {
	if !e.holdMu.TryLock() {
		return errHeld
	}
	defer e.holdMu.Unlock()
	if err := os.RemoveAll(e.objectDir(vault)); err != nil {
		return noPath(err)
	}
	if _, err := os.Stat(e.objects); err == nil {
		return durable.SyncDir(e.objects)
	}
	return nil
}

// removeStep removes some of what is stored of a vault.
func removeStep(tx *store.Tx, vault keys.VaultID) (more bool, err error) {
	name := logName(vault)
	if b := tx.Bucket(name); b != nil {
		if n, err := b.Drain(removeBatch); n == removeBatch || err != nil {
			return true, err
		}
		return true, tx.DeleteBucket(name)
	}
	for _, in := range []string{bucketCompacted, bucketCheckpoints} {
		all := tx.Bucket(in)
		if all == nil {
			continue
		}
		if b := all.Bucket(vault.String()); b != nil {
			if n, err := b.Drain(removeBatch); n == removeBatch || err != nil {
				return true, err
			}
			if err := all.DeleteBucket(vault.String()); err != nil {
				return true, err
			}
		}
	}
	if movedAt(tx, vault) != 0 { // one of this id that is made again is open
		if err := setMoved(tx, vault, 0, wire.MovedHere); err != nil {
			return true, err
		}
	}
	return false, tx.Bucket(bucketVaults).Delete(append([]byte(nil), vault[:]...))
}
