package vault_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// behind returns a vault whose secondary was set back to a backup, which device b has
// met and a and c have not: a has all that was lost. Nobody has written since.
func behind(t *testing.T) (s *vaulttest.Secondary, v *vaulttest.Vault, a, b, c *vaulttest.Device) {
	s = vaulttest.NewSecondary(t)
	v = s.NewVault(t)
	a, b, c = v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{}), v.Device(t, "c", vault.Config{})
	put(t, a.Vault, "x", "1")
	vaulttest.Sync(t, a, b, c)
	old := backup(t, s)
	put(t, a.Vault, "x", "2")
	put(t, b.Vault, "y", "b")
	vaulttest.Sync(t, a, b, a)
	old()
	put(t, b.Vault, "unsent by b", "b")
	if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrRollback) {
		t.Fatalf("got %v, want a rollback", err)
	}
	return s, v, a, b, c
}

func standing(t *testing.T, d *vaulttest.Device, want bool) {
	t.Helper()
	if al, err := d.Alarm(t.Context()); err != nil || (al != nil) != want {
		t.Fatalf("alarm %v, %v", al, err)
	}
}

// F43: a secondary that had gone back is filled again from one device. Another, which had
// met it in between, goes on by itself, and what it saw is kept.
func TestCaughtUp(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, v, a, b, c := behind(t)
			for range 2 {
				if _, err := b.Sync(t.Context(), vault.SyncOptions{Full: full}); !errors.Is(err, commitlog.ErrRollback) {
					t.Fatalf("got %v, want a rollback", err)
				}
				b.Reopen()
			}
			_, err := a.Refill(t.Context(), v.Root.Authority(), nil, vault.SyncOptions{})
			fatal(t, err)
			put(t, c.Vault, "from c", "c")
			vaulttest.Sync(t, c, a)
			_, err = b.Sync(t.Context(), vault.SyncOptions{Full: full})
			fatal(t, err)
			standing(t, b, false)
			vaulttest.Sync(t, b, a, c, b)
			vaulttest.InStep(t, a, b, c)
			all, err := b.Alarms(t.Context())
			fatal(t, err)
			if len(all) != 1 || !all[0].CaughtUp || all[0].Tried.IsZero() || !all[0].MayPass() || all[0].Said.Size >= all[0].Size {
				t.Errorf("%+v", all)
			}
			b.Reopen()
			if again, err := b.Alarms(t.Context()); err != nil || len(again) != 1 || !again[0].CaughtUp {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// An alarm stays while anything that the secondary says now, or had said then, is not
// what this device has verified.
func TestNotCaughtUp(t *testing.T) {
	for name, test := range map[string]struct {
		then, now lying.Mutation
		want      error
	}{
		"it lacks a commit":        {now: lying.Change("less", 1, func(b *wire.Bound) { b.Size-- }), want: commitlog.ErrRollback},
		"another root":             {now: lying.Change("root", 1, func(b *wire.Bound) { b.Root[0] ^= 1 }), want: commitlog.ErrRollback},
		"no answer":                {now: lying.Drop(wire.TypeBound, lying.All), want: commitlog.ErrRollback},
		"it was another history":   {then: lying.Change("fork", 1, func(b *wire.Bound) { b.Root[0] ^= 1 }), want: commitlog.ErrFork},
		"a device that it knew of": {now: lying.Change("last", 1, func(b *wire.Bound) { b.Last[len(b.Last)-1] ^= 1 }), want: commitlog.ErrRollback},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, v, a, b, _ := behind(t)
				if test.then.Name != "" {
					fatal(t, b.TryAgain(t.Context()))
					liar := s.Lie(test.then)
					if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !vault.IsAlarm(err) {
						t.Fatal(err)
					}
					liar.Tell(lying.Mutation{})
				}
				_, err := a.Refill(t.Context(), v.Root.Authority(), nil, vault.SyncOptions{})
				fatal(t, err)
				vaulttest.Sync(t, a)
				before, err := b.Status(t.Context())
				fatal(t, err)
				liar := s.Lie(test.now)
				for _, full := range []bool{false, true} {
					liar.Tell(test.now)
					if _, err := b.Sync(t.Context(), vault.SyncOptions{Full: full}); !errors.Is(err, test.want) {
						t.Errorf("full %v: got %v, want %v", full, err, test.want)
					}
				}
				standing(t, b, true)
				if st, err := b.Status(t.Context()); err != nil || st.Root != before.Root || st.Pending != before.Pending {
					t.Errorf("%+v, was %+v, %v", st, before, err)
				}
			})
		})
	}
}

// A secondary that was set back, and that others have written to since, is no such case:
// it is another history, and stays one.
func TestCaughtUpWithAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, _, b, c := behind(t)
		for i := range 10 {
			put(t, c.Vault, "from c", string(rune('a'+i)))
			vaulttest.Sync(t, c)
		}
		for range 2 {
			if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrRollback) {
				t.Errorf("got %v, want the alarm that stands", err)
			}
		}
		standing(t, b, true)
	})
}
