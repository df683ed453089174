package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// unseen has a device send what it has, and not see it come back.
func (p *parting) unseen(t *testing.T, d *vaulttest.Device, acknowledged bool) {
	t.Helper()
	end := lying.HangUp(wire.TypeUploaded, 1)
	if acknowledged {
		end = lying.Frames("", wire.TypeUploaded, 1, func(frame []byte) [][]byte { return [][]byte{frame, nil} })
	}
	liar := p.s.Lie(lying.Both("", lying.Drop(wire.TypeDownload, lying.All), end))
	if _, err := d.Sync(t.Context(), vault.SyncOptions{}); err == nil {
		t.Fatal("it came back")
	}
	liar.Tell(lying.Mutation{})
}

// What a device had sent, and not seen again, is in the lost log, and has been seen
// there by the device that brought the histories together. It does not come again, and
// what the device has written since follows on from it.
func TestResetOfWhatWasSent(t *testing.T) {
	for name, lost := range map[string]bool{"its log is the beginning": false, "its log is a lost one": true} {
		for _, acknowledged := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newParting(t) // a has a lost history already
					a, c, d := p.c, p.vaults.Device(t, "e", vault.Config{}), p.vaults.Device(t, "d", vault.Config{})
					put(t, a.Vault, "old", "1")
					put(t, a.Vault, "edited twice", "1")
					vaulttest.Sync(t, a, c, d)
					old := backup(t, p.s)
					if lost {
						put(t, a.Vault, "first of the lost log", "1")
						vaulttest.Sync(t, a, d)
					}
					for _, name := range []string{"kept", "removed by a", "edited by a", "followed by d", "removed by d", "edited by a, followed by d"} {
						put(t, d.Vault, name, "d")
					}
					put(t, d.Vault, "edited twice", "d")
					fatal(t, d.Namespace("notes").Delete(t.Context(), "old"))
					p.unseen(t, d, acknowledged)
					vaulttest.Sync(t, a)
					put(t, a.Vault, "edited by a", "a")
					put(t, a.Vault, "edited by a, followed by d", "a")
					fatal(t, a.Namespace("notes").Delete(t.Context(), "removed by a"))
					vaulttest.Sync(t, a)
					put(t, d.Vault, "followed by d", "d again")
					put(t, d.Vault, "edited twice", "d again")
					put(t, d.Vault, "edited by a, followed by d", "d again")
					fatal(t, d.Namespace("notes").Delete(t.Context(), "removed by d"))
					old()
					put(t, c.Vault, "from c", "c")
					vaulttest.Sync(t, c)
					_, err := a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
					fatal(t, err)
					vaulttest.Sync(t, d, a, c, d)
					vaulttest.InStep(t, a, c, d)
					for name, want := range map[string]string{
						"old": "-", "kept": "d", "removed by a": "-", "edited by a": "a", "followed by d": "d again", "edited twice": "d again", "removed by d": "-",
					} {
						if got := get(t, d.Vault, name); got != want {
							t.Errorf("%s: %q, want %q", name, got, want)
						}
						if got := siblingsOf(t, d.Vault, name); got != nil {
							t.Errorf("%s has versions %q", name, got)
						}
					}
					if got := siblingsOf(t, d.Vault, "edited by a, followed by d"); !slices.Equal(got, []string{"a", "d again"}) {
						t.Errorf("edited by both: %q", got)
					}
				})
			})
		}
	}
}

// Several who sync at once find the reset at once; one changes over.
func TestChangeOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		done := make(chan error)
		const n = 4
		for range n {
			go func() {
				_, err := p.b.Sync(t.Context(), vault.SyncOptions{})
				done <- err
			}()
		}
		for range n {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		p.merged(t)
	})
}

// What is written when the second half of a change has failed is written after it.
func TestChangeOverHalf(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newParting(t)
			_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
			fatal(t, err)
			full := errors.New("the disk is full")
			testonly.BetweenRooms = func(string) error { return full }
			defer func() { testonly.BetweenRooms = nil }()
			if _, err := p.b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, full) {
				t.Fatalf("got %v", err)
			}
			testonly.BetweenRooms = nil
			if got := get(t, p.b.Vault, "edited"); got != "2" {
				t.Errorf("edited: %q", got)
			}
			put(t, p.b.Vault, "after that", "b")
			put(t, p.b.Vault, "edited", "3")
			p.want["notes/after that"], p.want["notes/edited"] = "b", "3"
			if reopen {
				p.b.Reopen()
			}
			p.merged(t)
		})
	}
}

