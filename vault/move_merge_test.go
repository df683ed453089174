package vault_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A vault was moved, its old secondary was restored from a backup of before, and a
// device that was away has written there. Its owner gives the new one up: both
// histories come together at the old one, and the log says that the vault is there.
func TestMergeAfterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b, c := m.vault.Device(t, "a", vault.Config{}), m.vault.Device(t, "b", vault.Config{}), m.vault.Device(t, "c", vault.Config{})
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, a, b, c)
		old := m.at[0].Copy(t)
		for _, d := range []*vaulttest.Device{a, b, c} {
			d.Network.LeadAlso(m.at[1])
		}
		i := m.at[1].Invite()
		_, _, err := a.Move(t.Context(), m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{})
		fatal(t, err)
		put(t, a.Vault, "two", "a")
		vaulttest.Sync(t, a, c)
		m.is(m.at[1], a, c)
		for _, d := range []*vaulttest.Device{a, b, c} {
			d.Network.Lead(old)
		}
		put(t, b.Vault, "three", "b")
		vaulttest.Sync(t, b)

		m.at[1].Stop()
		for _, d := range []*vaulttest.Device{a, c} {
			fatal(t, d.SetServers([]keyfile.Server{server(old.Invite())}))
		}
		if _, err := a.Refill(t.Context(), m.vault.Root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
			t.Fatalf("got %v", err)
		}
		_, err = a.Merge(t.Context(), m.vault.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		fatal(t, a.TryAgain(t.Context()))
		vaulttest.Sync(t, a, b, c, a, b)
		vaulttest.InStep(t, a, b, c)
		m.is(old, a, b, c)
		for _, d := range []*vaulttest.Device{a, b, c} {
			is, err := d.Moved(t.Context())
			if err != nil || is == nil || is.To.Key != old.ServerKey().Public() || !is.Arrived {
				t.Errorf("it was moved %+v, %v", is, err)
			}
			for _, name := range []string{"one", "two", "three"} {
				if _, err := d.Namespace("notes").Get(t.Context(), name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}
