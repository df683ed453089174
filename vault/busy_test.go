package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A secondary that is busy, or asks to connect anew, from whatever step on, is left
// alone for as long as it says, and for longer if it says so again and again: by each
// device for another time. The vault goes on meanwhile, and is in step when it may.
func TestBusy(t *testing.T) {
	for name, pass := range map[string]func(wire.Message) bool{
		"at the beginning": nil, "at BOUND": func(m wire.Message) bool { return m.Type() == wire.TypeBound },
		"at an upload": func(m wire.Message) bool { return m.Type() == wire.TypeUploaded },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t)
				put(t, b.Vault, "x", "1")
				const asked, refusals = 10 * time.Second, 9
				var refused atomic.Int32
				busy := func() *wire.Error {
					refused.Add(1)
					e := wire.NewError(wire.CodeBusy, "")
					e.RetryAfter = uint64(asked.Milliseconds())
					return e
				}
				k := keep(t, b, func(o *vault.SyncOptions) {
					if pass != nil {
						o.Dial = via(b, func(m wire.Message) []wire.Message {
							if refused.Load() < refusals && pass(m) {
								return []wire.Message{busy()}
							}
							return []wire.Message{m}
						}).Dial
					} else {
						o.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
							if refused.Load() < refusals {
								return nil, fmt.Errorf("%s: %w", s.URL, busy())
							}
							return b.Network.Dial(ctx, s, id)
						}
					}
				})
				var waits []time.Duration
				for refused.Load() < refusals || len(waits) < refusals {
					synctest.Wait()
					k.mu.Lock()
					p := k.told[len(k.told)-1]
					k.mu.Unlock()
					if p.State != vault.StateOffline || !errors.Is(p.Err, wire.ErrBusy) {
						t.Fatalf("busy: %+v", p)
					}
					waits = append(waits, p.Retry)
					put(t, b.Vault, "meanwhile", fmt.Sprint(len(waits)))
					time.Sleep(p.Retry)
				}
				jitter := false
				for i, w := range waits {
					own := min(time.Second<<i, 5*time.Minute) // as without a word of the secondary
					if name == "at an upload" {
						own = 0 // what was sent is there: each time has brought it on
					}
					if w < max(asked, own/2) || w > max(asked+asked/8, own)+1 {
						t.Errorf("wait %d is %v", i, w)
					}
					jitter = jitter || w != asked && w != own
				}
				if !jitter {
					t.Errorf("all devices would come at once: %v", waits)
				}
				synctest.Wait()
				if s := k.states(); s[len(s)-1] != vault.StateLive {
					t.Errorf("in the end: %q", s)
				}
				vaulttest.Sync(t, a)
				vaulttest.InStep(t, a, b)
			})
		})
	}
}
