package vault_test

import (
	"testing"

	"github.com/kistvault/kist/vault"
)

// A transaction that takes back the newest of its changes keeps the others.
func TestUpdateTakesBack(t *testing.T) {
	v := newVault(t, vault.Config{})
	fatal(t, v.Update(t.Context(), "notes", func(tx *vault.Tx) error {
		for _, name := range []string{"kept", "taken back"} {
			if _, err := tx.Put(name, []byte("v")); err != nil {
				return err
			}
		}
		return tx.Delete("taken back")
	}))
	if get(t, v, "kept") != "v" || get(t, v, "taken back") != "-" {
		t.Errorf("got %q, %q", get(t, v, "kept"), get(t, v, "taken back"))
	}
}
