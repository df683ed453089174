package store_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// After a failed write the store says so, is read from on, and can be opened again
// under those who use it: what was durable is there, and writes go on.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	defer db.Close()
	put := func(n int) error {
		return db.Update(func(tx *store.Tx) error {
			b, err := tx.CreateBucket("b")
			if err == nil {
				err = b.Put(key(n), []byte("v"))
			}
			return err
		})
	}
	count := func() (n int) {
		t.Helper()
		fatal(t, db.View(func(tx *store.Tx) error {
			n = 0
			return tx.Bucket("b").Scan(nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
		}))
		return n
	}
	fatal(t, put(1))
	fatal(t, db.Reopen()) // nothing is wrong
	fatal(t, put(2))

	for i := 3; i < 6; i++ {
		store.CloseFile(db)
		for range 2 {
			if err := put(i); !errors.Is(err, store.ErrReadOnly) || !errors.Is(err, fs.ErrClosed) {
				t.Fatalf("a write that fails: %v, want ErrReadOnly and why", err)
			}
		}
		if n := count(); n != i-1 {
			t.Errorf("after a failed write %d records are read, want %d", n, i-1)
		}
		// Where it cannot be opened, it stays as it is.
		fatal(t, os.Rename(path, path+".away"))
		if err := db.Reopen(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opened without a file: %v", err)
		}
		if n := count(); n != i-1 {
			t.Errorf("%d records are read, want %d", n, i-1)
		}
		fatal(t, os.Rename(path+".away", path))
		fatal(t, db.Reopen())
		fatal(t, put(i))
		if n := count(); n != i {
			t.Errorf("opened again, %d records are read, want %d", n, i)
		}
		fatal(t, db.Check())
	}
	if _, err := store.Open(path, store.Options{Timeout: 1}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("opened by another: %v, want ErrInUse", err)
	}
	store.Unsettle(db)
	fatal(t, db.Close())
	if err := db.Reopen(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("opened after its end: %v", err)
	}
	fatal(t, open(t, path).Close())
}

// What a transaction has written and that has not come to the disk is not read.
func TestViewIsDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	defer db.Close()
	fatal(t, db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("b"); return err }))
	store.Unsettle(db)
	read := func(*store.Tx) error { t.Error("it is read"); return nil }
	if err := db.View(read); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("got %v, want ErrReadOnly", err)
	}
	ok := false
	fatal(t, db.Peek(func(*store.Tx) error { ok = true; return nil }))
	if !ok {
		t.Error("Peek does not look")
	}
	fatal(t, db.Reopen())
	ok = false
	fatal(t, db.View(func(tx *store.Tx) error { ok = tx.Bucket("b") != nil; return nil }))
	if !ok {
		t.Error("opened again, it is not read")
	}
}

// Nobody waits until somebody who copies a store slowly has all of it, where it is to be
// opened again.
func TestReopenEndsCopies(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	defer db.Close()
	fatal(t, db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("b"); return err }))
	reopened := make(chan error, 1)
	err := db.View(func(tx *store.Tx) (err error) {
		store.Unsettle(db)
		go func() { reopened <- db.Reopen() }()
		for err == nil { // a copy that takes for ever
			_, err = tx.WriteTo(io.Discard)
		}
		return err
	})
	if !errors.Is(err, store.ErrReopened) {
		t.Errorf("the copy: %v, want ErrReopened", err)
	}
	fatal(t, <-reopened)
	fatal(t, db.View(func(tx *store.Tx) error { _, err := tx.WriteTo(io.Discard); return err }))
}
