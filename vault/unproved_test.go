package vault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// C24: a secondary that stops, is busy or has trouble at the moment when a device
// connects says so before it has proved itself, so without what to do about it. The
// device tries again; a newer version it does not wait for.
func TestRefusedBeforeProof(t *testing.T) {
	for _, why := range []error{wire.ErrShutdown, wire.ErrBusy, wire.ErrInternal, wire.ErrTimeout, wire.ErrReadOnly, wire.ErrQuota, wire.ErrSuspended, wire.ErrVersion} {
		t.Run(why.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, b := pair(t)
				dials := 0
				k := keep(t, b, func(o *vault.SyncOptions) {
					o.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
						if dials++; dials < 4 {
							return nil, fmt.Errorf("signing in at %s: %w", s.URL, why)
						}
						return b.Network.Dial(ctx, s, id)
					}
				})
				time.Sleep(time.Minute)
				synctest.Wait()
				s := k.states()
				if why == wire.ErrVersion {
					if dials != 1 || !errors.Is(k.err, why) {
						t.Errorf("dialled %d times: %q, ended with %v", dials, s, k.err)
					}
					return
				}
				if dials != 4 || len(s) == 0 || s[len(s)-1] != vault.StateLive {
					t.Errorf("dialled %d times: %q", dials, s)
				}
			})
		})
	}
}
