package embedded

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// oldTenant is the length of what the first version knew of a vault: when it was
// made.
const oldTenant = 8

// Versions of the layout of an engine's directory. An upgrade that is cut off goes on
// the next time; where there is nothing, there is nothing to do.

// UpgradeLogs brings an engine's directory from the second version of its layout to the
// third, which keeps a log in one bucket.
func UpgradeLogs(dir string) error {
	err := store.Convert(filepath.Join(dir, StoreFile), Options{}, "sizes", nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// UpgradeTenants brings an engine's directory from the first version of its layout to
// the second, which knows what vaults take and may take. It reads the logs, so it
// brings these to the third first.
func UpgradeTenants(dir string) (err error) {
	if err := UpgradeLogs(dir); err != nil {
		return err
	}
	e, err := Open(dir, Options{MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return e.upgrade()
}

func (e *Engine) upgrade() error {
	var old []keys.VaultID
	err := e.db.View(func(tx *store.Tx) error {
		b := tx.Bucket(bucketVaults)
		if b == nil {
			return nil
		}
		return b.Scan(nil, func(k, v []byte) (bool, error) {
			if len(v) == oldTenant && len(k) == len(keys.VaultID{}) {
				old = append(old, keys.VaultID(k))
			}
			return true, nil
		})
	})
	for i := 0; i < len(old) && err == nil; i++ {
		err = e.db.Update(func(tx *store.Tx) error { return upgradeTenant(tx, old[i]) })
	}
	return err
}

func upgradeTenant(tx *store.Tx, vault keys.VaultID) error {
	created := be.Uint64(tx.Bucket(bucketVaults).Get(vault[:]))
	l, err := tx.Log(logName(vault))
	if err != nil {
		return err
	}
	all, err := l.Sum(commitlog.CommitID(l.Size()))
	if err != nil {
		return err
	}
	here, err := countLog(l)
	if err != nil {
		return err
	}
	if err := addDropped(tx, vault, int64(all)-int64(here)-dropped(compacted(tx, vault))); err != nil {
		return err
	}
	return putTenant(tx, vault, &tenant{created: created, seen: created, state: engine.StateActive, since: created})
}

// countLog returns the bytes of the commits of a log with the blobs that are here.
func countLog(l *store.Log) (n uint64, err error) {
	for id := range commitlog.CommitID(l.Size()) {
		b, err := l.Commit(id + 1)
		if err != nil {
			return 0, err
		}
		n += uint64(b.EncodedSize())
	}
	return n, nil
}
