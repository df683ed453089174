package main

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// kist run looks by itself whether an alarm has passed: says nothing as long as it has
// not, and says so once it has.
func TestRunCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		vaults := s.NewVault(t)
		a, b := vaults.Device(t, "a", vault.Config{}), vaults.Device(t, "b", vault.Config{})
		s.Stop()
		old := t.TempDir()
		copyTo(t, old, s.Dir)
		s.Start()
		put := func(d *vaulttest.Device, name string) {
			if _, err := d.Namespace("notes").Put(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
		put(a, "x")
		vaulttest.Sync(t, a, b)
		s.Stop()
		copyTo(t, s.Dir, old)
		s.Start()

		h := &held{v: b.Vault, states: &states{}, again: make(chan struct{}, 1)}
		heard := h.states.listen()
		told := func() (out []vault.State) {
			synctest.Wait()
			for _, p := range heard.take() {
				out = append(out, p.State)
			}
			return out
		}
		said := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.keepInStep(ctx, func(*vault.Alarm) { said++ }) }()
		if states := told(); len(states) == 0 || states[len(states)-1] != vault.StateAlarm {
			t.Errorf("%v, want an alarm", states)
		}
		time.Sleep(5 * time.Hour)
		if states := told(); len(states) > 0 || said > 0 {
			t.Errorf("after five hours: %v, and said %d times that it has passed", states, said)
		}
		if _, err := a.Refill(t.Context(), vaults.Root.Authority(), nil, vault.SyncOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * alarmPause)
		if states := told(); len(states) != 1 || states[0] != vault.StateLive || said != 1 {
			t.Errorf("%v, and said %d times that it has passed", states, said)
		}
		put(b, "y")
		if err := b.WaitForUpload(t.Context()); err != nil {
			t.Error(err)
		}
		vaulttest.Sync(t, a)
		vaulttest.InStep(t, a, b)
		cancel()
		<-done
		if said != 1 {
			t.Errorf("said %d times that it has passed", said)
		}
	})
}

func copyTo(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
