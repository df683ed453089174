package vaulttest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// transact has a device put its name behind a record, in a transaction, once,
// however often it takes.
func (w *world) transact(device int) {
	w.t.Helper()
	d := w.devices[device]
	value := append(append([]byte(nil), w.values["turns"]...), names[device]...)
	for try := 0; ; try++ {
		ran := 0
		err := d.Transact(w.t.Context(), "notes", func(tx *vault.Tx) error {
			ran++
			rec, err := tx.Get("turns")
			if errors.Is(err, vault.ErrNotFound) {
				rec, err = &vault.Record{}, nil
			}
			if err == nil {
				_, err = tx.Put("turns", append(rec.Value, names[device]...))
			}
			return err
		})
		if errors.Is(err, vault.ErrOutcomeUnknown) {
			vaulttest.Sync(w.t, d) // decides it
			if rec, gerr := d.Namespace("notes").Get(w.t.Context(), "turns"); gerr == nil && string(rec.Value) == string(value) {
				err = nil
			}
		}
		if err == nil {
			if ran > 1 {
				w.t.Errorf("%s: fn ran %d times, and nobody was faster", names[device], ran)
			}
			break
		}
		if try == 2 || !errors.Is(err, vault.ErrOffline) && !errors.Is(err, vault.ErrOutcomeUnknown) {
			w.t.Fatalf("%s: %v", names[device], err)
		}
	}
	w.values["turns"] = value
	w.writes["turns"]++
}

// B16, E34: transactions whose sessions are cut after or within any frame happen
// once each, in commits that are the same as without faults, and fn does not run
// again for it. What was put before goes up before them.
func TestTransactCut(t *testing.T) {
	each(t, every, func(w *world) {
		w.put(0, "x", []byte("x"))
		w.transact(0)
		w.put(1, "y", []byte("y"))
		w.transact(1)
		w.inTurn(w.honest)
	}, true, after, within)
}

// The same beside a Run, which comes back by itself.
func TestTransactCutLive(t *testing.T) {
	each(t, every, func(w *world) {
		ctx, stop := context.WithCancel(w.t.Context())
		ended := make(chan error, 2)
		for _, d := range w.devices {
			go func() { ended <- d.Run(ctx, vault.SyncOptions{}) }()
		}
		synctest.Wait()
		for _, device := range []int{0, 1, 0} {
			w.put(device, "from "+names[device], []byte{byte(w.writes["turns"])})
			w.transact(device)
		}
		time.Sleep(15 * time.Second)
		stop()
		for range w.devices {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				w.t.Errorf("Run ended with %v", err)
			}
		}
	}, false, after, within)
}

// Five devices count as fast as they can, for some time on a slow line: all of it
// counts, and nobody is starved.
func TestTransactContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		v := s.NewVault(t)
		devices := make([]*vaulttest.Device, 5)
		for i := range devices {
			devices[i] = v.Device(t, string(rune('a'+i)), vault.Config{})
			devices[i].Network.SetLatency(10 * time.Millisecond)
		}
		start := time.Now()
		done := make(chan int)
		for _, d := range devices {
			go func() {
				n := 0
				for time.Since(start) < 10*time.Second {
					err := d.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
						rec, err := tx.Get("n")
						if errors.Is(err, vault.ErrNotFound) {
							rec, err = &vault.Record{}, nil
						}
						if err == nil {
							_, err = tx.Put("n", append(rec.Value, 1))
						}
						return err
					})
					if err != nil {
						t.Error(err)
						break
					}
					n++
				}
				done <- n
			}()
		}
		sum := 0
		for range devices {
			n := <-done
			if n == 0 {
				t.Error("a device was starved")
			}
			sum += n
		}
		vaulttest.Sync(t, devices...)
		vaulttest.InStep(t, devices...)
		rec, err := devices[0].Namespace("notes").Get(t.Context(), "n")
		fatal(t, err)
		if len(rec.Value) != sum {
			t.Errorf("counted %d, want %d", len(rec.Value), sum)
		}
	})
}
