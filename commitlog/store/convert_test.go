package store_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
)

// layouts returns a store with a log of each kind: one that is whole, with what its
// commits take, as a secondary has it; one that began at a checkpoint, and has verified
// half of what is below; and one of those in a bucket of its own.
func (h *history) layouts(sum func(tx *store.Tx, log string, id commitlog.CommitID, n uint64)) *store.DB {
	h.t.Helper()
	const size, base = 130, 90
	for h.size() < size {
		h.grow()
	}
	db := h.begin(base)
	h.update(db, func(l *store.Log, tx *store.Tx) error {
		for id := uint64(base + 1); id <= size; id++ {
			fatal(h.t, h.apply(l, id, h.commits[id].effects))
		}
		h.verify(tx, base, base/2)
		b, err := tx.CreateBucket("room")
		fatal(h.t, err)
		fatal(h.t, b.SetSequence(7))
		fatal(h.t, b.Put([]byte("beside"), []byte("value")))
		_, err = b.CreateBucket("empty")
		fatal(h.t, err)
		for log, in := range map[string]*store.Tx{"log/whole": tx, "log": tx.Within("room")} {
			l, err := in.CreateLog(log, h.authority.Public().VaultID(), h.authority.Public())
			fatal(h.t, err)
			for id := uint64(1); id <= size; id++ {
				fatal(h.t, h.apply(l, id, h.commits[id].effects))
				if log == "log/whole" {
					sum(tx, log, commitlog.CommitID(id), 100*id)
				}
			}
		}
		return nil
	})
	return db
}

// layout1 returns the path of a copy of a store that was written in the first layout:
// what layouts returns of the history with seed 77.
func layout1(t *testing.T) string {
	t.Helper()
	packed, err := os.ReadFile("testdata/layout1.db.gz")
	fatal(t, err)
	r, err := gzip.NewReader(bytes.NewReader(packed))
	fatal(t, err)
	data, err := io.ReadAll(r)
	fatal(t, err)
	path := filepath.Join(t.TempDir(), "old.db")
	fatal(t, os.WriteFile(path, data, 0o600))
	return path
}

// everything returns all that a file holds, by the path of its bucket.
func everything(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	fatal(t, err)
	defer db.Close()
	out := make(map[string]string)
	var walk func(at string, b *bbolt.Bucket)
	walk = func(at string, b *bbolt.Bucket) {
		out[at] = fmt.Sprint("bucket, ", b.Sequence())
		fatal(t, b.ForEach(func(k, v []byte) error {
			if in := b.Bucket(k); in != nil {
				walk(fmt.Sprintf("%s%q/", at, k), in)
			} else {
				out[fmt.Sprintf("%s%q", at, k)] = fmt.Sprintf("%x", v)
			}
			return nil
		}))
	}
	fatal(t, db.View(func(tx *bbolt.Tx) error {
		walk("", tx.Cursor().Bucket())
		return nil
	}))
	return out
}

// A store of the first layout becomes what it had been if it had always had the
// present one, and once it is that, it stays.
func TestConvert(t *testing.T) {
	path := layout1(t)
	fatal(t, store.Convert(path, store.Options{}, "sizes", nil))
	want := newHistory(t, 77).layouts(func(tx *store.Tx, log string, id commitlog.CommitID, n uint64) {
		l, err := tx.Log(log)
		fatal(t, err)
		fatal(t, l.SetSum(id, n))
	})
	fatal(t, want.Close())
	if want, got := everything(t, want.Path()), everything(t, path); !maps.Equal(want, got) {
		t.Errorf("want − got +:\n%s", cmp.Diff(want, got))
	}
	db, err := store.Open(path, store.Options{})
	fatal(t, err)
	fatal(t, db.Check())
	if err := store.Convert(path, store.Options{}, "sizes", nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("converting a store in use: %v", err)
	}
	fatal(t, db.Close())

	before, err := os.Stat(path)
	fatal(t, err)
	fatal(t, store.Convert(path, store.Options{}, "sizes", nil))
	after, err := os.Stat(path)
	fatal(t, err)
	if !os.SameFile(before, after) {
		t.Error("a store that has no old log was written anew")
	}
}

// Cut off anywhere, the old store is there, or the new one.
func TestConvertCutOff(t *testing.T) {
	defer func() { durable.Hook = nil }()
	old := everything(t, layout1(t))
	path := layout1(t)
	fatal(t, store.Convert(path, store.Options{}, "sizes", nil))
	converted := everything(t, path)
	for stop := 0; ; stop++ {
		path, n := layout1(t), 0
		durable.Hook = func(durable.Op, bool, string) error {
			if n++; n > stop {
				return errors.New("cut off")
			}
			return nil
		}
		err := store.Convert(path, store.Options{}, "sizes", nil)
		durable.Hook = nil
		if err == nil {
			if stop < 2 {
				t.Errorf("done after %d steps", stop)
			}
			break
		}
		if got := everything(t, path); !maps.Equal(got, old) && !maps.Equal(got, converted) {
			t.Fatalf("cut off at step %d: neither the old store nor the new one", stop)
		}
		fatal(t, store.Convert(path, store.Options{}, "sizes", nil))
		if got := everything(t, path); !maps.Equal(got, converted) {
			t.Fatalf("cut off at step %d, and done again: %s", stop, cmp.Diff(converted, got))
		}
	}
}

// What makes no sense is said, and the store stays as it is.
func TestConvertDamaged(t *testing.T) {
	for _, name := range []string{"commits", "changes", "tree", "live", "retired", "restates", "sequences", "authors"} {
		path := layout1(t)
		db, err := bbolt.Open(path, 0o600, nil)
		fatal(t, err)
		fatal(t, db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("log/whole")).Bucket([]byte(name)).Put([]byte{1}, []byte{2})
		}))
		fatal(t, db.Close())
		before := everything(t, path)
		if err := store.Convert(path, store.Options{}, "sizes", nil); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
		if after := everything(t, path); !maps.Equal(before, after) {
			t.Errorf("%s: it has changed:\n%s", name, cmp.Diff(before, after))
		}
		if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}