// A device that began to bring the histories together, and was cut, changes over when
// another one has done it.
func TestMergeLeftToAnother(t *testing.T) {
	for cut := 4; ; cut += sample {
		whole := false
		synctest.Test(t, func(t *testing.T) {
			p := newParting(t)
			vaulttest.Sync(t, p.c)
			was := cutAt(p.b, cut)
			_, berr := p.b.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
			p.b.Network.SetFaults(nil)
			if whole = !was(); whole {
				fatal(t, berr)
				return
			}
			_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
			fatal(t, err)
			p.merged(t)
		})
		if whole || t.Failed() {
			break
		}
	}
}

// Who brings histories together that another device has already brought together has
// them as they are: what was removed in the lost log does not come back.
func TestMergeOnEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		d := p.vaults.Device(t, "d", vault.Config{})
		vaulttest.Sync(t, p.c)
		old := backup(t, p.s)
		put(t, p.c.Vault, "new, and removed by c", "1")
		put(t, p.c.Vault, "new, and edited by c", "1")
		e := p.vaults.Device(t, "e", vault.Config{})
		vaulttest.Sync(t, p.c, d, e)
		put(t, d.Vault, "unsent by d", "d")
		fatal(t, p.c.Namespace("notes").Delete(t.Context(), "new, and removed by c"))
		put(t, p.c.Vault, "new, and edited by c", "2")
		vaulttest.Sync(t, p.c, e)
		put(t, e.Vault, "beyond", "e")
		put(t, e.Vault, "new, and edited by c", "3")
		vaulttest.Sync(t, e) // which c does not see
		old()
		f := p.vaults.Device(t, "f", vault.Config{})
		put(t, f.Vault, "from f", "f")
		vaulttest.Sync(t, f)
		for _, x := range []*vaulttest.Device{p.c, d, e} {
			_, err := x.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
			fatal(t, err)
		}
		vaulttest.Sync(t, d, e, f, p.c)
		vaulttest.InStep(t, p.c, d, e, f)
		for name, want := range map[string]string{
			"new, and removed by c": "-", "new, and edited by c": "3", "unsent by d": "d", "beyond": "e", "from f": "f",
		} {
			if got := get(t, f.Vault, name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
			if got := siblingsOf(t, f.Vault, name); got != nil {
				t.Errorf("%s has versions %q", name, got)
			}
		}
	})
}

// Who watches is told of all that has become another, also of records that there have
// never been in the log that goes on; and the listener of the conflicts.
func TestChangeOverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		vaults := s.NewVault(t)
		told := make(chan vault.Conflict, 100)
		a := vaults.Device(t, "a", vault.Config{})
		b := vaults.Device(t, "b", vault.Config{Conflict: func(c vault.Conflict) { told <- c }})
		c := vaults.Device(t, "c", vault.Config{})
		put(t, a.Vault, "both", "1")
		vaulttest.Sync(t, a, b, c)
		old := backup(t, s)
		put(t, a.Vault, "short-lived", "1")
		put(t, a.Vault, "both", "a")
		vaulttest.Sync(t, a, b)
		seen := make(map[string]string)
		ctx, cancel := context.WithCancel(t.Context())
		w := b.Watch(ctx, "notes", vault.Since(0))
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for r := range w.C {
				seen[r.Name] = string(r.Value)
				if r.Deleted {
					seen[r.Name] = "-"
				}
			}
		}()
		synctest.Wait()
		fatal(t, a.Namespace("notes").Delete(t.Context(), "short-lived"))
		vaulttest.Sync(t, a)
		old()
		put(t, c.Vault, "both", "c")
		vaulttest.Sync(t, c)
		_, err := a.Merge(t.Context(), vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		vaulttest.Sync(t, b)
		synctest.Wait()
		cancel()
		<-watched
		if seen["short-lived"] != "-" || seen["both"] == "1" {
			t.Errorf("seen are %q", seen)
		}
		if _, err := b.Check(t.Context(), nil); err != nil {
			t.Error(err)
		}
		select {
		case x := <-told:
			if x.Name != "both" || len(x.Versions) != 2 {
				t.Errorf("told of %+v", x)
			}
		default:
			t.Error("nobody was told of the conflict")
		}
	})
}

