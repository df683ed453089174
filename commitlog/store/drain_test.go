package store_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
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
