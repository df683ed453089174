package vault_test

import (
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// beforeReset has a device bring the histories together as far as the last step: all
// that its log has done is carried over, and the reset was not sent.
func (p *parting) beforeReset(t *testing.T, d *vaulttest.Device) {
	t.Helper()
	d.Network.Reset()
	owner := 3 // the connection of the owner that sends it, after one that looks and the device's own
	sent := make(map[int]bool)
	d.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
		up := f.Dir == vaulttest.Up && f.Type == wire.TypeUpload
		sent[f.Conn] = sent[f.Conn] || up
		return vaulttest.Fault{Cut: up && f.Conn == owner}
	})
	_, err := d.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
	d.Network.SetFaults(nil)
	if err == nil || sent[1] || !sent[2] || !sent[3] {
		t.Fatalf("it sent %v and was not cut before the reset: %v", sent, err)
	}
}

// Two devices bring the same history in, neither knowing of the other: a, which knows
// more of it, has written its newest version of a record when b writes anew the one
// before, for which the other log has nothing yet. That has ended, and a knows: as it
// goes on, it ends what b wrote. The order is what matters: if b came first, a would
// name what b wrote in its own.
func TestMergeEndsWhatAnotherWroteAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		p.beforeReset(t, p.a)
		p.beforeReset(t, p.b)
		vaulttest.Sync(t, p.c)
		if got := siblingsOf(t, p.c.Vault, "edited again"); len(got) != 2 {
			t.Fatalf("edited again has the versions %q, and not both, as this test needs it", got)
		}
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		p.merged(t)
	})
}

// The same where b writes while a is about to sign the reset.
func TestMergeLooksAgainBeforeTheReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		p.a.Network.Reset()
		begun := false
		p.a.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			if f.Conn == 3 && !begun {
				begun = true
				p.beforeReset(t, p.b)
			}
			return vaulttest.Fault{}
		})
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		p.a.Network.SetFaults(nil)
		p.merged(t)
	})
}

// The same where a is done before b has sent anything: what b was about to write anew
// was ended by the reset with all of b's history.
func TestMergeOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		p.b.Network.Reset()
		begun := false
		p.b.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			if f.Conn == 2 && f.Dir == vaulttest.Up && f.Type == wire.TypeUpload && !begun {
				begun = true
				_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
				fatal(t, err)
			}
			return vaulttest.Fault{}
		})
		_, err := p.b.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		p.b.Network.SetFaults(nil)
		p.merged(t)
	})
}
