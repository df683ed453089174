package embedded

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Tidy implements [engine.Keeper]. Objects that nothing names are given to compaction,
// which has to look once more at what came meanwhile anyway.
func (e *Engine) Tidy(ctx context.Context, before time.Time, remove bool) (found engine.Tidied, err error) {
	all, err := e.vaults(func(r *tenant) bool { return r.state != engine.StateRemoved })
	if err != nil {
		return found, err
	}
	damaged := each(all, func(vault keys.VaultID) error { return e.tidyVault(ctx, vault, before, remove, &found) })
	if damaged != nil && !errors.Is(damaged, store.ErrDamaged) {
		return found, damaged
	}
	tidy := func(tx *store.Tx) error {
		found.Invites = 0
		b := tx.Bucket(bucketInvites)
		if b == nil {
			return nil
		}
		var over [][]byte
		err := b.Scan(nil, func(k, v []byte) (bool, error) {
			i, err := parseInvite(v)
			if err == nil && i.expires < millis(before) {
				over = append(over, append([]byte(nil), k...))
			}
			return true, err
		})
		found.Invites = len(over)
		for i := 0; i < len(over) && err == nil && remove; i++ {
			err = b.Delete(over[i])
		}
		return err
	}
	if remove {
		err = e.db.Update(tidy)
	} else {
		err = e.db.View(tidy)
	}
	return found, errors.Join(damaged, err)
}

func (e *Engine) tidyVault(ctx context.Context, vault keys.VaultID, before time.Time, remove bool, found *engine.Tidied) error {
	unlock, err := e.keeping.lock(ctx, vault)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := e.oldFiles(ctx, vault, before)
	if err != nil || len(old) == 0 {
		return err
	}
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		return eachObject(ctx, l, 0, func(h commitlog.Hash) { delete(old, h) })
	})
	if errors.Is(err, wire.ErrNotFound) {
		return nil // it has gone meanwhile
	}
	if err != nil {
		return err
	}
	found.Objects += len(old)
	for _, n := range old {
		found.Bytes += uint64(n)
	}
	if !remove || len(old) == 0 {
		return nil
	}
	err = e.db.Update(func(tx *store.Tx) error {
		b, err := createCompacted(tx, vault)
		for h := range old {
			if err == nil {
				err = b.Put(append([]byte(nil), h[:]...), []byte{})
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return e.compactObjects(ctx, vault, &engine.Compacted{})
}

// oldFiles returns the objects of a vault, whole or not, whose files were written
// before a time, with their sizes.
func (e *Engine) oldFiles(ctx context.Context, vault keys.VaultID, before time.Time) (map[commitlog.Hash]int64, error) {
	old := make(map[commitlog.Hash]int64)
	err := filepath.WalkDir(e.objectDir(vault), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return errors.Join(ctx.Err(), ignoreNotExist(err))
		}
		name, err := hex.DecodeString(strings.TrimSuffix(d.Name(), ".part"))
		if err != nil || len(name) != len(commitlog.Hash{}) {
			return nil // not ours
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.ModTime().Before(before) {
			old[commitlog.Hash(name)] = info.Size()
		}
		return err
	})
	return old, noPath(err)
}
