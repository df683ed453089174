package store_test

import (
	"errors"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// grown returns a history, and who has signed in it.
func grown(t *testing.T) (h *history, signers []*signer) {
	t.Helper()
	h = newHistory(t, 3)
	for h.size() < 60 {
		h.grow()
	}
	for _, s := range h.signers {
		if s.seq > 0 {
			signers = append(signers, s)
		}
	}
	return h, signers
}

// spoil changes what is in a log's bucket behind the store's back.
func spoil(t *testing.T, path string, fn func(b *bbolt.Bucket)) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	fatal(t, err)
	fatal(t, db.Update(func(tx *bbolt.Tx) error { fn(tx.Bucket([]byte(logName))); return nil }))
	fatal(t, db.Close())
}

// Whose commits are there, of him the log knows the keys: the element that says them
// stands behind these commits, and that it is gone is noticed.
func TestAuthorGone(t *testing.T) {
	h, signers := grown(t)
	for _, s := range signers {
		db := h.wholeAt(h.size())
		fatal(t, db.Close())
		spoil(t, db.Path(), func(b *bbolt.Bucket) {
			fatal(t, b.Delete(append(append([]byte("a"), s.id[:]...), 0xFF)))
		})
		db, err := store.Open(db.Path(), store.Options{})
		fatal(t, err)
		err = db.View(func(tx *store.Tx) error {
			l, err := tx.Log(logName)
			fatal(t, err)
			return l.Authors(func(keys.DeviceID, *commitlog.Author) error { return nil })
		})
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("device %v: %v, want ErrDamaged", s.id, err)
		}
		fatal(t, db.Close())
	}
}

// What is read backwards has its shape as well.
func TestShapeBackwards(t *testing.T) {
	h, signers := grown(t)
	for _, s := range signers {
		path := closed(t, h.wholeAt(h.size()))
		spoil(t, path, func(b *bbolt.Bucket) {
			last := append([]byte("a"), s.id[:]...)
			last = append(last, 0, 0, 0, 0, 0, 0, 0, byte(s.seq))
			if b.Get(last) == nil {
				t.Fatal("no such number")
			}
			fatal(t, b.Put(last, []byte{1}))
		})
		db, err := store.Open(path, store.Options{})
		fatal(t, err)
		err = db.View(func(tx *store.Tx) error {
			l, err := tx.Log(logName)
			fatal(t, err)
			_, err = l.Comes(l.Size())
			return err
		})
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("device %v: %v, want ErrDamaged", s.id, err)
		}
		fatal(t, db.Close())
	}
}