// Who waits for what was written before a change waits until that is in the other log.
func TestChangeOverWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		// The change comes between the call and the next session's look.
		waited := make(chan struct{})
		once := gosync.OnceFunc(func() {
			go func() {
				defer close(waited)
				if err := p.b.WaitForUpload(t.Context()); err != nil {
					t.Error(err)
				}
				if st, err := p.b.Status(t.Context()); err != nil || st.Pending != 0 {
					t.Errorf("%d changes are waiting, %v", st.Pending, err)
				}
			}()
			time.Sleep(time.Second) // until all others wait, since this is a bubble
		})
		testonly.BetweenRooms = func(string) error { once(); return nil }
		defer func() { testonly.BetweenRooms = nil }()
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- p.b.Run(ctx, vault.SyncOptions{}) }()
		<-waited
		cancel()
		<-ran
		p.merged(t)
	})
}

// A pause holds for a device that takes another log, too.
func TestChangeOverPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		silent := false
		p.b.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			silent = silent || f.Type == wire.TypeCommits
			return vaulttest.Fault{Delay: map[bool]time.Duration{true: time.Hour}[silent && f.Type == wire.TypeDownload]}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- p.b.Run(ctx, vault.SyncOptions{}) }()
		synctest.Wait()
		p.b.Pause()
		synctest.Wait()
		if n := p.s.Conns(); n > 0 {
			t.Errorf("%d connections", n)
		}
		p.b.Network.SetFaults(nil)
		p.b.Resume()
		fatal(t, p.b.WaitForUpload(ctx))
		cancel()
		<-ran
		p.merged(t)
	})
}

// A device whose store is made anew while its history is the lost one comes back to the
// one that goes on, with what it had not sent; whether it was told of the other one
// before, or not.
func TestRebuildOverAReset(t *testing.T) {
	for _, early := range []bool{false, true} { // it syncs before the histories are brought together
		t.Run(fmt.Sprint("early ", early), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParting(t)
				put(t, p.b.Vault, "edited", "3")
				fatal(t, p.b.Close())
				_, err := vault.Rebuild(t.Context(), p.b.Dir, vault.Config{NoSync: true})
				fatal(t, err)
				fatal(t, reopen(t, p.b))
				if early {
					if _, err := p.b.Sync(t.Context(), vault.SyncOptions{}); !vault.IsAlarm(err) {
						t.Fatalf("got %v, want an alarm", err)
					}
				}
				_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
				fatal(t, err)
				vaulttest.Sync(t, p.b, p.a, p.c, p.b)
				vaulttest.InStep(t, p.a, p.b, p.c)
				// What it had written over is not here any more, so that it does not take its
				// place; and what the same place in this log has is not taken for it.
				if got := siblingsOf(t, p.a.Vault, "edited"); !slices.Equal(got, []string{"2", "3"}) {
					t.Errorf("edited: %q", got)
				}
				delete(p.want, "notes/edited")
				for name, want := range p.want {
					if got := get(t, p.c.Vault, name[len("notes/"):]); got != want && name != "notes/film" {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				if st, err := p.b.Status(t.Context()); err != nil || st.Alarm != "" {
					t.Errorf("%+v, %v", st, err)
				}
			})
		})
	}
}

