package embedded

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// PutCheckpoint implements [engine.Engine].
func (e *Engine) PutCheckpoint(ctx context.Context, c *commitlog.Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.putCheckpoint(c, func(tx *store.Tx, vault keys.VaultID) (*store.Log, error) {
		if _, err := active(tx, vault); err != nil {
			return nil, err
		}
		return vaultLog(tx, vault)
	})
}

// putCheckpoint is PutCheckpoint for the log that open returns.
func (e *Engine) putCheckpoint(c *commitlog.Checkpoint, open func(*store.Tx, keys.VaultID) (*store.Log, error)) error {
	refuse := func(why string) error { return fmt.Errorf("%w: checkpoint: %s", wire.ErrProtocol, why) }
	err := e.db.View(func(tx *store.Tx) error {
		l, err := open(tx, c.Vault)
		if err != nil {
			return err
		}
		if c.Size > l.Size() {
			return refuse("of a longer log")
		}
		own, err := l.Comes(c.Size)
		if err != nil {
			return err
		}
		own.Control, own.Resets = c.Control, l.Resets(c.Size) // the first is in blobs
		if err := own.Same(c); err != nil {
			return refuse(err.Error())
		}
		for _, n := range own.Namespaces {
			if ctl, _ := l.ControlTag(); n.Tag == ctl && n.Count != c.Control.Number {
				return refuse("another number of control statements")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.db.Update(func(tx *store.Tx) error {
		// The log has grown meanwhile, and perhaps it revokes the device.
		l, err := open(tx, c.Vault)
		if err != nil {
			return err
		}
		author, err := l.Author(c.Device)
		switch {
		case err != nil:
			return err
		case author == nil:
			return commitlog.ErrUnknownSigner
		case author.Revoked != 0:
			return commitlog.ErrRevoked
		}
		all, err := tx.CreateBucket(bucketCheckpoints)
		if err != nil {
			return err
		}
		b, err := all.CreateBucket(c.Vault.String())
		if err != nil {
			return err
		}
		if old := b.Get(c.Device[:]); old != nil {
			before, err := commitlog.ParseCheckpoint(old)
			if err != nil {
				return fmt.Errorf("%w: %v", store.ErrDamaged, err)
			}
			if c.Size < before.Size || c.Time < before.Time {
				return refuse("older than the one before")
			}
		}
		return b.Put(append([]byte(nil), c.Device[:]...), c.Raw)
	})
}

// Checkpoint implements [engine.Engine].
func (e *Engine) Checkpoint(ctx context.Context, vault keys.VaultID, size uint64, device keys.DeviceID) (found *commitlog.Checkpoint, err error) {
	err = e.view(ctx, vault, func(tx *store.Tx, _ *store.Log) error {
		b := checkpoints(tx, vault)
		if b == nil {
			return nil
		}
		// They may be many and large, and anybody of the vault may ask again and again:
		// only the one that is found is decoded.
		var raw []byte
		var newest uint64
		err := b.Scan(nil, func(k, v []byte) (bool, error) {
			at, err := commitlog.CheckpointSize(v)
			if err != nil {
				return false, fmt.Errorf("%w: %v", store.ErrDamaged, err)
			}
			before := size == 0 || at < size || at == size && string(k) < string(device[:])
			if before && at >= newest { // they come by device
				raw, newest = v, at
			}
			return true, nil
		})
		if err != nil || raw == nil {
			return err
		}
		if found, err = commitlog.ParseCheckpoint(bytes.Clone(raw)); err != nil { // outlives the transaction
			return fmt.Errorf("%w: %v", store.ErrDamaged, err)
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("checkpoint: %w", wire.ErrNotFound)
	}
	return found, err
}

// checkpoints returns the bucket of a vault's checkpoints, nil if there are none.
func checkpoints(tx *store.Tx, vault keys.VaultID) *store.Bucket {
	if all := tx.Bucket(bucketCheckpoints); all != nil {
		return all.Bucket(vault.String())
	}
	return nil
}

// dropCheckpoint forgets the checkpoint of a device that was revoked.
func dropCheckpoint(tx *store.Tx, vault keys.VaultID, device keys.DeviceID) error {
	if b := checkpoints(tx, vault); b != nil {
		return b.Delete(device[:])
	}
	return nil
}
