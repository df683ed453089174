package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A kept is a vault that Run keeps in step, with what its listener was told.
type kept struct {
	*vaulttest.Device
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, when done is closed

	mu   gosync.Mutex
	told []vault.Progress
}

// keep runs a device's sync until the test ends, or stop is called.
func keep(t *testing.T, d *vaulttest.Device, change func(*vault.SyncOptions)) *kept {
	ctx, cancel := context.WithCancel(t.Context())
	k := &kept{Device: d, stop: cancel, done: make(chan struct{})}
	o := vault.SyncOptions{}
	o.Progress = func(p vault.Progress) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.told = append(k.told, p)
	}
	if change != nil {
		change(&o)
	}
	go func() {
		defer close(k.done)
		k.err = d.Run(ctx, o)
	}()
	t.Cleanup(func() { cancel(); <-k.done })
	return k
}

// states returns the states that the listener was told since the last call, each
// once in a row.
func (k *kept) states() (out []vault.State) {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.told {
		if n := len(out); n == 0 || out[n-1] != p.State {
			out = append(out, p.State)
		}
	}
	k.told = nil
	return out
}

func wantStates(t *testing.T, k *kept, want ...vault.State) {
	t.Helper()
	if got := k.states(); !slices.Equal(got, want) {
		t.Errorf("states %q, want %q", got, want)
	}
}

func pair(t *testing.T) (s *vaulttest.Secondary, a, b *vaulttest.Device) {
	s = vaulttest.NewSecondary(t)
	v := s.NewVault(t)
	a, b = v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
	vaulttest.Sync(t, a, b)
	return s, a, b
}

// C24, C25: states are true and in order; a connection that broke is tried again
// later and later, up to five minutes, or at once when somebody asks.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		k := keep(t, b, nil)
		wantStates(t, k, "connecting", "signing in", "downloading", "live")
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		synctest.Wait()
		if got := get(t, b.Vault, "x"); got != "1" {
			t.Errorf("live, and has %q", got)
		}
		k.states()

		b.Network.Disconnect()
		var waits []time.Duration
		for range 14 {
			synctest.Wait()
			k.mu.Lock()
			p := k.told[len(k.told)-1]
			k.mu.Unlock()
			if p.State != vault.StateOffline || !errors.Is(p.Err, wire.ErrUnreachable) {
				t.Fatalf("disconnected: %+v", p)
			}
			waits = append(waits, p.Retry)
			time.Sleep(p.Retry)
		}
		most := time.Second
		for i, w := range waits {
			if w < most/2 || w > most+1 {
				t.Errorf("wait %d is %v, want at most %v and half of it at least", i, w, most)
			}
			most = min(2*most, 5*time.Minute)
		}
		synctest.Wait()
		k.states()
		b.Network.Connect()
		began := time.Now()
		b.SyncNow()
		wantStates(t, k, "connecting", "signing in", "downloading", "live")
		if took := time.Since(began); took >= time.Second {
			t.Errorf("SyncNow took %v", took)
		}

		k.stop()
		<-k.done
		wantStates(t, k, "offline")
		if !errors.Is(k.err, context.Canceled) {
			t.Errorf("Run ended with %v", k.err)
		}
	})
}

// A half-open connection is found out by its silence, and sooner when somebody
// asks.
func TestHalfOpen(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprint("asked ", ask), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t)
				k := keep(t, b, nil)
				k.states()
				b.Network.Stall()
				put(t, a.Vault, "x", "1")
				vaulttest.Sync(t, a)
				limit := 65 * time.Second
				if ask {
					limit = 7 * time.Second
					b.SyncNow()
				}
				time.Sleep(limit)
				synctest.Wait()
				if got := get(t, b.Vault, "x"); got != "1" {
					t.Errorf("after %v it has %q; states %q", limit, got, k.states())
				}
			})
		})
	}
}

// The secondary's word on when to come back counts more than the device's own
// plan.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		var dials atomic.Int32
		k := keep(t, b, func(o *vault.SyncOptions) {
			dial := b.Network.Dial
			o.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
				if dials.Add(1) == 1 {
					return nil, &wire.Error{Code: wire.CodeBusy, Action: wire.ActionRetryAfter, RetryAfter: 90_000}
				}
				return dial(ctx, s, id)
			}
		})
		time.Sleep(90*time.Second - 1)
		synctest.Wait()
		if n := dials.Load(); n != 1 {
			t.Errorf("%d attempts before the time", n)
		}
		time.Sleep(12 * time.Second) // not all at once
		wantStates(t, k, "connecting", "offline", "connecting", "signing in", "downloading", "live")
	})
}

