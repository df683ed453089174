package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys/keyfile"
)

// Create makes a vault for the device in dir, which must be vacant (see [Vacant]),
// and writes its device file last: a directory without one is no vault. name
// is the device's own, for people. All of it is durable when Create returns;
// nothing is sent.
func Create(dir string, d *keyfile.Device, name string) (err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := clear(dir); err != nil {
		return err
	}
	fresh := filepath.Join(dir, storeFile+".tmp")
	db, err := createStore(fresh, d, name)
	if err != nil {
		return err
	}
	if err = db.Close(); err != nil {
		return err
	}
	// So a store of that name is a whole one, which Vacant can look into.
	if err := durable.Rename(fresh, filepath.Join(dir, storeFile)); err != nil {
		return err
	}
	if _, err := store.OpenObjects(filepath.Join(dir, objectsDir)); err != nil {
		return err
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	return keyfile.WriteDevice(filepath.Join(dir, deviceFile), d)
}

// createStore makes the store of a new vault.
func createStore(path string, d *keyfile.Device, name string) (*store.DB, error) {
	ring, err := newKeyring(d)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(path, store.Options{})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *store.Tx) error { return fillStore(tx, d, ring, name) })
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// fillStore makes what the store of a new vault has.
func fillStore(tx *store.Tx, d *keyfile.Device, ring *keyring, name string) error {
	if _, err := tx.CreateLog(bucketLog, d.Vault, d.Authority); err != nil {
		return err
	}
	for _, b := range slices.Concat(buckets, laterBuckets) {
		if _, err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	b := tx.Bucket(bucketMeta)
	return errors.Join(
		b.Put(metaVersion, []byte{schemaVersion}),
		b.Put(metaUnderstands, []byte{understands}),
		b.Put(metaName, ring.local.Seal(nil, []byte(name), metaName)),
	)
}

// Vacant returns nil if Create may make a vault in dir: there is nothing, or what
// an interrupted Create left. Otherwise it returns [ErrExists], [ErrInUse] where
// another program has its store open, or [ErrDamaged] where a vault has lost its
// device file.
func Vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	store := false
	for _, e := range entries {
		store = store || e.Name() == storeFile
	}
	for _, e := range entries {
		switch e.Name() {
		case storeFile, storeFile + ".tmp", storeFile + ".new", deviceFile + ".tmp", onboardingFile, onboardingFile + ".tmp", agentFile, agentFile + ".tmp":
			continue
		case objectsDir:
			if store { // Create makes it after the store
				continue
			}
		case deviceFile:
			return fmt.Errorf("%w: a vault is in %s", ErrExists, dir)
		}
		return fmt.Errorf("%w: %s holds %q", ErrExists, dir, e.Name())
	}
	if !store {
		return nil
	}
	return bare(filepath.Join(dir, storeFile))
}

// bare returns nil if nothing has happened in a store since Create made it.
func bare(path string) error {
	lost := fmt.Errorf("%w: there is a vault's %s, and its %s is gone", ErrDamaged, storeFile, deviceFile)
	db, err := openStore(path, false)
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("%w: %s", ErrInUse, path)
	case errors.Is(err, store.ErrDamaged):
		return fmt.Errorf("%w, and cannot be read either: %w", lost, err)
	case err != nil:
		return err
	}
	err = db.View(func(tx *store.Tx) error {
		log, err := tx.Log(bucketLog)
		if err != nil {
			return err
		}
		if b := tx.Bucket(bucketOutbox); log.Size() > 0 || b == nil || b.Sequence() > 0 {
			return lost
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// clear removes what an interrupted Create left, and returns the error of Vacant
// if there is anything else.
func clear(dir string) error {
	if err := Vacant(dir); err != nil {
		return err
	}
	for _, f := range []string{deviceFile + ".tmp", objectsDir, storeFile, storeFile + ".tmp", storeFile + ".new"} {
		if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
			return err
		}
	}
	return nil
}

// Exists reports whether dir holds a vault.
func Exists(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, deviceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove deletes the vault in dir: its own files, and dir itself if that
// leaves it empty. The device file goes first, so that what an interrupted
// Remove leaves is no vault.
func Remove(dir string) error {
	for _, f := range []string{deviceFile, deviceFile + ".tmp", objectsDir, storeFile, storeFile + ".tmp", storeFile + ".new", agentFile, agentFile + ".tmp"} {
		if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
			return err
		}
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		return os.Remove(dir)
	}
	return nil
}
