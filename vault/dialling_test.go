package vault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// dead is a network that says nothing at all, for a minute.
func dead(ctx context.Context) (client.Messenger, error) {
	select {
	case <-time.After(time.Minute):
		return nil, context.DeadlineExceeded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// C24: what a person does while a connection is tried counts at once: a pause, the
// end, and the word that the network is another.
func TestWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		on := true
		dials := 0
		k := keep(t, b, func(o *vault.SyncOptions) {
			o.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
				if dials++; on {
					return b.Network.Dial(ctx, s, id)
				}
				return dead(ctx)
			}
		})
		synctest.Wait()
		on = false
		b.Network.Break()
		time.Sleep(3 * time.Second) // it has waited, and is dialling
		k.states()
		begun := time.Now()
		b.Pause()
		wantStates(t, k, "paused")
		b.Resume()
		synctest.Wait()
		if dials != 3 || time.Since(begun) > 0 {
			t.Errorf("dialled %d times, in %v", dials, time.Since(begun))
		}

		b.SyncNow() // it may get through yet
		synctest.Wait()
		if dials != 3 {
			t.Errorf("dialled %d times", dials)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		on = true
		b.SyncNow()
		if s := k.states(); len(s) == 0 || s[len(s)-1] != vault.StateLive || dials != 4 {
			t.Errorf("dialled %d times: %q", dials, s)
		}

		on = false
		b.Network.Break()
		time.Sleep(3 * time.Second)
		begun = time.Now()
		fatal(t, b.Close())
		<-k.done
		if !errors.Is(k.err, vault.ErrClosed) || time.Since(begun) > 0 {
			t.Errorf("Run ended with %v, %v after Close", k.err, time.Since(begun))
		}
		vaulttest.Sync(t, a)
	})
}

// What a listener is told last is how it ended.
func TestLastProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		for _, name := range []string{"x", "y", "z"} {
			put(t, a.Vault, name, "1")
		}
		vaulttest.Sync(t, a)
		put(t, b.Vault, "w", "1")
		var last vault.Progress
		r, err := b.Sync(t.Context(), vault.SyncOptions{Progress: func(p vault.Progress) { last = p }})
		fatal(t, err)
		if !last.End || last.Commits != r.Commits || last.Announced != r.Commits ||
			last.Down.Changes != r.Pulled || last.Down.BytesLeft != 0 || last.Up.Changes != r.Pushed || last.Up.ChangesLeft != 0 {
			t.Errorf("%+v, and in the end told %+v", r, last)
		}
	})
}
