package vault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// cutAtStep returns a context that ends at the n-th step of a sync, and the options for
// it.
func cutAtStep(ctx context.Context, n int) (context.Context, context.CancelFunc, vault.SyncOptions) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, cancel, vault.SyncOptions{Step: func() {
		if n--; n == 0 {
			cancel()
		}
	}}
}

// A move that is cut off anywhere, with the device going down, is finished by the same
// call; what the others see meanwhile is no alarm, and they end at the same place.
func TestMoveCut(t *testing.T) {
	for n, done := 1, false; !done; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMover(t, 2)
				a, b := m.device("a"), m.device("b")
				put(t, a.Vault, "one", "a")
				vaulttest.Sync(t, a, b)
				put(t, a.Vault, "two", "a")
				i := m.at[1].Invite()
				ctx, cancel, o := cutAtStep(t.Context(), n)
				_, _, err := a.Move(ctx, m.vault.Root.Authority(), server(i), &i.Token, o)
				cancel()
				done = err == nil
				a.Crash()

				put(t, b.Vault, "three", "b")
				if _, err := b.Vault.Sync(t.Context(), vault.SyncOptions{}); err != nil && !errors.Is(err, vault.ErrNotArrived) {
					t.Fatalf("another device: %v", err)
				}
				if _, _, err := a.Move(t.Context(), m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{}); err != nil {
					t.Fatalf("again: %v", err)
				}
				vaulttest.Sync(t, b, a)
				m.is(m.at[1], a, b)
				vaulttest.InStep(t, a, b)
			})
		})
		if n > 300 {
			t.Fatal("it does not come to an end")
		}
	}
}

// A device that is cut off while it follows goes on where it is.
func TestFollowCut(t *testing.T) {
	for n, done := 1, false; !done; n++ {
		synctest.Test(t, func(t *testing.T) {
			m := newMover(t, 2)
			a, b := m.device("a"), m.device("b")
			put(t, a.Vault, "one", "a")
			fatal(t, m.move(a, m.at[1]))
			put(t, b.Vault, "two", "b")
			ctx, cancel, o := cutAtStep(t.Context(), n)
			_, err := b.Vault.Sync(ctx, o)
			cancel()
			done = err == nil
			b.Crash()
			vaulttest.Sync(t, b, a)
			m.is(m.at[1], a, b)
			vaulttest.InStep(t, a, b)
		})
		if n > 300 {
			t.Fatal("it does not come to an end")
		}
	}
}

// stopMove moves a vault, and ends when the old secondary has the move, and the new
// one has not.
func (m *mover) stopMove(d *vaulttest.Device, to *vaulttest.Secondary) {
	m.t.Helper()
	i := to.Invite()
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	_, _, err := d.Move(ctx, m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{Step: func() {
		if is, err := d.Moved(m.t.Context()); err == nil && is != nil && is.To.Key == to.ServerKey().Public() {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		m.t.Fatalf("got %v", err)
	}
	d.Crash()
}

// Where the one who moves the vault does not come back, any device brings the rest.
func TestMoveNotArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b, c := m.device("a"), m.device("b"), m.device("c")
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, b)
		m.stopMove(a, m.at[1])
		put(t, b.Vault, "two", "b")
		for range 2 {
			if _, err := b.Vault.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, vault.ErrNotArrived) {
				t.Fatalf("got %v", err)
			}
			b.Reopen()
		}
		m.is(m.at[1], b)
		if is, err := b.Moved(t.Context()); err != nil || is == nil || is.Arrived {
			t.Errorf("it was moved %+v, %v", is, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, vault.SyncOptions{}) }() // waits
		time.Sleep(time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("does not wait: %v", err)
		default:
		}
		_, err := b.Refill(t.Context(), m.vault.Root.Authority(), nil, vault.SyncOptions{})
		fatal(t, err)
		vaulttest.Sync(t, b)
		fatal(t, c.WaitForDownload(ctx))
		cancel()
		<-ended
		vaulttest.Sync(t, a)
		vaulttest.InStep(t, a, b, c)
		if is, err := b.Moved(t.Context()); err != nil || is == nil || !is.Arrived {
			t.Errorf("it was moved %+v, %v", is, err)
		}
	})
}

