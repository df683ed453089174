package vault_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// What is put at the moment at which a message comes that gives a session nothing to
// send goes up all the same.
func TestPutBesideMessage(t *testing.T) {
	for range 20 { // which of the two the session sees first is left to chance
		synctest.Test(t, func(t *testing.T) {
			_, _, b := pair(t)
			time.Sleep(25 * time.Hour) // a checkpoint is due, and until it is posted nothing is signed as it is put
			var answered atomic.Bool
			written := false
			k := keep(t, b, func(o *vault.SyncOptions) {
				*o = via(b, func(m wire.Message) []wire.Message {
					if m.Type() == wire.TypeCheckpoint {
						answered.Store(true)
					}
					return []wire.Message{m}
				})
				o.Step = func() {
					if written {
						return
					}
					time.Sleep(time.Second) // what has come waits for the session
					if written = answered.Load(); written {
						put(t, b.Vault, "x", "1")
					}
				}
			})
			time.Sleep(time.Minute)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := b.WaitForUpload(ctx); err != nil || get(t, b.Vault, "x") != "1" {
				t.Errorf("it has not gone up: %v", err)
			}
			k.stop()
			<-k.done
		})
	}
}
