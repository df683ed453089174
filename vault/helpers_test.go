package vault_test

import (
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/vault"
)

// newDevice returns the device file of a new device of the vault with this root.
func newDevice(t testing.TB, root keys.Root) *keyfile.Device {
	t.Helper()
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	fatal(t, err)
	return &keyfile.Device{
		Vault: root.VaultID(), ID: k.ID(), Seed: seed, Authority: root.Authority().Public(),
		TagSecret: root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: root.Epoch(1)}},
	}
}

// newVault returns an open vault without a secondary.
func newVault(t testing.TB, conf vault.Config) *vault.Vault {
	t.Helper()
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"))
	return openVault(t, dir, conf)
}

func openVault(t testing.TB, dir string, conf vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), dir, conf)
	fatal(t, err)
	t.Cleanup(func() { fatal(t, v.Close()) })
	return v
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// manual is a clock that stands still until it is set.
type manual struct{ t time.Time }

func (m *manual) now() time.Time { return m.t }