// The new secondary may lack the move for as long as it has not shown it, and nothing
// else.
func TestMoveNewLies(t *testing.T) {
	back := func(n uint64, root func(*commitlog.Hash)) lying.Mutation {
		return lying.Replace("fewer commits", lying.All, func(b *wire.Bound) []wire.Message {
			b.Size -= n
			root(&b.Root)
			return []wire.Message{b}
		})
	}
	for _, test := range []struct {
		name    string
		arrived bool
		less    uint64
		other   bool // root
		want    error
	}{
		{"the move", false, 1, false, vault.ErrNotArrived},
		{"the move, that it has shown", true, 1, false, commitlog.ErrRollback},
		{"more than the move", false, 2, false, commitlog.ErrRollback},
		{"the move, after another history", false, 1, true, commitlog.ErrFork},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMover(t, 2)
				a, b := m.device("a"), m.device("b")
				put(t, a.Vault, "one", "a")
				vaulttest.Sync(t, a, b)
				m.stopMove(a, m.at[1])
				if _, err := b.Vault.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, vault.ErrNotArrived) {
					t.Fatalf("got %v", err)
				}
				fatal(t, m.move(a, m.at[1]))
				size := uint64(0)
				if st, err := b.Status(t.Context()); err == nil {
					size = st.Commits
				}
				if test.arrived {
					vaulttest.Sync(t, b)
				}
				m.at[1].Lie(back(test.less, func(h *commitlog.Hash) {
					root, err := b.RootAt(t.Context(), size-test.less)
					fatal(t, err)
					if *h = root; test.other {
						h[0]++
					}
				}))
				_, err := b.Vault.Sync(t.Context(), vault.SyncOptions{})
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if alarm, err := b.Alarm(t.Context()); err != nil || (alarm != nil) == (test.want == vault.ErrNotArrived) {
					t.Errorf("alarm %v, %v", alarm, err)
				} else if alarm != nil && alarm.Key != m.at[1].ServerKey().Public() {
					t.Errorf("the alarm is about another secondary")
				}
			})
		})
	}
}

// Of two owners who move the vault at once one wins; the other one says so, or finds
// that it is done.
func TestMoveTwoOwners(t *testing.T) {
	lost := func(err error) bool {
		// The owner has one session at a secondary: it may have ended the other one's.
		return errors.Is(err, vault.ErrMovedMeanwhile) || errors.Is(err, vault.ErrNotArrived) || errors.Is(err, wire.ErrReplaced)
	}
	for n := 1; n < 60; n += 3 {
		synctest.Test(t, func(t *testing.T) {
			m := newMover(t, 3)
			a, b := m.device("a"), m.device("b")
			put(t, a.Vault, "one", "a")
			vaulttest.Sync(t, a, b)
			i := m.at[1].Invite()
			left := n
			_, _, err := a.Move(t.Context(), m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{Step: func() {
				if left--; left == 0 {
					if err := m.move(b, m.at[2]); err != nil && !lost(err) {
						t.Errorf("the second: %v", err)
					}
				}
			}})
			if err != nil && !lost(err) {
				t.Fatalf("the first, with the second at step %d: %v", n, err)
			}
			vaulttest.Sync(t, a, b, a)
			at := m.at[1]
			if err != nil || a.Servers()[0].Key == m.at[2].ServerKey().Public() {
				at = m.at[2]
			}
			m.is(at, a, b)
			vaulttest.InStep(t, a, b)
		})
	}
}

// Others go on writing while a vault is moved: what comes in between is brought too.
func TestMoveWhileOthersWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b := m.device("a"), m.device("b")
		i := m.at[1].Invite()
		step := 0
		_, _, err := a.Move(t.Context(), m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{Step: func() {
			if step++; step < 60 && step%4 == 0 {
				put(t, b.Vault, fmt.Sprint(step), "b")
				if _, err := b.Vault.Sync(t.Context(), vault.SyncOptions{}); err != nil && !errors.Is(err, vault.ErrNotArrived) {
					t.Error(err)
				}
			}
		}})
		fatal(t, err)
		vaulttest.Sync(t, b, a)
		m.is(m.at[1], a, b)
		vaulttest.InStep(t, a, b)
	})
}

