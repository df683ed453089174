package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/testonly"
)

// age makes a store's log what it was in the first layout. It had no leaves in the tree
// of what came with a checkpoint, until the log below the base came to them.
func age(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	fatal(t, err)
	fatal(t, db.Update(func(tx *bbolt.Tx) error {
		type element struct {
			in   []string
			k, v []byte
		}
		var all []element
		var size, base, verified uint64
		var walk func(b *bbolt.Bucket, in []string)
		walk = func(b *bbolt.Bucket, in []string) {
			fatal(t, b.ForEach(func(k, v []byte) error {
				if v == nil {
					walk(b.Bucket(k), append(in, "past"))
					return nil
				}
				put := func(bucket string, key []byte) {
					at := append(append([]string{}, in...), bucket)
					all = append(all, element{at, append([]byte(nil), key...), append([]byte{}, v...)})
				}
				switch {
				case k[0] == 'a' && len(k) == 25:
					put("sequences", k[1:])
				case k[0] == 'a':
					put("authors", k[1:17])
				case k[0] == 'c' && k[9] == 0:
					put("commits", k[1:9])
					leaf := commitlog.LeafHash(v)
					all = append(all, element{append(append([]string{}, in...), "leaves"), append(append([]byte{}, v[22:38]...), leaf[:]...), nil})
				case k[0] == 'c' && k[9] == 1:
					put("changes", append(k[1:9:9], k[10:]...))
				case k[0] == 'c' && k[9] == 2:
					at := uint64(commitlog.TreeIndex(be64(k[1:])-1)) + uint64(k[10])
					put("tree", []byte{byte(at >> 56), byte(at >> 48), byte(at >> 40), byte(at >> 32), byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
				case k[0] == 'h' && len(k) == 1:
					if put("head", []byte("log")); len(in) > 0 {
						verified = be64(v[80:])
					} else {
						size = be64(v[80:])
					}
				default:
					if string(k) == "hbase" {
						base = be64(v)
					}
					put(map[byte]string{'h': "head", 'l': "live", 'n': "restates", 'r': "retired"}[k[0]], k[1:])
				}
				return nil
			}))
		}
		walk(tx.Bucket([]byte(logName)), nil)
		fatal(t, tx.DeleteBucket([]byte(logName)))
		log, err := tx.CreateBucket([]byte(logName))
		fatal(t, err)
		peaks := make(map[uint64]bool)
		for _, index := range commitlog.Peaks(base) {
			peaks[uint64(index)] = true
		}
		for _, e := range all {
			if e.in[len(e.in)-1] == "tree" {
				level, by := commitlog.TreePlace(int64(be64(e.k)))
				if id := uint64(by); level == 0 && id > verified && (id <= base || id > size) && !peaks[be64(e.k)] {
					continue
				}
			}
			b := log
			for _, name := range e.in {
				b, err = b.CreateBucketIfNotExists([]byte(name))
				fatal(t, err)
			}
			fatal(t, b.Put(e.k, e.v))
		}
		return nil
	}))
	fatal(t, db.Close())
}

// Whatever state a log is in, it comes to be what it would be if it had never had
// another layout.
func TestConvertAnyState(t *testing.T) {
	check := func(what string, db *store.DB) {
		t.Helper()
		want := everything(t, closed(t, db))
		age(t, db.Path())
		if maps.Equal(want, everything(t, db.Path())) {
			t.Fatalf("%s: it has not aged", what)
		}
		fatal(t, store.Convert(db.Path(), store.Options{NoSync: true}, "", nil))
		if got := everything(t, db.Path()); !maps.Equal(want, got) {
			t.Errorf("%s: want − got +:\n%s", what, cmp.Diff(want, got))
		}
	}
	h := newHistory(t, 11)
	check("empty", h.newLog())
	for h.size() < 120 {
		h.grow()
	}
	check("whole", h.wholeAt(120))
	for _, base := range []uint64{1, 2, 63, 64, 100} {
		check("begun", h.begin(base))
		half := h.newLog()
		h.update(half, func(l *store.Log, _ *store.Tx) error {
			all := h.excerpts(base)
			for _, x := range all[:1+len(all)/2] {
				fatal(t, l.PutExcerpt(x))
			}
			return nil
		})
		check("half of what came with a checkpoint", half)
		for _, n := range []uint64{1, base / 2, base - 1, base} {
			db := h.begin(base)
			h.update(db, func(l *store.Log, tx *store.Tx) error {
				h.verify(tx, base, n)
				for id := base + 1; id <= 120; id++ {
					fatal(t, h.apply(l, id, h.commits[id].effects))
				}
				return nil
			})
			check("half verified below", db)
			db = h.begin(base)
			h.update(db, func(l *store.Log, tx *store.Tx) error {
				if !h.verify(tx, base, n) {
					p, err := tx.Past(logName, false)
					fatal(t, err)
					fatal(t, p.Drop())
				}
				return nil
			})
			check("dropped", db)
		}
	}
}

// closed closes a store and returns its path.
func closed(t *testing.T, db *store.DB) string {
	t.Helper()
	fatal(t, db.Close())
	return db.Path()
}

// What came with a checkpoint, and was spoilt before it was converted, is not taken for
// what came.
func TestConvertSpoiltExcerpt(t *testing.T) {
	h := newHistory(t, 11)
	for h.size() < 90 {
		h.grow()
	}
	path := closed(t, h.begin(90))
	age(t, path)
	db, err := bbolt.Open(path, 0o600, nil)
	fatal(t, err)
	var spoilt commitlog.CommitID
	fatal(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(logName)).Bucket([]byte("commits"))
		k, v := b.Cursor().Last()
		spoilt = commitlog.CommitID(be64(k))
		header := append([]byte{}, v...)
		header[100] ^= 1
		return b.Put(append([]byte{}, k...), header)
	}))
	fatal(t, db.Close())
	fatal(t, store.Convert(path, store.Options{}, "", nil))
	s, err := store.Open(path, store.Options{})
	fatal(t, err)
	h.view(s, func(l *store.Log) error {
		header, err := l.Header(spoilt)
		fatal(t, err)
		if leaf, err := l.ReadHash(commitlog.TreeIndex(uint64(spoilt) - 1)); err == nil && leaf == commitlog.LeafHash(header) {
			t.Errorf("commit %d is spoilt, and in the tree", spoilt)
		}
		return nil
	})
	fatal(t, s.Close())
}

