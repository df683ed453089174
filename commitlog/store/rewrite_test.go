package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog/store"
)

// A rewritten store holds what it held, sequences of buckets too, and takes less.
func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const many = 3000
	err = db.Update(func(tx *store.Tx) error {
		outer, err := tx.CreateBucket("outer")
		if err != nil {
			return err
		}
		inner, err := outer.CreateBucket("inner")
		if err != nil {
			return err
		}
		for i := range many {
			if _, err := inner.Next(); err != nil {
				return err
			}
			if err := inner.Put(key(i), bytes.Repeat(key(i), 100)); err != nil {
				return err
			}
		}
		_, err = tx.CreateBucket("empty")
		return err
	})
	if err == nil {
		err = db.Update(func(tx *store.Tx) error {
			inner := tx.Bucket("outer").Bucket("inner")
			for i := range many {
				if i%100 != 0 {
					if err := inner.Delete(key(i)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Rewrite(path, store.Options{Timeout: time.Millisecond}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("rewriting a store in use: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("left by one that was cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, after, err := store.Rewrite(path, store.Options{})
	if err != nil || after*4 > before {
		t.Errorf("rewritten: %d to %d bytes, %v", before, after, err)
	}
	if files, err := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("files: %v, %v", files, err)
	}
	if db, err = store.Open(path, store.Options{MustExist: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *store.Tx) error {
		inner := tx.Bucket("outer").Bucket("inner")
		n := 0
		if inner.Sequence() != many || tx.Bucket("empty") == nil {
			t.Errorf("sequence %d, bucket %v", inner.Sequence(), tx.Bucket("empty"))
		}
		return inner.Scan(nil, func(k, v []byte) (bool, error) {
			if !bytes.Equal(k, key(n*100)) || !bytes.Equal(v, bytes.Repeat(k, 100)) {
				t.Errorf("entry %d is another", n)
			}
			n++
			return true, nil
		})
	})
	if err != nil {
		t.Error(err)
	}
	if _, _, err := store.Rewrite(filepath.Join(t.TempDir(), "none"), store.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("rewriting what is not there: %v", err)
	}
}

// Who waits for a store while it is rewritten opens the new file, not the old one
// that has no name any more.
func TestOpenWhileRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	old, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		db  *store.DB
		err error
	}
	opened := make(chan result)
	go func() {
		db, err := store.Open(path, store.Options{Timeout: time.Minute, MustExist: true})
		opened <- result{db, err}
	}()
	fresh, err := store.Open(path+".new", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("new"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fresh.Close(), os.Rename(path+".new", path), old.Close()); err != nil {
		t.Fatal(err)
	}
	r := <-opened
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.db.Close()
	if err := r.db.View(func(tx *store.Tx) error {
		if tx.Bucket("new") == nil {
			t.Error("it is the old file")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
