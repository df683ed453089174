package vault

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// What is stored beside the commits, and the commits themselves: whatever of it is
// another than it was, or gone, VerifyLog finds it.
func TestVerifyLogFindsWhatDiffers(t *testing.T) {
	v := newLogVault(t, 300)
	report, err := v.VerifyLog(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Commits != 301 || report.Live != logRecords+2 || report.Blobs != 302 {
		t.Fatalf("%+v", report)
	}
	is := func(part byte) func(k []byte) bool {
		return func(k []byte) bool { return k[0] == 'c' && k[9] == part }
	}
	of := func(kind byte, size int) func(k []byte) bool {
		return func(k []byte) bool { return k[0] == kind && (size == 0 || len(k) == size) }
	}
	for part, ours := range map[string]func(k []byte) bool{
		"head": of('h', 0), "headers": is(0), "changes": is(1), "tree": is(2), "live": of('l', 0), "sequences": of('a', 25), "authors": of('a', 18),
	} {
		var keys [][]byte
		in := func(write bool, fn func(b *store.Bucket) error) {
			t.Helper()
			run := v.db.View
			if write {
				run = v.db.Update
			}
			if err := run(func(tx *store.Tx) error { return fn(tx.Bucket(bucketLog)) }); err != nil {
				t.Fatal(err)
			}
		}
		in(false, func(b *store.Bucket) error {
			return b.Scan(nil, func(k, _ []byte) (bool, error) {
				if ours(k) {
					keys = append(keys, slices.Clone(k))
				}
				return true, nil
			})
		})
		for n, i := range []int{0, len(keys) / 3, len(keys) / 2, len(keys) - 1} {
			var value []byte
			in(false, func(b *store.Bucket) error {
				value = slices.Clone(b.Get(keys[i]))
				return nil
			})
			for _, how := range []string{"gone", "changed"} {
				if how == "changed" && len(value) == 0 {
					continue
				}
				in(true, func(b *store.Bucket) error {
					if how == "gone" {
						return b.Delete(keys[i])
					}
					spoilt := bytes.Clone(value)
					spoilt[len(spoilt)*n/4] ^= 0x10
					return b.Put(keys[i], spoilt)
				})
				if _, err := v.VerifyLog(t.Context(), nil); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s, %s, element %d of %d: %v", part, how, i, len(keys), err)
				}
				in(true, func(b *store.Bucket) error { return b.Put(keys[i], value) })
			}
		}
	}
	if _, err := v.VerifyLog(t.Context(), nil); err != nil {
		t.Errorf("as it was: %v", err)
	}
}