// A vault that was moved goes by hand to a third secondary, since the second is gone:
// its log says so there, also to those who are restored from it.
func TestMoveThenByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 3)
		a, b := m.device("a"), m.device("b")
		fatal(t, m.move(a, m.at[1]))
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, a, b)
		m.at[1].Stop()
		i := m.at[2].Invite()
		for _, d := range []*vaulttest.Device{a, b} {
			fatal(t, d.SetServers([]keyfile.Server{server(i)}))
			_, err := d.Refill(t.Context(), m.vault.Root.Authority(), &i.Token, vault.SyncOptions{})
			fatal(t, err)
			vaulttest.Sync(t, d)
		}
		m.is(m.at[2], a, b)
		c := m.reach(m.vault.New(t, "c", vault.Config{}, m.at[2]))
		_, err := c.Enrol(t.Context(), m.vault.Root.Authority(), nil, vault.SyncOptions{Whole: true})
		fatal(t, err)
		vaulttest.Sync(t, c, a, b)
		m.is(m.at[2], a, b, c)
		vaulttest.InStep(t, a, b, c)
		if _, err := c.VerifyLog(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

// Who fills an old secondary again, not knowing that the vault was moved from there,
// does not bring it back.
func TestRefillAfterMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 3)
		a, b, c := m.device("a"), m.device("b"), m.device("c")
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, a, b, c)
		fatal(t, m.move(a, m.at[1]))
		vaulttest.Sync(t, c)
		fatal(t, m.move(a, m.at[0]))
		fatal(t, m.move(a, m.at[2]))
		refill := func(d *vaulttest.Device) error {
			_, err := d.Refill(t.Context(), m.vault.Root.Authority(), nil, vault.SyncOptions{})
			return err
		}
		if err := refill(b); err != nil && !errors.Is(err, vault.ErrMovedMeanwhile) {
			t.Fatalf("got %v", err)
		}
		fatal(t, c.SetServers([]keyfile.Server{server(m.at[0].Invite())}))
		if err := refill(c); !errors.Is(err, vault.ErrMovedMeanwhile) {
			t.Fatalf("got %v", err)
		}
		vaulttest.Sync(t, b, c, a)
		m.is(m.at[2], a, b, c)
		vaulttest.InStep(t, a, b, c)
	})
}

// An alarm about the old secondary is none about the new one; with one, nothing is
// moved.
func TestMoveAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b := m.device("a"), m.device("b")
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, a, b)
		m.at[0].Lie(lying.Replace("rolled back", lying.All, func(b *wire.Bound) []wire.Message {
			b.Size--
			return []wire.Message{b}
		}))
		if err := m.move(b, m.at[1]); !vault.IsAlarm(err) {
			t.Fatalf("got %v", err)
		}
		m.is(m.at[0], b)
		m.at[0].Lie(lying.Mutation{})
		fatal(t, m.move(a, m.at[1]))
		if _, err := b.Vault.Sync(t.Context(), vault.SyncOptions{}); !vault.IsAlarm(err) {
			t.Fatalf("got %v", err)
		}
		i := m.at[1].Invite()
		fatal(t, b.SetServers([]keyfile.Server{server(i)}))
		vaulttest.Sync(t, b, a)
		vaulttest.InStep(t, a, b)
	})
}

// A transaction through the secondary that is under way when the vault is moved is
// decided at the new one.
func TestMoveTransact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b := m.device("a"), m.device("b")
		runs := 0
		err := b.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
			if runs++; runs == 1 {
				fatal(t, m.move(a, m.at[1])) // another device: the transaction is this one's
			}
			_, err := tx.Put("x", []byte(fmt.Sprint(runs)))
			return err
		})
		fatal(t, err)
		synctest.Wait()
		m.is(m.at[1], b)
		vaulttest.Sync(t, a, b)
		vaulttest.InStep(t, a, b)
		if st, err := b.Status(t.Context()); err != nil || st.Undecided != 0 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
