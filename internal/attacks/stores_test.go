package attacks_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// kept runs a device's sync until the test ends, and returns what Run ended with and
// the states that the listener was told.
func kept(t *testing.T, d *vaulttest.Device) (ended chan error, states *[]vault.Progress) {
	states = new([]vault.Progress)
	ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- d.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) { *states = append(*states, p) }})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ended, states
}

// wantAlarm checks that a Run has ended in an alarm of which everybody is told.
func wantAlarm(t *testing.T, d *vaulttest.Device, ended chan error, states *[]vault.Progress, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-ended:
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	default:
		t.Fatal("it goes on")
	}
	if p := (*states)[len(*states)-1]; p.State != vault.StateAlarm || !p.End || !errors.Is(p.Err, want) {
		t.Errorf("told %+v", p)
	}
	if st, err := d.Status(t.Context()); err != nil || st.Alarm == "" {
		t.Errorf("Status has no alarm: %+v, %v", st, err)
	}
}

// C1: the secondary's store is put back to an earlier day, by its operator or by a
// backup, while a device is connected or away.
func TestC1OlderStore(t *testing.T) {
	for _, connected := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			now := vaulttest.NewSecondary(t)
			v := now.NewVault(t)
			a, b := v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
			write(t, a, "notes", "x", "1")
			vaulttest.Sync(t, a, b)
			old := now.Copy(t)
			write(t, a, "notes", "x", "2")
			vaulttest.Sync(t, a, b)
			var ended chan error
			var states *[]vault.Progress
			if connected {
				ended, states = kept(t, b)
				synctest.Wait()
			}
			b.Network.Lead(old)
			b.Network.Break()
			if !connected {
				ended, states = kept(t, b)
			}
			time.Sleep(time.Minute)
			wantAlarm(t, b, ended, states, commitlog.ErrRollback)
			if rec, err := b.Namespace("notes").Get(t.Context(), "x"); err != nil || string(rec.Value) != "2" {
				t.Errorf("the record is %v, %v", rec, err)
			}
			// Somebody who knows no better goes on with the old log, and is not taken
			// for the one that this device knows.
			a2 := v.New(t, "new", vault.Config{}, old)
			_, err := a2.Enrol(t.Context(), v.Root.Authority(), nil, vault.SyncOptions{})
			fatal(t, err)
			fatal(t, b.TryAgain(t.Context()))
			if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
				t.Errorf("a log that has gone another way: %v, want ErrFork", err)
			}
		})
	}
}

// C6: two devices are shown two histories. The first commit that crosses from one to
// the other is the end of it, and both keep all that they wrote.
func TestC6Fork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := vaulttest.NewSecondary(t)
		v := one.NewVault(t)
		a, b := v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
		write(t, a, "notes", "x", "1")
		vaulttest.Sync(t, a, b)
		other := one.Copy(t)
		b.Network.Lead(other)
		write(t, a, "notes", "a", "1")
		write(t, b, "notes", "b", "1")
		vaulttest.Sync(t, a, b) // each in its own history
		// Now they are brought together, whichever way.
		for _, d := range []*vaulttest.Device{a, b} {
			to := other
			if d == b {
				to = one
			}
			d.Network.Lead(to)
			write(t, d, "notes", "unsent", "1")
			before := d.Dump().Without(alarmPaths...)
			ended, states := kept(t, d)
			time.Sleep(time.Minute)
			wantAlarm(t, d, ended, states, commitlog.ErrFork)
			if changed := before.Changed(d.Dump().Without(alarmPaths...)); len(changed) > 0 {
				t.Errorf("what is stored has changed: %q", changed)
			}
		}
		for d, names := range map[*vaulttest.Device][]string{a: {"x", "a", "unsent"}, b: {"x", "b", "unsent"}} {
			for _, name := range names {
				if rec, err := d.Namespace("notes").Get(t.Context(), name); err != nil || string(rec.Value) != "1" {
					t.Errorf("%q is %v, %v", name, rec, err)
				}
			}
		}
	})
}

// A lie in the middle of a live session is an alarm like any other.
func TestLiveAlarm(t *testing.T) {
	s := newScene(t)
	for name, a := range map[string]attack{
		"a changed commit":  {s.flipLast(), commitlog.ErrBlob},
		"a commit left out": {drop(s.last() + 1), commitlog.ErrOmission},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := s.secondary.Copy(t)
				d, writer := s.victim.Copy(t, at), s.b.Copy(t, at)
				vaulttest.Sync(t, d)
				liar := at.Lie(a.lie)
				ended, states := kept(t, d)
				synctest.Wait()
				before := d.Dump()
				write(t, writer, "notes", "live", "1")
				write(t, writer, "tasks", "live", "1")
				if _, err := writer.Sync(t.Context(), vault.SyncOptions{Mode: vault.PushOnly}); err != nil && !vault.IsAlarm(err) {
					t.Error(err) // it is lied to as well
				}
				wantAlarm(t, d, ended, states, a.want)
				if changed := before.Changed(d.Dump().Without(alarmPaths...)); len(changed) > 0 {
					t.Errorf("what is stored has changed: %q", changed)
				}
				if liar.Told() == 0 {
					t.Error("nobody lied")
				}
			})
		})
	}
}
