package vaulttest

import (
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A Vault is one owner's vault at a secondary. Its root is in memory; there is no
// key file.
type Vault struct {
	Root keys.Root

	secondary *Secondary
	invite    *wire.Invite // nil: used
}

// NewVault returns a vault, which the first of its devices makes.
func (s *Secondary) NewVault(t testing.TB) *Vault {
	t.Helper()
	i := s.Invite()
	return &Vault{Root: keys.GenerateRoot(), secondary: s, invite: &i}
}

// A Device is one device of a [Vault], open, admitted and connected through a
// network of its own.
type Device struct {
	*vault.Vault          // Reopen and Crash replace it
	Network      *Network // to the secondary; the only way there
	Dir          string   // of the vault

	t    testing.TB
	conf vault.Config
}

// Device admits another device to the vault, under a name for people. It is in
// step with the secondary then. What it took to come there is forgotten: its
// network counts from 1. The device is closed with the test.
func (v *Vault) Device(t testing.TB, name string, conf vault.Config) *Device {
	t.Helper()
	d := v.New(t, name, conf, v.secondary)
	var token *wire.Token
	if v.invite != nil {
		token = &v.invite.Token
	}
	if _, err := d.Enrol(t.Context(), v.Root.Authority(), token, vault.SyncOptions{}); err != nil {
		t.Fatalf("admitting %s: %v", name, err)
	}
	v.invite = nil
	d.Network.Break()
	d.Network.finished.Wait() // a goodbye would be counted
	d.Network.Reset()
	return d
}

// Reopen closes the vault and opens it again, as when its program is started
// anew.
func (d *Device) Reopen() {
	d.t.Helper()
	d.close()
	d.open()
}

// Crash is Reopen without grace: connections break first, so that nothing is said
// any more. What the vault has returned from is kept; what it was doing is not
// done.
func (d *Device) Crash() {
	d.t.Helper()
	d.Network.Break()
	d.Reopen()
}

func (d *Device) open() {
	d.t.Helper()
	v, err := vault.Open(d.t.Context(), d.Dir, d.conf)
	if err != nil {
		d.t.Fatal(err)
	}
	d.Vault = v
}

func (d *Device) close() {
	d.t.Helper()
	if err := d.Vault.Close(); err != nil {
		d.t.Error(err)
	}
}

// Sync syncs devices once each, in order. The test fails where one leaves
// anything undone.
func Sync(t testing.TB, devices ...*Device) {
	t.Helper()
	for _, d := range devices {
		r, err := d.Vault.Sync(t.Context(), vault.SyncOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Pending != 0 || r.Missing != 0 || r.Aside != 0 || r.Quarantine != 0 {
			t.Fatalf("sync left something undone: %+v", r)
		}
	}
}

// InStep checks that devices hold the same: their digests are equal, and nothing
// waits to be sent.
func InStep(t testing.TB, devices ...*Device) {
	t.Helper()
	var first commitlog.Hash
	for i, d := range devices {
		digest, pending, err := d.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = digest
		}
		if digest != first || pending != 0 {
			t.Errorf("device %d of %d: digest %x with %d changes unsent, the first has %x", i+1, len(devices), digest, pending, first)
		}
	}
}
