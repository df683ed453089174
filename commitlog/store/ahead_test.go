package store_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// While a View is under way the file grows to many times its size. Without Ahead this
// would hang: the Update waits for the View.
func TestGrowsUnderAView(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there the file would be as large as what is mapped")
	}
	path := filepath.Join(t.TempDir(), "store")
	db, err := store.Open(path, store.Options{Ahead: 1 << 30})
	fatal(t, err)
	defer db.Close()
	put := func(n int) error {
		return db.Update(func(tx *store.Tx) error {
			b, err := tx.CreateBucket("b")
			if err != nil {
				return err
			}
			return b.Put(fmt.Append(nil, n), make([]byte, 1<<20))
		})
	}
	fatal(t, put(0))
	err = db.View(func(tx *store.Tx) error {
		before := tx.Size()
		for n := range 40 {
			if err := put(n); err != nil {
				return err
			}
		}
		if tx.Size() != before {
			t.Error("the View has grown")
		}
		return nil
	})
	fatal(t, err)
	fatal(t, db.Close())
	db, err = store.Open(path, store.Options{}) // however it was mapped
	fatal(t, err)
	fatal(t, db.Check())
	fatal(t, db.View(func(tx *store.Tx) error {
		if tx.Size() < 40<<20 {
			t.Errorf("%d bytes", tx.Size())
		}
		return nil
	}))
	fatal(t, db.Close())
}
