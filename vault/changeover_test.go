package vault_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// unseen has a device send what it has, and not see it come back.
func (p *parting) unseen(t *testing.T, d *vaulttest.Device, acknowledged bool) {
	t.Helper()
	end := lying.HangUp(wire.TypeUploaded, 1)
	if acknowledged {
		end = lying.Frames("", wire.TypeUploaded, 1, func(frame []byte) [][]byte { return [][]byte{frame, nil} })
	}
	liar := p.s.Lie(lying.Both("", lying.Drop(wire.TypeDownload, lying.All), end))
	if _, err := d.Sync(t.Context(), vault.SyncOptions{}); err == nil {
		t.Fatal("it came back")
	}
	liar.Tell(lying.Mutation{})
}

// What a device had sent, and not seen again, is in the lost log, and has been seen
// there by the device that brought the histories together. It does not come again, and
// what the device has written since follows on from it.
func TestResetOfWhatWasSent(t *testing.T) {
	for name, lost := range map[string]bool{"its log is the beginning": false, "its log is a lost one": true} {
		for _, acknowledged := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newParting(t) // a has a lost history already
					a, c, d := p.c, p.vaults.Device(t, "e", vault.Config{}), p.vaults.Device(t, "d", vault.Config{})
					put(t, a.Vault, "old", "1")
					put(t, a.Vault, "edited twice", "1")
					vaulttest.Sync(t, a, c, d)
					old := backup(t, p.s)
					if lost {
						put(t, a.Vault, "first of the lost log", "1")
						vaulttest.Sync(t, a, d)
					}
					for _, name := range []string{"kept", "removed by a", "edited by a", "followed by d", "removed by d", "edited by a, followed by d"} {
						put(t, d.Vault, name, "d")
					}
					put(t, d.Vault, "edited twice", "d")
					fatal(t, d.Namespace("notes").Delete(t.Context(), "old"))
					p.unseen(t, d, acknowledged)
					vaulttest.Sync(t, a)
					put(t, a.Vault, "edited by a", "a")
					put(t, a.Vault, "edited by a, followed by d", "a")
					fatal(t, a.Namespace("notes").Delete(t.Context(), "removed by a"))
					vaulttest.Sync(t, a)
					put(t, d.Vault, "followed by d", "d again")
					put(t, d.Vault, "edited twice", "d again")
					put(t, d.Vault, "edited by a, followed by d", "d again")
					fatal(t, d.Namespace("notes").Delete(t.Context(), "removed by d"))
					old()
					put(t, c.Vault, "from c", "c")
					vaulttest.Sync(t, c)
					_, err := a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
					fatal(t, err)
					vaulttest.Sync(t, d, a, c, d)
					vaulttest.InStep(t, a, c, d)
					for name, want := range map[string]string{
						"old": "-", "kept": "d", "removed by a": "-", "edited by a": "a", "followed by d": "d again", "edited twice": "d again", "removed by d": "-",
					} {
						if got := get(t, d.Vault, name); got != want {
							t.Errorf("%s: %q, want %q", name, got, want)
						}
						if got := siblingsOf(t, d.Vault, name); got != nil {
							t.Errorf("%s has versions %q", name, got)
						}
					}
					if got := siblingsOf(t, d.Vault, "edited by a, followed by d"); !slices.Equal(got, []string{"a", "d again"}) {
						t.Errorf("edited by both: %q", got)
					}
				})
			})
		}
	}
}
