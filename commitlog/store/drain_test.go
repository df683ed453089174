package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/testonly"
)

// A bucket with others in it is emptied in steps.
func TestDrain(t *testing.T) {
	db, err := store.Open(filepath.Join(t.TempDir(), "x.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	update := func(fn func(tx *store.Tx) error) {
		t.Helper()
		if err := db.Update(fn); err != nil {
			t.Fatal(err)
		}
	}
	const each, step = 700, 256
	update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket("a")
		if err != nil {
			return err
		}
		for _, name := range []string{"x", "y"} {
			in, err := b.CreateBucket(name)
			if err != nil {
				return err
			}
			for i := range each {
				if err := in.Put(binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, 300)); err != nil {
					return err
				}
			}
		}
		return b.Put([]byte("key"), []byte("value"))
	})
	total, steps := 0, 0
	for n := step; n == step; steps++ {
		update(func(tx *store.Tx) (err error) {
			n, err = tx.Bucket("a").Drain(step)
			return err
		})
		total += n
	}
	if total != 2*each+1 || steps != total/step+1 {
		t.Errorf("%d keys went in %d steps", total, steps)
	}
	update(func(tx *store.Tx) error {
		if !tx.Bucket("a").Empty() {
			t.Error("something is left")
		}
		return nil
	})
	if err := db.Check(); err != nil {
		t.Error(err)
	}
}

// A key that is not found where it stands would be deleted for ever, or have bbolt give
// pages free twice: that is damage, and an end, and others can be written to.
func TestDrainDisorder(t *testing.T) {
	testonly.ShallowOpen = true
	defer func() { testonly.ShallowOpen = false }()
	for _, key := range []string{"key 99999", "key 00151", "key 00149", "key 00000"} { // in the place of key 00150
		path := filepath.Join(t.TempDir(), "x.db")
		db, err := store.Open(path, store.Options{})
		fatal(t, err)
		fatal(t, db.Update(func(tx *store.Tx) error {
			b, err := tx.CreateBucket("a")
			fatal(t, err)
			for i := range 300 {
				fatal(t, b.Put(fmt.Appendf(nil, "key %05d", i), make([]byte, 100)))
			}
			return nil
		}))
		fatal(t, db.Close())
		file, err := os.ReadFile(path)
		fatal(t, err)
		fatal(t, os.WriteFile(path, bytes.ReplaceAll(file, []byte("key 00150"), []byte(key)), 0o600))

		db, err = store.Open(path, store.Options{})
		fatal(t, err)
		for n, steps := 64, 0; err == nil && n == 64; steps++ {
			if steps == 100 {
				t.Fatalf("%s: it has no end", key)
			}
			err = db.Update(func(tx *store.Tx) (err error) {
				n, err = tx.Bucket("a").Drain(64)
				return err
			})
		}
		if !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v, want ErrDamaged", key, err)
		}
		if err := db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("b"); return err }); err != nil {
			t.Errorf("%s: another bucket: %v", key, err)
		}
		fatal(t, db.Close())
	}
}
