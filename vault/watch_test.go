package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// C23: a watch gives each change once and in order, wherever its connection
// breaks, and when the program starts anew in between.
func TestWatchWhateverBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		k := keep(t, b, nil)
		sub := b.Watch(t.Context(), "notes")
		var want, got []string
		var last vault.Revision
		read := func() {
			for {
				synctest.Wait()
				select {
				case rec, open := <-sub.C:
					if !open {
						return
					}
					got = append(got, string(rec.Value))
					if rec.Revision <= last {
						t.Errorf("revision %d after %d", rec.Revision, last)
					}
					last = rec.Revision
				default:
					return
				}
			}
		}
		write := func(n int) {
			for range n {
				value := fmt.Sprint(len(want))
				want = append(want, value)
				put(t, a.Vault, "x"+value, value)
				vaulttest.Sync(t, a)
				read()
			}
		}
		write(3)
		// The connection breaks at each message of a session that has news,
		// and half way through it.
		for n := 1; n <= 6; n++ {
			for _, bytes := range []int{3, vaulttest.Whole} {
				b.Network.Disconnect()
				time.Sleep(time.Second)
				b.Network.Reset()
				b.Network.SetFaults(vaulttest.CutInside(vaulttest.Down, n, bytes))
				put(t, a.Vault, "offline", fmt.Sprint(n, bytes))
				want = append(want, fmt.Sprint(n, bytes))
				vaulttest.Sync(t, a)
				b.Network.Connect()
				b.SyncNow()
				read()
				write(2)
				time.Sleep(10 * time.Minute)
				read()
			}
		}
		b.Network.SetFaults(nil)
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}

		// What was not read before the program ended comes after it has begun
		// anew, with Since.
		before := b.Vault
		k.stop()
		<-k.done
		b.Crash()
		if err := sub.Err(); !errors.Is(err, vault.ErrClosed) {
			t.Errorf("the watch of a closed vault ended with %v", err)
		}
		if b.Vault == before {
			t.Error("not opened anew")
		}
		got, want = nil, nil
		put(t, a.Vault, "missed", "missed")
		want = append(want, "missed")
		vaulttest.Sync(t, a, b)
		sub = b.Watch(t.Context(), "notes", vault.Since(last))
		keep(t, b, nil)
		read()
		write(2)
		if !slices.Equal(got, want) {
			t.Errorf("after a crash: got %q, want %q", got, want)
		}
	})
}

// C23: a reader that takes nothing holds up no sync, and gets each record once, as
// it is by then.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		keep(t, b, nil)
		sub := b.Watch(t.Context(), "notes")
		for round := range 10 {
			for _, name := range []string{"x", "y", "z"} {
				put(t, a.Vault, name, fmt.Sprint(round))
			}
			vaulttest.Sync(t, a)
			synctest.Wait()
			if got := get(t, b.Vault, "z"); got != fmt.Sprint(round) {
				t.Fatalf("the sync waits for the reader: %q in round %d", got, round)
			}
		}
		var got []string
		for done := false; !done; {
			synctest.Wait()
			select {
			case rec := <-sub.C:
				got = append(got, rec.Name+string(rec.Value))
			default:
				done = true
			}
		}
		// What it had in hand when the reader fell asleep, and then the newest.
		if want := []string{"x0", "y0", "z0", "x9", "y9", "z9"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// C24: a secondary that stops says when to come back, and its devices do, all by
// themselves, and not before.
func TestSecondaryStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b := pair(t)
		devices := []*kept{keep(t, a, nil), keep(t, b, nil)}
		for _, k := range devices {
			k.states()
		}
		s.Stop()
		for _, k := range devices {
			synctest.Wait()
			k.mu.Lock()
			p := k.told[len(k.told)-1]
			k.mu.Unlock()
			if p.State != vault.StateOffline || !errors.Is(p.Err, wire.ErrShutdown) || p.Retry < 500*time.Millisecond || p.Retry > 15*time.Second {
				t.Errorf("the secondary stopped: %+v", p)
			}
			k.states()
		}
		put(t, a.Vault, "x", "1")
		s.Start()
		time.Sleep(20 * time.Second) // more than any is told to wait
		for _, k := range devices {
			if states := k.states(); states[0] != vault.StateConnecting || states[len(states)-1] != vault.StateLive {
				t.Errorf("the secondary is there again: %q", states)
			}
		}
		vaulttest.InStep(t, a, b)
	})
}
