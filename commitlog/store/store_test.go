package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
)

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(path, store.Options{})
	fatal(t, err)
	return db
}

func key(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Many writers at a time, some of which fail before and after their first
// write: exactly those that were told so are stored.
func TestUpdateTogether(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	defer db.Close()
	fatal(t, db.Update(func(tx *store.Tx) error { _, err := tx.CreateBucket("b"); return err }))
	boom := errors.New("boom")
	var wg sync.WaitGroup
	got := make([]error, 200)
	for i := range got {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					got[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			got[i] = db.Update(func(tx *store.Tx) error {
				if i%4 == 1 {
					return boom
				}
				if err := tx.Bucket("b").Put(key(i), []byte("v")); err != nil {
					return err
				}
				switch i % 4 {
				case 2:
					return boom
				case 3:
					panic("mine")
				}
				return nil
			})
		})
	}
	wg.Wait()
	fatal(t, db.View(func(tx *store.Tx) error {
		for i, err := range got {
			stored := tx.Bucket("b").Get(key(i)) != nil
			if stored != (i%4 == 0) || (err == nil) != (i%4 == 0) {
				t.Errorf("writer %d: stored %v, error %v", i, stored, err)
			}
			if i%4 == 3 && err.Error() != "panic: mine" {
				t.Errorf("writer %d: %v", i, err)
			}
		}
		return nil
	}))
}

// An Update that writes nothing leaves the file as it is: there is nothing to
// wait for.
func TestUpdateOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	defer db.Close()
	put := func(tx *store.Tx) error {
		b, err := tx.CreateBucket("b")
		if err != nil {
			return err
		}
		return b.Put(key(1), []byte("v"))
	}
	fatal(t, db.Update(put))
	read := func() []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		fatal(t, err)
		return b
	}
	before := read()
	fatal(t, db.Update(func(tx *store.Tx) error {
		if got := tx.Bucket("b").Get(key(1)); string(got) != "v" {
			t.Errorf("got %q", got)
		}
		_, err := tx.CreateBucket("b") // it is there
		return err
	}))
	if !bytes.Equal(read(), before) {
		t.Error("the file was written to")
	}
	fatal(t, db.Update(put))
	if bytes.Equal(read(), before) {
		t.Error("a write left the file as it was")
	}
}

// A bucket that has to be there and is not ends the transaction that uses it, and
// that alone, as damage; one that nobody uses is not looked for.
func TestLazyBucket(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	defer db.Close()
	fatal(t, db.Update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket("outer")
		if err == nil {
			_, err = b.CreateBucket("inner")
		}
		return err
	}))
	inner := func(tx *store.Tx) *store.Bucket { return tx.Lazy("outer").Lazy("inner").Append() }
	fatal(t, db.Update(func(tx *store.Tx) error {
		tx.Lazy("absent").Append()
		return inner(tx).Put(key(1), key(2))
	}))
	for _, use := range []func(tx *store.Tx){
		func(tx *store.Tx) { tx.Lazy("absent").Get(key(1)) },
		func(tx *store.Tx) { tx.Lazy("outer").Lazy("absent").Empty() },
		func(tx *store.Tx) { tx.Lazy("absent").Lazy("inner").Get(key(1)) },
	} {
		if err := db.View(func(tx *store.Tx) error { use(tx); return nil }); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("View: %v, want ErrDamaged", err)
		}
		err := db.Update(func(tx *store.Tx) error {
			fatal(t, inner(tx).Put(key(1), key(3)))
			use(tx)
			return nil
		})
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Update: %v, want ErrDamaged", err)
		}
	}
	fatal(t, db.View(func(tx *store.Tx) error {
		if got := inner(tx).Get(key(1)); !bytes.Equal(got, key(2)) {
			t.Errorf("stored %x", got)
		}
		return nil
	}))
}

func TestOpenInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	defer db.Close()
	if _, err := store.Open(path, store.Options{Timeout: 1}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

// A damaged file is an error, never a crash of the process.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	fatal(t, db.Update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket("b")
		for i := range 2000 {
			if err == nil {
				err = b.Put(key(i), bytes.Repeat([]byte{byte(i)}, 100))
			}
		}
		return err
	}))
	fatal(t, db.Close())
	whole, err := os.ReadFile(path)
	fatal(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		bad := bytes.Clone(whole)
		what := "flip"
		switch i % 3 {
		case 0:
			for range 8 {
				bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			}
		case 1:
			what = "cut"
			bad = bad[:rng.IntN(len(bad))]
		case 2:
			what = "page"
			page := rng.IntN(len(bad)/4096) * 4096
			for j := range 4096 {
				bad[page+j] = byte(rng.Uint32())
			}
		}
		fatal(t, os.WriteFile(path, bad, 0o600))
		db, err := store.Open(path, store.Options{})
		if err != nil {
			continue
		}
		err = db.View(func(tx *store.Tx) error {
			b := tx.Bucket("b")
			if b == nil {
				return nil
			}
			return b.Scan(nil, func(k, v []byte) (bool, error) { _ = bytes.Clone(v); return true, nil })
		})
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s %d: reading: %v", what, i, err)
		}
		_ = db.Update(func(tx *store.Tx) error {
			b, err := tx.CreateBucket("b")
			if err != nil {
				return err
			}
			return b.Put(key(1), []byte("new"))
		})
		_ = db.Close()
	}
}

func TestObjects(t *testing.T) {
	dir := t.TempDir()
	o, err := store.OpenObjects(dir)
	fatal(t, err)
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	hash := commitlog.Hash(sha256.Sum256(data))
	size := int64(len(data))
	for off := int64(0); off < size; {
		n := min(size-off, 70_000)
		if off == 140_000 { // a cut: a new process asks how far it is
			o, err = store.OpenObjects(dir)
			fatal(t, err)
			have, whole, err := o.Have(hash)
			fatal(t, err)
			if have != off || whole {
				t.Fatalf("have %d, whole %v, want %d", have, whole, off)
			}
			have, err = o.Write(hash, size, 0, data[:10]) // does not go on where it is
			fatal(t, err)
			if have != off {
				t.Fatalf("have %d after a repeat, want %d", have, off)
			}
		}
		have, err := o.Write(hash, size, off, data[off:off+n])
		fatal(t, err)
		off = have
	}
	verify := func(want bool) {
		t.Helper()
		if good, err := o.Verify(hash); err != nil || good != want {
			t.Errorf("verify: %v, %v, want %v", good, err, want)
		}
	}
	verify(true)
	path := filepath.Join(dir, hash.String()[:2], hash.String())
	for _, spoilt := range [][]byte{append(bytes.Clone(data), 0), data[1:], nil} {
		fatal(t, os.WriteFile(path, spoilt, 0o600))
		verify(false)
	}
	fatal(t, os.Remove(path))
	verify(false)
	fatal(t, os.WriteFile(path, data, 0o600))
	f, err := o.Open(hash)
	fatal(t, err)
	got, err := io.ReadAll(f)
	fatal(t, err)
	fatal(t, f.Close())
	if !bytes.Equal(got, data) {
		t.Error("not the bytes that were written")
	}
	wrong := hash
	wrong[0] ^= 1
	if _, err := o.Write(wrong, size, 0, data); !errors.Is(err, commitlog.ErrBlob) {
		t.Errorf("other bytes: %v", err)
	}
	if have, _, _ := o.Have(wrong); have != 0 {
		t.Errorf("other bytes: %d are kept", have)
	}
	if _, err := o.Open(wrong); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	made, err := o.Create(func(w io.Writer) (commitlog.Hash, error) {
		_, err := w.Write([]byte("short"))
		return sha256.Sum256([]byte("short")), err
	})
	fatal(t, err)
	if _, whole, _ := o.Have(made); !whole {
		t.Error("a created object is not there")
	}
	boom := errors.New("boom")
	if _, err := o.Create(func(io.Writer) (commitlog.Hash, error) { return hash, boom }); !errors.Is(err, boom) {
		t.Errorf("create: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
