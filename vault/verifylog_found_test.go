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
	for _, part := range []string{"head", "commits", "changes", "live", "sequences", "leaves", "authors", "tree"} {
		var keys [][]byte
		in := func(write bool, fn func(b *store.Bucket) error) {
			t.Helper()
			run := v.db.View
			if write {
				run = v.db.Update
			}
			if err := run(func(tx *store.Tx) error { return fn(tx.Bucket(bucketLog).Bucket(part)) }); err != nil {
				t.Fatal(err)
			}
		}
		in(false, func(b *store.Bucket) error {
			return b.Scan(nil, func(k, _ []byte) (bool, error) {
				keys = append(keys, slices.Clone(k))
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