// Whichever bit of a key is flipped, converting says that the store is damaged, or comes to
// a log that has all else.
func TestConvertFlippedKeys(t *testing.T) {
	names := []string{"commits", "changes", "tree", "live", "retired", "restates", "sequences", "authors", "head"}
	for i, name := range names {
		for bit := range 8 * 27 {
			if testing.Short() && bit%8 != i%8 {
				continue
			}
			h := newHistory(t, 5)
			path := closed(t, h.db)
			age(t, path)
			db, err := bbolt.Open(path, 0o600, nil)
			fatal(t, err)
			flipped := false
			fatal(t, db.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(logName)).Bucket([]byte(name))
				if b == nil {
					return nil
				}
				k, v := b.Cursor().Last()
				if flipped = bit/8 < len(k); !flipped {
					return nil
				}
				key, value := append([]byte{}, k...), append([]byte{}, v...)
				fatal(t, b.Delete(key))
				key[bit/8] ^= 0x80 >> (bit % 8)
				return b.Put(key, value)
			}))
			fatal(t, db.Close())
			if !flipped {
				break
			}
			if err := store.Convert(path, store.Options{NoSync: true}, "", nil); err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s, bit %d: %v", name, bit, err)
			}
		}
	}
}

// An element that is out of order is damage, which converting does not hide by putting it
// in order: its key was another.
func TestConvertDisorder(t *testing.T) {
	h := newHistory(t, 5)
	h.update(h.db, func(_ *store.Log, tx *store.Tx) error {
		b, err := tx.CreateBucket("other")
		for i := range 2000 {
			fatal(t, b.Put(fmt.Appendf(nil, "element %04d", i), []byte{1}))
		}
		return err
	})
	path := closed(t, h.db)
	age(t, path)
	file, err := os.ReadFile(path)
	fatal(t, err)
	at := -1
	for n := 1000; at < 0; n++ {
		key := fmt.Appendf(nil, "element %04d", n)
		if bytes.Count(file, key) == 1 { // otherwise it is in a branch, too, and looked at there
			at = bytes.Index(file, key)
		}
	}
	file[at+len("element ")] = '3'
	fatal(t, os.WriteFile(path, file, 0o600))
	testonly.ShallowOpen = true
	defer func() { testonly.ShallowOpen = false }()
	if err := store.Convert(path, store.Options{}, "", nil); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "other") {
		t.Errorf("%v, want ErrDamaged", err)
	}
}