// A pause ends the session; a Sync that is asked for has one of its own.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		k := keep(t, b, nil)
		k.states()
		b.Pause()
		wantStates(t, k, "paused")
		put(t, a.Vault, "x", "1")
		put(t, b.Vault, "y", "1")
		vaulttest.Sync(t, a)
		time.Sleep(time.Hour)
		if n := b.Network.Conns(); n != 0 || get(t, b.Vault, "x") != "-" {
			t.Errorf("paused, with %d connections", n)
		}
		waited := make(chan error, 2)
		go func() { waited <- b.WaitForUpload(t.Context()) }()
		go func() { waited <- b.WaitForDownload(t.Context()) }()
		synctest.Wait()
		if len(waited) > 0 {
			t.Error("nothing to wait for, in a pause")
		}
		vaulttest.Sync(t, b)
		if get(t, b.Vault, "x") != "1" {
			t.Error("Sync did nothing in a pause")
		}
		b.Resume()
		wantStates(t, k, "connecting", "signing in", "downloading", "live")
		fatal(t, <-waited)
		fatal(t, <-waited)
		vaulttest.Sync(t, a)
		vaulttest.InStep(t, a, b)
	})
}

// A listener that blocks holds up nothing, and what it is told in the end is
// still in order.
func TestSlowListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		release := make(chan struct{})
		var told []vault.Progress
		ended := make(chan struct{})
		k := keep(t, b, func(o *vault.SyncOptions) {
			o.Progress = func(p vault.Progress) {
				<-release
				told = append(told, p)
				if p.End {
					close(ended)
				}
			}
		})
		for i := range 20 {
			put(t, a.Vault, "x", fmt.Sprint(i))
			vaulttest.Sync(t, a)
			b.Network.Break()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := get(t, b.Vault, "x"); got != fmt.Sprint(i) {
				t.Fatalf("its sync stands still: %q", got)
			}
		}
		k.stop()
		<-k.done // though the listener has not returned once
		close(release)
		<-ended
		ends := 0
		for i, p := range told {
			if p.End {
				ends++
			}
			if i > 1 && p.State == vault.StateLive && told[i-1].State == vault.StateOffline {
				t.Errorf("live right after offline")
			}
		}
		if ends != 1 || len(told) > 70 {
			t.Errorf("%d ends in %d", ends, len(told))
		}
	})
}

// A context that ends, at whatever step, ends a sync once, at once and whole.
func TestCancelAtEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		for n := 1; ; n++ {
			put(t, a.Vault, "x", fmt.Sprint(n))
			put(t, b.Vault, "y", fmt.Sprint(n))
			vaulttest.Sync(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			o := vault.SyncOptions{}
			steps, ends := 0, 0
			o.Step = func() {
				if steps++; steps == n {
					cancel()
				}
			}
			o.Progress = func(p vault.Progress) {
				if p.End {
					ends++
				}
			}
			_, err := b.Sync(ctx, o)
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("step %d: %v", n, err)
			}
			if ends != 1 {
				t.Errorf("step %d: %d ends", n, ends)
			}
			vaulttest.Sync(t, b, a)
			vaulttest.InStep(t, a, b)
			if got := get(t, a.Vault, "y"); got != fmt.Sprint(n) {
				t.Fatalf("step %d: %q", n, got)
			}
			if steps < n {
				if n < 6 {
					t.Errorf("a sync has only %d steps", steps)
				}
				return
			}
		}
	})
}

// A secondary that answers, and never delivers what it named, does not hold a
// sync for ever.
func TestNeverDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		began := time.Now()
		_, err := b.Sync(t.Context(), withheld(b, wire.TypeDownload))
		if took := time.Since(began); !errors.Is(err, wire.ErrTimeout) || took != 2*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		vaulttest.Sync(t, b)
		vaulttest.InStep(t, a, b)
	})
}

// withheld returns options for a sync whose secondary keeps messages of a type
// back, and answers everything else.
func withheld(d *vaulttest.Device, held wire.Type) vault.SyncOptions {
	return via(d, func(m wire.Message) []wire.Message {
		if m.Type() == held {
			return nil
		}
		return []wire.Message{m}
	})
}

// What is acknowledged and not delivered keeps the device from signing more
// after 30 seconds, and is an alarm after five minutes.
func TestAcknowledgedNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		k := keep(t, b, func(o *vault.SyncOptions) { *o = withheld(b, wire.TypeDownload) })
		began := time.Now()
		count := func() (n int) {
			for _, f := range b.Network.Frames() {
				if f.Type == wire.TypeUpload {
					n++
				}
			}
			return n
		}
		put(t, b.Vault, "x", "1")
		time.Sleep(time.Second)
		put(t, b.Vault, "x", "2")
		time.Sleep(40 * time.Second)
		if n := count(); n != 2 {
			t.Errorf("%d uploads within 30 seconds, want 2", n)
		}
		put(t, b.Vault, "x", "3")
		time.Sleep(time.Minute)
		if n := count(); n != 2 {
			t.Errorf("%d uploads, though nothing comes back", n)
		}
		<-k.done
		if took := time.Since(began); !errors.Is(k.err, commitlog.ErrOwnCommitMissing) || took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("after %v: %v", took, k.err)
		}
		st, err := b.Status(t.Context())
		fatal(t, err)
		if st.Alarm == "" {
			t.Error("no alarm is kept")
		}
	})
}

