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
	for converted := false; ; converted = true {
		db, err := store.Open(path, o)
		if err != nil {
			return nil, err
		}
		version, err := layoutOf(db)
		switch {
		case err != nil:
		case version == schemaVersion:
			return db, nil
		case version > schemaVersion:
			err = fmt.Errorf("the store has layout %d, this program knows %d: use a newer kist", version, schemaVersion)
		case converted:
			err = fmt.Errorf("%w: it says that it has layout %d, and has not", store.ErrDamaged, version)
		}
		if err = errors.Join(err, db.Close()); err != nil {
			return nil, err
		}
		err = store.Convert(path, o, "", func(tx *store.Tx) error {
			return tx.Bucket(bucketMeta).Put(metaVersion, []byte{schemaVersion})
		})
		if err != nil {
			return nil, err
		}
	}
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
