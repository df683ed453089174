package vault

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog/store"
)

// schemaVersion is the version of the store's layout. The first had a log in ten
// buckets.
const schemaVersion = 2

// openStore opens the store at path, and brings it to the present layout first. Nothing
// is written to one whose layout this program does not know.
func openStore(path string, noSync bool) (*store.DB, error) {
	o := store.Options{NoSync: noSync, MustExist: true}
	db, err := store.Open(path, o)
	if err != nil {
		return nil, err
	}
	version, err := layoutOf(db)
	if err == nil && version == schemaVersion {
		return db, nil
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	if version > schemaVersion {
		return nil, fmt.Errorf("the store has layout %d, this program knows %d: use a newer kist", version, schemaVersion)
	}
	// Cut off before the version is set, it finds no old log the next time.
	if err := store.Convert(path, o, ""); err != nil {
		return nil, err
	}
	if db, err = store.Open(path, o); err != nil {
		return nil, err
	}
	err = db.Update(func(tx *store.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil {
			return fmt.Errorf("%w: it has lost a bucket", store.ErrDamaged)
		}
		return b.Put(metaVersion, []byte{schemaVersion})
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func layoutOf(db *store.DB) (version byte, err error) {
	err = db.View(func(tx *store.Tx) error {
		if b := tx.Bucket(bucketMeta); b != nil {
			if v := b.Get(metaVersion); len(v) == 1 && v[0] != 0 {
				version = v[0]
				return nil
			}
		}
		return fmt.Errorf("%w: it does not say how it is laid out", store.ErrDamaged)
	})
	return version, err
}
