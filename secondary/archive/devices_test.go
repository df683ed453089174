package archive_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// Devices notice nothing where their secondary's vaults were exported and taken in by
// one with the same key: not those that are ahead of it, and not one that begins anew.
func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := vaulttest.NewSecondary(t)
		v := s.NewVault(t)
		laptop, phone := v.Device(t, "laptop", vault.Config{}), v.Device(t, "phone", vault.Config{})
		long := make([]byte, 300_000)
		rand.Read(long)
		write := func(d *vaulttest.Device, name string, value []byte) {
			t.Helper()
			_, err := d.Namespace("notes").PutFrom(ctx, name, bytes.NewReader(value))
			fatal(t, err)
		}
		write(laptop, "long", long)
		for range 3 {
			write(laptop, "changing", []byte("what it is now"))
			vaulttest.Sync(t, laptop, phone)
		}
		fatal(t, phone.Namespace("notes").Delete(ctx, "changing"))
		write(phone, "kept", []byte("by the phone"))
		vaulttest.Sync(t, phone, laptop)
		write(laptop, "unsent", []byte("by the laptop"))

		// From one directory to another, as a file.
		s.Stop()
		from := openAt(t, s.Dir)
		s.Dir = t.TempDir()
		to := openAt(t, s.Dir)
		fatal(t, from.EachTenant(ctx, func(x *engine.Tenant) error {
			data, done := export(t, from, x.Vault)
			if done.Missing > 0 || done.Objects != 1 {
				t.Errorf("exported %+v", done)
			}
			return takeIn(ctx, to, data)
		}))
		verified(t, to)
		fatal(t, from.Close())
		fatal(t, to.Close())
		s.Start()

		vaulttest.Sync(t, laptop, phone)
		tablet := v.Device(t, "tablet", vault.Config{})
		write(tablet, "new", []byte("by the tablet"))
		vaulttest.Sync(t, tablet, laptop, phone, tablet)
		vaulttest.InStep(t, laptop, phone, tablet)
		for _, d := range []*vaulttest.Device{laptop, phone, tablet} {
			if a, err := d.Alarm(ctx); a != nil || err != nil {
				t.Errorf("alarm: %+v, %v", a, err)
			}
			_, r, err := d.Namespace("notes").Open(ctx, "long")
			fatal(t, err)
			got, err := io.ReadAll(r)
			fatal(t, err)
			fatal(t, r.Close())
			if !bytes.Equal(got, long) {
				t.Error("the long value is another")
			}
			if rec, err := d.Namespace("notes").Get(ctx, "unsent"); err != nil || string(rec.Value) != "by the laptop" {
				t.Errorf("%+v, %v", rec, err)
			}
		}
	})
}

func verified(t *testing.T, e *embedded.Engine) {
	t.Helper()
	if _, err := e.Verify(t.Context(), engine.VerifyOptions{Pages: true}, func(f engine.Fault) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}
