package vault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/internal/durable"
)

// bolt changes a store behind its back.
func bolt(t *testing.T, dir string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, storeFile), 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(fn), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What an earlier program's Create left when it was cut off is no vault, and what is
// left of a vault of the first layout is one.
func TestVacantLayout1(t *testing.T) {
	dir := copyLayout1(t)
	if err := os.Remove(filepath.Join(dir, deviceFile)); err != nil {
		t.Fatal(err)
	}
	want := "a vault's vault.db, and its device.key is gone"
	if err := Vacant(dir); !errors.Is(err, ErrDamaged) || !contains(err, want) || contains(err, "cannot be read") {
		t.Errorf("%v, want %s", err, want)
	}
	dir = copyLayout1(t)
	if err := os.Remove(filepath.Join(dir, deviceFile)); err != nil {
		t.Fatal(err)
	}
	bolt(t, dir, func(tx *bbolt.Tx) error { // as Create made it
		log := tx.Bucket([]byte(bucketLog))
		head := log.Bucket([]byte("head"))
		v := append([]byte(nil), head.Get([]byte("log"))...)
		for i := 80; i < len(v); i++ {
			v[i] = 0
		}
		err := errors.Join(head.Put([]byte("log"), v), tx.Bucket([]byte(bucketOutbox)).SetSequence(0))
		for _, name := range []string{"commits", "changes", "tree", "live", "retired", "restates", "sequences", "leaves"} {
			if log.Bucket([]byte(name)) != nil {
				err = errors.Join(err, log.DeleteBucket([]byte(name)))
			}
			_, cerr := log.CreateBucket([]byte(name))
			err = errors.Join(err, cerr)
		}
		return err
	})
	if err := Vacant(dir); err != nil {
		t.Errorf("what an interrupted Create left: %v", err)
	}
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// A store has the present layout and says so, or neither, wherever converting it is cut
// off: an earlier program refuses the one and reads the other.
func TestOpenLayout1CutOff(t *testing.T) {
	others := durable.Hook // of the tests of crashes
	defer func() { durable.Hook = others }()
	for stop := 0; ; stop++ {
		dir, n := copyLayout1(t), 0
		durable.Hook = func(durable.Op, bool, string) error {
			if n++; n > stop {
				return errors.New("cut off")
			}
			return nil
		}
		db, err := openStore(filepath.Join(dir, storeFile), false)
		durable.Hook = others
		if err == nil {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		bolt(t, dir, func(tx *bbolt.Tx) error {
			version := tx.Bucket([]byte(bucketMeta)).Get(metaVersion)[0]
			if old := tx.Bucket([]byte(bucketLog)).Bucket([]byte("head")) != nil; old != (version == 1) {
				t.Errorf("cut off at step %d: layout %d, old log: %v", stop, version, old)
			}
			return nil
		})
	}
}
