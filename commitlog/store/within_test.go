package store_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// TestMove moves buckets of many pages between a store and a bucket in it, beside
// others that are removed, and looks at every page afterwards.
func TestMove(t *testing.T) {
	db, err := store.Open(filepath.Join(t.TempDir(), "db"), store.Options{NoSync: true})
	fatal(t, err)
	defer db.Close()
	fill := func(tx *store.Tx, name string, n uint64) {
		t.Helper()
		b, err := tx.CreateBucket(name)
		fatal(t, err)
		in, err := b.CreateBucket("in")
		fatal(t, err)
		for i := range n {
			k := binary.BigEndian.AppendUint64(nil, i)
			fatal(t, b.Put(k, []byte(name)))
			fatal(t, in.Put(k, make([]byte, 100)))
		}
		fatal(t, b.SetSequence(n))
	}
	count := func(b *store.Bucket) (n uint64) {
		t.Helper()
		if b == nil {
			t.Fatal("no bucket")
		}
		fatal(t, b.Scan(nil, func(_, v []byte) (bool, error) {
			n++
			return true, nil
		}))
		return n
	}
	fatal(t, db.Update(func(tx *store.Tx) error {
		fill(tx, "a", 2000)
		fill(tx, "b", 10)
		_, err := tx.CreateBucket("room")
		fatal(t, err)
		fill(tx.Within("room"), "a", 5000)
		fill(tx.Within("room"), "c", 3)
		return nil
	}))
	for round := range uint64(3) {
		fatal(t, db.Update(func(tx *store.Tx) error {
			if tx.Within("nowhere") != nil {
				t.Error("within a bucket that is not there")
			}
			if tx.Bucket("old") != nil {
				fatal(t, tx.DeleteBucket("old"))
			}
			_, err := tx.CreateBucket("old")
			fatal(t, err)
			fatal(t, tx.Move("a", tx.Within("old")))
			fatal(t, tx.Within("room").Move("a", tx))
			fatal(t, tx.DeleteBucket("room"))
			return nil
		}))
		fatal(t, db.Check())
		fatal(t, db.View(func(tx *store.Tx) error {
			now, old := 5000+round, 5000+round-1
			if round == 0 {
				old = 2000
			}
			a := tx.Bucket("a")
			if n := count(a.Bucket("in")); n != now || a.Sequence() != now {
				t.Errorf("round %d: %d keys, sequence %d", round, n, a.Sequence())
			}
			if n := count(tx.Within("old").Bucket("a").Bucket("in")); n != old {
				t.Errorf("round %d: %d keys are kept", round, n)
			}
			if n := count(tx.Bucket("b").Bucket("in")); n != 10 || tx.Bucket("room") != nil {
				t.Errorf("round %d: %d keys beside, room %v", round, n, tx.Bucket("room"))
			}
			return nil
		}))
		fatal(t, db.Update(func(tx *store.Tx) error {
			_, err := tx.CreateBucket("room")
			fatal(t, err)
			fill(tx.Within("room"), "a", 5000+round+1)
			return nil
		}))
	}
}