// A floor of the lost log is met, wherever the checkpoint stands that a new device would
// begin with: if it cannot tell from there, it takes the whole log.
func TestFloorOfALostLogBehindACheckpoint(t *testing.T) {
	for _, when := range []string{"before the reset", "after the reset"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParting(t)
				floor, err := p.a.Floor(t.Context())
				fatal(t, err)
				for i := range 3 * int(floor.Size) {
					put(t, p.c.Vault, fmt.Sprint("more ", i), "c")
					vaulttest.Sync(t, p.c)
				}
				if when == "before the reset" {
					vaulttest.Sync(t, p.vaults.Device(t, "s", vault.Config{})) // posts one
				}
				_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
				fatal(t, err)
				if when == "after the reset" {
					vaulttest.Sync(t, p.vaults.Device(t, "s", vault.Config{}))
				}
				enrol := func(f keyfile.Checkpoint) error {
					o := vault.SyncOptions{Floor: &f}
					_, err := p.vaults.New(t, "new", vault.Config{}, p.s).Enrol(t.Context(), p.vaults.Root.Authority(), nil, o)
					if errors.Is(err, vault.ErrNoBase) { // as package onboarding does
						o.Whole = true
						_, err = p.vaults.New(t, "new", vault.Config{}, p.s).Enrol(t.Context(), p.vaults.Root.Authority(), nil, o)
					}
					return err
				}
				fatal(t, enrol(*floor))
				floor.Root[0] ^= 1
				if err := enrol(*floor); !errors.Is(err, commitlog.ErrFork) {
					t.Errorf("got %v, want a fork", err)
				}
			})
		})
	}
}

// What this device keeps of old versions concerns its own log, as long as that is in use:
// a long value that has ended in the other one may count in this.
func TestMergeDropsNothingOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		a := p.vaults.Device(t, "x", vault.Config{})
		_, err := a.Namespace("notes").Put(t.Context(), "long", film(3))
		fatal(t, err)
		vaulttest.Sync(t, a, p.c)
		put(t, a.Vault, "long", "short")
		vaulttest.Sync(t, a, p.c)
		old := backup(t, p.s)
		var id commitlog.ChangeID
		for r, err := range a.Namespace("notes").History(t.Context(), "long") {
			fatal(t, err)
			id = r.Commit // the oldest comes last
		}
		_, err = a.Namespace("notes").Revert(t.Context(), "long", id)
		fatal(t, err)
		vaulttest.Sync(t, a)
		old()
		put(t, p.c.Vault, "from c again", "c")
		vaulttest.Sync(t, p.c)
		fatal(t, a.SetRetention(t.Context(), vault.Retention{Versions: 1}))
		_, err = a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		vaulttest.Sync(t, a, p.c)
		for _, d := range []*vaulttest.Device{a, p.c} {
			if got, failed := content(t, d.Vault, "notes"); len(failed) > 0 || got["notes/long"] != string(film(3)) {
				t.Errorf("%d bytes, %v", len(got["notes/long"]), failed)
			}
		}
	})
}

// What there is beside the log in use, a log that comes and one that was lost, is looked
// through, rewritten and left alone like all else.
func TestRoomsAreLookedAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		// Device b has a lost log, and begins to take another.
		vaulttest.Sync(t, p.b, p.a)
		old := backup(t, p.s)
		put(t, p.a.Vault, "edited", "lost again")
		vaulttest.Sync(t, p.a, p.b)
		old()
		put(t, p.c.Vault, "more from c", "again")
		p.want["notes/more from c"], p.want["notes/edited"] = "again", "lost again"
		vaulttest.Sync(t, p.c)
		_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		put(t, p.b.Vault, "more unsent by b", "again")
		p.want["notes/more unsent by b"] = "again"
		shown := false
		p.b.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			shown = shown || f.Type == wire.TypeCommits
			return vaulttest.Fault{Cut: shown && f.Type == wire.TypeDownload}
		})
		half := errors.New("between")
		testonly.BetweenRooms = func(string) error { return half }
		defer func() { testonly.BetweenRooms = nil }()
		if _, err := p.b.Sync(t.Context(), vault.SyncOptions{}); err == nil {
			t.Fatal("it was not cut")
		}
		p.b.Network.SetFaults(nil)
		look := func() {
			t.Helper()
			if _, err := p.b.Check(t.Context(), nil); err != nil {
				t.Error(err)
			}
			fatal(t, p.b.Close())
			d, err := vault.Examine(p.b.Dir)
			fatal(t, err)
			if len(d.Faults)+d.Lost > 0 {
				t.Errorf("%+v", d)
			}
			if _, _, err := vault.Shrink(t.Context(), p.b.Dir); err != nil {
				t.Error(err)
			}
			fatal(t, reopen(t, p.b))
		}
		look()
		if _, err := p.b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, half) {
			t.Fatalf("got %v", err)
		}
		testonly.BetweenRooms = nil
		look() // and the second half is done
		p.merged(t)
		look()
	})
}