// After a short break what is signed goes up at once, before the download.
func TestQuickPath(t *testing.T) {
	for _, offline := range []time.Duration{30 * time.Second, 2 * time.Minute} {
		t.Run(fmt.Sprint(offline), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t)
				keep(t, b, nil)
				synctest.Wait()
				b.Network.Disconnect()
				put(t, a.Vault, "x", "1")
				vaulttest.Sync(t, a)
				put(t, b.Vault, "y", "1")
				time.Sleep(offline)
				synctest.Wait()
				b.Network.Reset()
				b.Network.SetFaults(vaulttest.First(vaulttest.Down, wire.TypeDownload, vaulttest.Fault{Delay: time.Second}))
				b.Network.Connect()
				b.SyncNow()
				time.Sleep(time.Minute)
				upload, download := -1, -1
				for i, f := range b.Network.Frames() {
					switch {
					case f.Type == wire.TypeUpload && upload < 0:
						upload = i
					case f.Type == wire.TypeDownload && download < 0:
						download = i
					}
				}
				if quick := upload < download; upload < 0 || download < 0 || quick != (offline < time.Minute) {
					t.Errorf("upload is frame %d, download frame %d", upload, download)
				}
				vaulttest.Sync(t, a)
				vaulttest.Sync(t, b)
				vaulttest.InStep(t, a, b)
			})
		})
	}
}

// B19: a sync that only pulls sends nothing, and one that only pushes leaves
// nothing unsent.
func TestModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		put(t, b.Vault, "y", "1")
		o := vault.SyncOptions{Mode: vault.PullOnly}
		r, err := b.Sync(t.Context(), o)
		fatal(t, err)
		if r.Pulled == 0 || r.Pushed != 0 || r.Pending != 1 || get(t, b.Vault, "x") != "1" {
			t.Errorf("pull: %+v", r)
		}
		k := keep(t, b, func(p *vault.SyncOptions) { p.Mode = vault.PullOnly })
		time.Sleep(time.Second)
		if r, err := b.Sync(t.Context(), o); err != nil || r.Pending != 1 {
			t.Errorf("pull beside a Run that pulls: %+v, %v", r, err)
		}
		r, err = b.Sync(t.Context(), vault.SyncOptions{})
		if fatal(t, err); r.Pending != 0 || r.Pushed != 1 {
			t.Errorf("both ways beside a Run that pulls: %+v", r)
		}
		put(t, b.Vault, "y", "2")
		time.Sleep(time.Second)
		if st, err := b.Status(t.Context()); err != nil || st.Pending != 1 {
			t.Errorf("a Run that pulls has sent: %+v, %v", st, err)
		}
		k.stop()
		<-k.done
		o.Mode = vault.PushOnly
		if r, err = b.Sync(t.Context(), o); err != nil || r.Pending != 0 {
			t.Errorf("push: %+v, %v", r, err)
		}
		vaulttest.Sync(t, a)
		vaulttest.InStep(t, a, b)
	})
}

// A full sync that a Run begins with is not given up where the first session
// breaks, and not repeated after it has come to its end.
func TestFullRunOverBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		put(t, b.Vault, "x", "1")
		vaulttest.Sync(t, b)
		var cuts atomic.Int32
		k := keep(t, b, func(o *vault.SyncOptions) {
			o.Full = true
			dial := b.Network.Dial
			o.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
				c, err := dial(ctx, s, id)
				if err != nil {
					return nil, err
				}
				return &cutter{Messenger: c, receive: func(m wire.Message) bool {
					return m.Type() == wire.TypeDownload && cuts.Add(1) <= 2
				}}, nil
			}
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := cuts.Load(); n != 3 {
			t.Errorf("the log came %d times, want 3", n)
		}
		b.Network.Break()
		time.Sleep(time.Minute)
		wantStates(t, k, "connecting", "signing in", "downloading", "offline", "connecting", "signing in", "downloading", "offline",
			"connecting", "signing in", "downloading", "live", "offline", "connecting", "signing in", "downloading", "live")
		if n := cuts.Load(); n != 3 {
			t.Errorf("the log came %d times, want 3", n)
		}
	})
}

// A secondary that takes a device in and sends it away again is tried later and
// later, too.
func TestReconnectToTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		sent := 0
		k := keep(t, b, func(o *vault.SyncOptions) {
			*o = via(b, func(m wire.Message) []wire.Message {
				if m.Type() == wire.TypeDownload {
					sent++
					return []wire.Message{wire.NewError(wire.CodeInternal, "")}
				}
				return []wire.Message{m}
			})
		})
		time.Sleep(time.Hour)
		k.stop()
		<-k.done
		if sent < 12 || sent > 40 { // up to five minutes, and half of it at least
			t.Errorf("tried %d times within an hour", sent)
		}
	})
}
