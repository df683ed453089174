package embedded_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// A vault whose log is damaged is listed and found, can be removed, and keeps no other
// from being compacted, tidied and removed.
func TestOneIsDamaged(t *testing.T) {
	for name, spoil := range map[string]func(tx *store.Tx, log string) error{
		"gone": func(tx *store.Tx, log string) error { return tx.DeleteBucket(log) },
		"head": func(tx *store.Tx, log string) error {
			return tx.Bucket(log).ScanPrefix([]byte("h"), nil, func(k, v []byte) (bool, error) {
				return true, tx.Bucket(log).Put(bytes.Clone(k), []byte{1})
			})
		},
		"end": func(tx *store.Tx, log string) error { // of a change that is not there, behind what was compacted
			k := append(make([]byte, 0, 19), "r\x00\x00\x00\x00\x00\x00\x00\xFF\x00\x00\x00\x00\x00\x00\x09\x09\x00\x00"...)
			return tx.Bucket(log).Put(k, make([]byte, 8))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			vaults := []*rawvault.Vault{w.v}
			for i := range 2 {
				token := wire.Token{2, byte(i)}
				w.v = rawvault.New()
				w.d = w.v.NewDevice()
				err := errors.Join(w.e.Invite(t.Context(), token, 1, w.now.Add(time.Hour), nil), w.e.Create(t.Context(), token, w.v.Authority.Public(), w.now))
				if err != nil {
					t.Fatal(err)
				}
				w.add(w.v.ControlCommit(w.d.Registration(false)))
				w.add(w.d.Commit(keys.Tag{1}, 3), nil)
				w.add(w.d.Delete(keys.Tag{1}, commitlog.ChangeID{Commit: 2}), nil)
				vaults = append(vaults, w.v)
			}
			slices.SortFunc(vaults, func(a, b *rawvault.Vault) int { return strings.Compare(a.ID().String(), b.ID().String()) })
			bad := vaults[0].ID() // whose turn comes first
			reopen(w, func(tx *store.Tx) error { return spoil(tx, "log/"+bad.String()) })

			var listed []keys.VaultID
			err := w.e.EachTenant(t.Context(), func(x *engine.Tenant) error {
				listed = append(listed, x.Vault)
				if (x.Fault != nil) != (x.Vault == bad && name != "end") || x.Fault != nil && !errors.Is(x.Fault, store.ErrDamaged) || x.State != engine.StateActive {
					t.Errorf("%s: %v, %v", x.Vault, x.State, x.Fault)
				}
				return nil
			})
			if err != nil || len(listed) != len(vaults) {
				t.Errorf("listed %v, %v", listed, err)
			}
			if _, faults := w.verify(engine.VerifyOptions{}); len(faults) != 1 {
				t.Errorf("verified: %q", faults)
			}
			if done, err := w.e.Compact(t.Context(), w.now); !errors.Is(err, store.ErrDamaged) || done.Blobs < 1 {
				t.Errorf("compacted %+v, %v", done, err)
			}
			if _, err := w.e.Tidy(t.Context(), w.now.Add(2*time.Hour), true); err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("tidied: %v", err)
			}
			for _, v := range vaults {
				if err := w.e.SetState(t.Context(), v.ID(), engine.StateDeleted, w.now); err != nil {
					t.Errorf("deleting %s: %v", v.ID(), err)
				}
			}
			if n, err := w.e.Remove(t.Context(), w.now); n != len(vaults) || err != nil {
				t.Errorf("removed %d, %v", n, err)
			}
		})
	}
}
