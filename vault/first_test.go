package vault_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// B17: what is written during the first sync is there at once, and goes up once.
func TestWriteDuringFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		owner := s.NewVault(t)
		a := owner.Device(t, "a", vault.Config{})
		const records = 30
		for i := range records { // more than a frame takes
			_, err := a.Namespace("notes").Put(t.Context(), fmt.Sprintf("old %02d", i), make([]byte, 60<<10))
			fatal(t, err)
		}
		put(t, a.Vault, "both", "a")
		vaulttest.Sync(t, a)

		// A device that is not admitted yet, on a slow line.
		invite := s.Invite()
		file := newDevice(t, owner.Root)
		file.Servers = []keyfile.Server{{URL: invite.URL, Key: invite.Server, Binding: keyfile.Binding(invite.Binding.String())}}
		dir := t.TempDir() + "/vault"
		fatal(t, vault.Create(dir, file, "b"))
		b := openVault(t, dir, vault.Config{NoSync: true, KeepEach: true})
		network := s.Network(t)
		network.SetBandwidth(100 << 10)
		o := vault.SyncOptions{Dial: network.Dial}

		sub := b.Watch(t.Context(), "notes")
		written := 0
		write := func() {
			t.Helper()
			name := fmt.Sprintf("new %02d", written)
			written++
			began := time.Now()
			put(t, b, name, "b")
			if got := get(t, b, name); got != "b" || time.Since(began) > 0 {
				t.Errorf("%s is %q after %v", name, got, time.Since(began))
			}
			for rec := range sub.C {
				if rec.Name == name {
					break
				}
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("%s is watched after %v", name, took)
			}
		}
		// run runs a sync and writes every second while it goes on.
		run := func(sync func() error) (during int) {
			t.Helper()
			done := make(chan error, 1)
			go func() { done <- sync() }()
			for {
				select {
				case err := <-done:
					fatal(t, err)
					return during
				case <-time.After(time.Second):
					write()
					during++
				}
			}
		}
		time.Sleep(time.Second) // b's clock is later than a's
		write()                 // before the first word with the secondary
		put(t, b, "both", "b")
		if n := run(func() error {
			_, err := b.Enrol(t.Context(), owner.Root.Authority(), nil, o)
			return err
		}); n < 10 {
			t.Errorf("only %d writes while the device was admitted", n)
		}
		network.SetBandwidth(1 << 10) // so that writes fall into the upload, too
		if n := run(func() error {
			_, err := b.Sync(t.Context(), o)
			return err
		}); n == 0 {
			t.Error("no write during the sync")
		}
		network.SetBandwidth(0)
		_, err := b.Sync(t.Context(), o)
		fatal(t, err)
		vaulttest.Sync(t, a)

		sameDigest(t, a.Vault, b)
		for _, v := range []*vault.Vault{a.Vault, b} {
			st, err := v.Status(t.Context())
			fatal(t, err)
			if want := records + 1 + written; st.Records != want || st.Pending != 0 {
				t.Errorf("%d records and %d changes unsent, want %d", st.Records, st.Pending, want)
			}
			for i := range written {
				versions := 0
				for rec, err := range v.Namespace("notes").History(t.Context(), fmt.Sprintf("new %02d", i)) {
					fatal(t, err)
					if versions++; string(rec.Value) != "b" {
						t.Errorf("new %02d is %q", i, rec.Value)
					}
				}
				if versions != 1 {
					t.Errorf("new %02d has %d versions", i, versions)
				}
			}
			rec, err := v.Namespace("notes").Get(t.Context(), "both")
			fatal(t, err)
			if string(rec.Value) != "b" || rec.Siblings != 1 {
				t.Errorf("written by both: %q, %d siblings", rec.Value, rec.Siblings)
			}
		}
	})
}
