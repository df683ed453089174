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

var ne = binary.NativeEndian

// filled returns the file of a store that has branches and free pages, and which
// pages are of which kind.
func filled(t *testing.T) (file []byte, kinds map[uint16][]int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := store.Open(path, store.Options{NoSync: true})
	fatal(t, err)
	for round := range 3 {
		fatal(t, db.Update(func(tx *store.Tx) error {
			b, err := tx.CreateBucket("b")
			for i := 0; i < 500 && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "key %04d", i), bytes.Repeat([]byte{byte(round)}, 100))
			}
			return err
		}))
	}
	fatal(t, db.Close())
	file, err = os.ReadFile(path)
	fatal(t, err)
	kinds = make(map[uint16][]int)
	for at := 0; at < len(file); at += os.Getpagesize() {
		kinds[ne.Uint16(file[at+8:])] = append(kinds[ne.Uint16(file[at+8:])], at)
	}
	return file, kinds
}

// What would end the process, or never end, is damage before it is used.
func TestPagesThatLeadAstray(t *testing.T) {
	file, kinds := filled(t)
	const branch, freelist = 1, 16
	page := func(at int) uint64 { return uint64(at / os.Getpagesize()) }
	// The newest root is above both the older one and free pages.
	root := ne.Uint64(file[16+16:])
	if other := os.Getpagesize(); ne.Uint64(file[other+16+48:]) > ne.Uint64(file[16+48:]) {
		root = ne.Uint64(file[other+16+16:])
	}
	if len(kinds[branch]) == 0 || len(kinds[freelist]) == 0 || root == 0 {
		t.Fatalf("a store without what is to be spoilt: %v", kinds)
	}
	for name, spoil := range map[string]func(b []byte){
		"a branch that is its own child": func(b []byte) {
			for _, at := range kinds[branch] {
				ne.PutUint64(b[at+16+8:], page(at))
			}
		},
		"a branch with the root below it": func(b []byte) {
			for _, at := range kinds[branch] {
				ne.PutUint64(b[at+16+8:], root)
			}
		},
		"two children that are one": func(b []byte) {
			for _, at := range kinds[branch] {
				copy(b[at+16+8:at+16+16], b[at+32+8:])
			}
		},
		"a free list without end": func(b []byte) {
			for _, at := range kinds[freelist] {
				ne.PutUint16(b[at+10:], 0xFFFF)
				ne.PutUint64(b[at+16:], 1<<60)
			}
		},
		"a free page that is used": func(b []byte) {
			for _, at := range kinds[freelist] {
				ne.PutUint16(b[at+10:], 1)
				ne.PutUint64(b[at+16:], root)
			}
		},
		"a page that overflows the file": func(b []byte) {
			for _, at := range kinds[branch] {
				ne.PutUint32(b[at+12:], 1<<31)
			}
		},
		"one meta page": func(b []byte) { clear(b[:os.Getpagesize()]) },
	} {
		for _, shallow := range []bool{false, true} {
			b := bytes.Clone(file)
			spoil(b)
			path := filepath.Join(t.TempDir(), "b.db")
			fatal(t, os.WriteFile(path, b, 0o600))
			testonly.ShallowOpen = shallow
			db, err := store.Open(path, store.Options{})
			testonly.ShallowOpen = false
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s (shallow: %v): %v", name, shallow, err)
			}
			if err == nil {
				fatal(t, db.Close())
			}
			// It can be opened for reading what is left, and is not locked.
			elements := 0
			_, err = store.Read(path, func([]string, uint64) {}, func([]string, []byte, []byte) { elements++ }, func([]byte, []byte) { elements++ })
			fatal(t, err)
			if elements < 400 {
				t.Errorf("%s: %d of 500 elements can be read", name, elements)
			}
		}
	}
}

// The branches of a bucket that stands behind many values are looked through as well.
func TestPagesBehindValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := store.Open(path, store.Options{NoSync: true})
	fatal(t, err)
	fatal(t, db.Update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket("log")
		fatal(t, err)
		in, err := b.CreateBucket("~past")
		fatal(t, err)
		for i := range 30_000 { // two levels of branches
			fatal(t, b.Put(fmt.Appendf(nil, "key %05d", i), bytes.Repeat([]byte{1}, 100)))
		}
		for i := range 500 {
			fatal(t, in.Put(fmt.Appendf(nil, "past %05d", i), bytes.Repeat([]byte{1}, 100)))
		}
		return nil
	}))
	fatal(t, db.Close())
	testonly.ShallowOpen = true
	defer func() { testonly.ShallowOpen = false }()
	db, err = store.Open(path, store.Options{})
	fatal(t, err)
	fatal(t, db.Close())
	file, err := os.ReadFile(path)
	fatal(t, err)
	spoilt := 0
	for at := 0; at < len(file); at += os.Getpagesize() {
		first := at + 16 + int(ne.Uint32(file[at+16:]))
		if ne.Uint16(file[at+8:]) == 1 && bytes.HasPrefix(file[first:], []byte("past")) {
			ne.PutUint64(file[at+16+8:], uint64(at/os.Getpagesize())) // its own child
			spoilt++
		}
	}
	fatal(t, os.WriteFile(path, file, 0o600))
	if _, err = store.Open(path, store.Options{}); !errors.Is(err, store.ErrDamaged) || spoilt != 1 {
		t.Errorf("%d branches spoilt: %v", spoilt, err)
	}
}

// Whatever page is gone, all elements of the others are found.
func TestReadFindsWhatIsLeft(t *testing.T) {
	file, _ := filled(t)
	for at := 0; at < len(file); at += os.Getpagesize() {
		b := bytes.Clone(file)
		clear(b[at : at+os.Getpagesize()])
		path := filepath.Join(t.TempDir(), "b.db")
		fatal(t, os.WriteFile(path, b, 0o600))
		found := make(map[string]bool)
		see := func(key, value []byte) {
			if bytes.Equal(value, bytes.Repeat([]byte{2}, 100)) {
				found[string(key)] = true
			}
		}
		r, err := store.Read(path, func([]string, uint64) {}, func(_ []string, key, value []byte) { see(key, value) }, see)
		fatal(t, err)
		if len(found) < 500-80 {
			t.Errorf("without page %d, of kind %d: %d of 500, %v", at/os.Getpagesize(), ne.Uint16(file[at+8:]), len(found), r.Faults)
		}
	}
}

func TestCheckFindsAHealthyStoreHealthy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	file, _ := filled(t)
	fatal(t, os.WriteFile(path, file, 0o600))
	db, err := store.Open(path, store.Options{NoSync: true})
	fatal(t, err)
	defer db.Close()
	for i := range 50 {
		fatal(t, db.Update(func(tx *store.Tx) error {
			b := tx.Bucket("b")
			for j := range 40 {
				if err := b.Put(fmt.Appendf(nil, "key %04d", (i*37+j*11)%700), make([]byte, (i*997+j*131)%9000)); err != nil {
					return err
				}
				if err := b.Delete(fmt.Appendf(nil, "key %04d", (i*53+j*7)%700)); err != nil {
					return err
				}
			}
			return nil
		}))
		fatal(t, db.Check())
	}
}
