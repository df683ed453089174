package vault_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// Status says when the vault was in step last: what a session was in step up to, over
// restarts, and though nothing has gone back and forth for long.
func TestLastInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		d := s.NewVault(t).Device(t, "a", vault.Config{})
		begin := time.Now()
		ago := func(want time.Duration) {
			t.Helper()
			st, err := d.Status(t.Context())
			fatal(t, err)
			// A session that is idle is heard every 20 s.
			if got := time.Since(st.InStep); got < want-time.Millisecond || got > want+20*time.Second {
				t.Errorf("%v after the beginning: in step %v ago, want %v", time.Since(begin), got, want)
			}
		}
		ago(0) // it was admitted
		time.Sleep(3 * time.Hour)
		ago(3 * time.Hour)
		d.Reopen()
		ago(3 * time.Hour)
		put(t, d.Vault, "x", "1")
		if _, err := d.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly}); err != nil {
			t.Fatal(err)
		}
		ago(3 * time.Hour) // what is here was not sent
		vaulttest.Sync(t, d)
		ago(0)

		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error)
			go func() { ran <- d.Run(ctx, vault.SyncOptions{}) }()
			fatal(t, d.WaitForUpload(t.Context()))
			return func() { cancel(); <-ran }
		}
		stop := run()
		time.Sleep(5 * time.Hour)
		ago(0)
		stop()
		time.Sleep(time.Minute)
		ago(time.Minute)
		d.Reopen()
		ago(time.Minute)

		// A line that is dead is none: silence ends its session after a minute.
		stop = run()
		time.Sleep(5 * time.Hour)
		d.Network.SetFaults(func(vaulttest.Frame) vaulttest.Fault { return vaulttest.Fault{Stall: true} })
		time.Sleep(time.Hour)
		ago(time.Hour)
		stop()
		d.Reopen()
		ago(time.Hour)
		d.Network.SetFaults(nil)

		// A program that is killed has stored it every hour.
		stop = run()
		time.Sleep(90 * time.Minute)
		copied := d.Copy(t, s)
		st, err := copied.Status(t.Context())
		fatal(t, err)
		if got := time.Since(st.InStep); got > time.Hour+time.Minute {
			t.Errorf("as a crash would leave it, it was in step %v ago", got)
		}
		stop()
	})
}

// Of another secondary it says nothing.
func TestLastInStepElsewhere(t *testing.T) {
	p := newPerson(t)
	d := p.device(vault.Config{})
	sync(t, d)
	servers := slices.Clone(d.Servers())
	servers[0].Key[0] ^= 1
	fatal(t, d.SetServers(servers))
	if st, err := d.Status(t.Context()); err != nil || !st.InStep.IsZero() {
		t.Errorf("in step %v, %v", st.InStep, err)
	}
}
