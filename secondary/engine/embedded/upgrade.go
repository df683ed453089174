package embedded

import (
	"errors"
	"io/fs"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// oldTenant is the length of what the first version knew of a vault: when it was
// made.
const oldTenant = 8

// Upgrade brings an engine's directory from the first version of its layout to the
// second, which knows what vaults take and may take. Cut off, it goes on the next time;
// where there is nothing, there is nothing to do.
func Upgrade(dir string) (err error) {
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
	b, err := sizes(tx, vault)
	if err != nil {
		return err
	}
	all, err := sizeAt(b, commitlog.CommitID(l.Size()))
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
