package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// A store is mended when its disk takes something, and the disk is not asked for one that
// is in order. Nothing is left of the try.
func TestMend(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	db := open(t, path)
	defer db.Close()
	put := func() error {
		return db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("b"); return err })
	}
	fatal(t, put())
	fatal(t, os.Mkdir(path+".try", 0o700)) // as a disk that takes nothing
	if err := errors.Join(db.ReadOnly(), db.Mend(1<<20)); err != nil {
		t.Errorf("a store that is in order: %v", err)
	}
	store.CloseFile(db)
	if err := db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("c"); return err }); !errors.Is(err, store.ErrReadOnly) {
		t.Fatalf("a write that fails: %v, want ErrReadOnly", err)
	}
	if err := db.Mend(1 << 20); err == nil || !errors.Is(db.ReadOnly(), store.ErrReadOnly) {
		t.Errorf("on a disk that takes nothing: %v, and then %v", err, db.ReadOnly())
	}
	fatal(t, os.Remove(path+".try"))
	fatal(t, db.Mend(1<<20))
	fatal(t, errors.Join(db.ReadOnly(), put()))
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("the try leaves %q, %v", left, err)
	}
}
