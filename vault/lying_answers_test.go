package vault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A secondary whose answers leave out a commit that was sent does not hold a sync:
// it would wait for nothing, and for ever.
func TestUnansweredCommit(t *testing.T) {
	for name, lie := range map[string]func(*wire.Result){
		"for another commit":                      func(r *wire.Result) { r.ID, r.Seq, r.Code = 0, r.Seq+1000, wire.CodeTooLarge },
		"a consequence of a refusal that was not": func(r *wire.Result) { r.ID, r.Code = 0, wire.CodeAfterRefused },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t)
				put(t, b.Vault, "x", "1")
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				r, err := b.Sync(ctx, via(b, func(m wire.Message) []wire.Message {
					switch m := m.(type) {
					case *wire.Uploaded:
						for i := range m.Results {
							lie(&m.Results[i])
						}
					case *wire.Download: // it says that it did not take it
						return nil
					}
					return []wire.Message{m}
				}))
				if !errors.Is(err, wire.ErrProtocol) || r.Pending == 0 {
					t.Errorf("%+v, %v, want ErrProtocol", r, err)
				}
				vaulttest.Sync(t, b, a)
				vaulttest.InStep(t, a, b)
			})
		})
	}
}

// One that acknowledges, delivers nothing and is asked for a sign of life is left
// after five seconds, and the device rests meanwhile.
func TestProbedWhileUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		steps := 0
		k := keep(t, b, func(o *vault.SyncOptions) {
			progress := o.Progress
			*o = via(b, func(m wire.Message) []wire.Message {
				if m.Type() == wire.TypeDownload || m.Type() == wire.TypeMarked {
					return nil
				}
				return []wire.Message{m}
			})
			o.Progress = progress
			o.Step = func() {
				if steps++; steps > 1000 {
					panic("it does not rest")
				}
			}
		})
		synctest.Wait()
		put(t, b.Vault, "x", "1")
		time.Sleep(time.Second)
		synctest.Wait()
		k.states()
		b.SyncNow()
		time.Sleep(5 * time.Second)
		wantStates(t, k, vault.StateOffline)
	})
}

// One that no longer keeps what was asked for is not lying where it has announced
// the commit that superseded it, though that comes after the answer.
func TestAbsentBeforeSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		fatal(t, b.SetSelection(t.Context(), vault.Selection{Namespaces: []string{"other"}}))
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a, b)
		var asked *wire.Blobs
		var came []wire.Message
		absent := 0
		k := keep(t, b, func(o *vault.SyncOptions) {
			*o = via(b, func(m wire.Message) []wire.Message {
				switch m := m.(type) {
				case *wire.Blobs:
					asked = m // answered below
					return nil
				case *wire.Download:
					if asked == nil || absent > 0 {
						break
					}
					if came = append(came, m); len(came) < 2 {
						return nil
					}
					absent++
					came[0].(*wire.Download).Size = m.Size
					return []wire.Message{came[0], &wire.Blobs{Request: asked.Request, Absent: true}, m}
				}
				return []wire.Message{m}
			})
		})
		synctest.Wait()
		fatal(t, b.SetSelection(t.Context(), vault.Selection{}))
		synctest.Wait()
		for _, name := range []string{"y", "x"} {
			put(t, a.Vault, name, "2")
			vaulttest.Sync(t, a)
			synctest.Wait()
		}
		if absent != 1 || get(t, b.Vault, "x") != "2" {
			t.Errorf("answered %d times, and it has %q", absent, get(t, b.Vault, "x"))
		}
		k.stop()
		<-k.done
		if !errors.Is(k.err, context.Canceled) {
			t.Error(k.err)
		}
	})
}
