package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// via has a device's sessions go through pass, which sees each message from the
// secondary and returns what comes in its place.
func via(d *vaulttest.Device, pass func(m wire.Message) []wire.Message) vault.SyncOptions {
	return vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := d.Network.Dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		return &between{Messenger: c, receive: pass}, nil
	}}
}

// A full sync that is asked of a Run compares the log from its beginning each
// time: while the Run is connected, and again, and when it has to connect first.
func TestFullSyncBesideRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, b.Vault, "of its own", "1") // comes back as a stub, if not in full
		vaulttest.Sync(t, b, a)
		var bundles atomic.Int32
		k := keep(t, b, func(o *vault.SyncOptions) {
			*o = via(b, func(m wire.Message) []wire.Message {
				if d, ok := m.(*wire.Download); ok {
					for _, i := range d.Items {
						if i.Kind == wire.ItemBundle {
							bundles.Add(1)
						}
					}
				}
				return []wire.Message{m}
			})
		})
		synctest.Wait()
		full := func(when string) {
			t.Helper()
			bundles.Store(0)
			o := vault.SyncOptions{Full: true}
			r, err := b.Sync(t.Context(), o)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if n := bundles.Load(); uint64(n) != r.Commits {
				t.Errorf("%s: %d of %d commits were compared", when, n, r.Commits)
			}
		}
		full("connected")
		full("again")
		b.Network.Disconnect()
		time.Sleep(time.Minute)
		synctest.Wait()
		put(t, b.Vault, "of its own", "2")
		b.Network.Connect()
		full("waiting to try again")

		bundles.Store(0)
		fatal(t, b.SetSelection(t.Context(), vault.Selection{Namespaces: []string{"notes"}}))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := bundles.Load(); n != 0 {
			t.Errorf("another selection brought %d commits once more", n)
		}
		k.stop()
		<-k.done
		if !errors.Is(k.err, context.Canceled) {
			t.Error(k.err)
		}
	})
}

// What comes between UNBIND and UNBOUND is dropped, and so is the word that it was
// everything.
func TestMarkedBesideFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		var hold atomic.Bool
		var kept []wire.Message
		k := keep(t, b, func(o *vault.SyncOptions) {
			*o = via(b, func(m wire.Message) []wire.Message {
				if !hold.Load() {
					return []wire.Message{m}
				}
				if kept = append(kept, m); m.Type() != wire.TypeUnbound {
					return nil
				}
				hold.Store(false)
				return kept
			})
		})
		synctest.Wait()
		hold.Store(true) // all of it is under way when UNBIND is sent
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		synctest.Wait()
		got := make(chan string, 1)
		go func() {
			if err := b.WaitForDownload(t.Context()); err != nil {
				t.Error(err)
			}
			got <- get(t, b.Vault, "x")
		}()
		synctest.Wait()
		o := vault.SyncOptions{Full: true}
		if _, err := b.Sync(t.Context(), o); err != nil {
			t.Error(err)
		}
		if x := <-got; x != "1" {
			t.Errorf("after WaitForDownload: %q", x)
		}
		k.stop()
	})
}

// Asking for a sign of life does not end a session that has been quiet, and
// neither does a Sync.
func TestSyncNowWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		k := keep(t, b, nil)
		k.states()
		for _, ask := range []func(){
			b.SyncNow,
			func() {
				if _, err := b.Sync(t.Context(), vault.SyncOptions{}); err != nil {
					t.Error(err)
				}
			},
		} {
			time.Sleep(time.Hour)
			ask()
			time.Sleep(10 * time.Second)
			if got := k.states(); len(got) > 0 {
				t.Errorf("told %q, want to stay live", got)
			}
		}
	})
}

// A line that is slow, and carries something all the time, is not taken for dead
// when somebody asks for a sign of life.
func TestSyncNowOnSlowLine(t *testing.T) {
	for _, up := range []bool{false, true} {
		t.Run(fmt.Sprint("up ", up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t)
				from := a
				if up {
					from = b
				}
				k := keep(t, b, nil)
				k.states()
				b.Network.SetBandwidth(64 << 10)
				fatal(t, from.Update(t.Context(), "notes", func(tx *vault.Tx) error {
					for i := range 20 {
						if _, err := tx.Put(fmt.Sprint(i), make([]byte, 60_000)); err != nil {
							return err
						}
					}
					return nil
				}))
				if !up {
					vaulttest.Sync(t, a)
				}
				for range 4 {
					time.Sleep(time.Second)
					b.SyncNow()
				}
				time.Sleep(time.Minute)
				for _, s := range k.states() {
					if s == vault.StateOffline {
						t.Error("it was left")
					}
				}
				vaulttest.Sync(t, a)
				vaulttest.InStep(t, a, b)
			})
		})
	}
}

// A Run that pulls, and sent for somebody who has left, stays connected and in
// step, wherever the sending stood.
func TestWaitForUploadLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		k := keep(t, b, func(o *vault.SyncOptions) { o.Mode = vault.PullOnly })
		k.states()
		b.Network.SetBandwidth(64 << 10)
		large := make([]byte, 5<<20)
		if _, err := b.Namespace("notes").Put(t.Context(), "large", large); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := b.WaitForUpload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if got := k.states(); len(got) == 0 || got[len(got)-1] != vault.StateLive || slices.Contains(got, vault.StateOffline) {
			t.Errorf("told %q, want to be live again", got)
		}
		vaulttest.Sync(t, b, a)
		vaulttest.InStep(t, a, b)
	})
}
