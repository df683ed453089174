package attacks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// sending is a device that has everything, and something to send: three commits.
func sending(t *testing.T, s *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
	d := s.victim.Copy(t, at)
	vaulttest.Sync(t, d)
	for _, namespace := range []string{"notes", "tasks", "new"} {
		write(t, d, namespace, "mine", "unsent")
	}
	return d, d.Sync
}

// trySending tries lies on a device that sends. Whatever they are, what it wrote
// stays, and is in the log once the secondary is honest: an alarm loses nothing.
func (s *scene) trySending(t *testing.T, attacks ...attack) {
	t.Helper()
	t.Run("truth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if o := s.meet(t, sending, lying.Mutation{}); o.err != nil || o.report.Pushed < 3 || o.report.Pending != 0 {
				t.Errorf("%v, %+v", o.err, o.report)
			}
		})
	})
	for _, a := range attacks {
		t.Run(a.lie.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := s.meet(t, sending, a.lie)
				if o.told == 0 {
					t.Fatal("nobody lied")
				}
				if !errors.Is(o.err, a.want) || a.want == nil && o.err != nil {
					t.Errorf("%v, want %v", o.err, a.want)
				}
				o.alarmed(t)
				for _, namespace := range []string{"notes", "tasks", "new"} {
					if rec, err := o.device.Namespace(namespace).Get(t.Context(), "mine"); err != nil || string(rec.Value) != "unsent" {
						t.Errorf("%s: what was written is gone: %v", namespace, err)
					}
				}
				sent := []string{"meta", "sent", "acked", "refused", "built", "unsent", "outbox", "aside", "records"}
				if a.want != nil && o.report.Pushed == 0 {
					if changed := o.before.Without(sent...).Changed(o.after.Without(sent...)); len(changed) > 0 {
						t.Errorf("what is stored has changed: %q", changed)
					}
				}
			})
		})
	}
}

// swallow answers UPLOAD with what f makes of the IDs that the commits would have
// had, and appends none of them.
func swallow(name string, f func(size uint64, seqs []uint64) []wire.Message) lying.Mutation {
	return lying.Mutation{Name: name, Begin: func() lying.Lie {
		var size uint64
		return lying.Lie{
			Down: func(frame []byte) [][]byte {
				if m, err := wire.Parse(slices.Clone(frame)); err == nil {
					if b, ok := m.(*wire.Bound); ok {
						size = b.Size
					}
				}
				return [][]byte{frame}
			},
			Up: func(frame []byte) (pass, answer [][]byte) {
				m, err := wire.Parse(frame)
				u, ok := m.(*wire.Upload)
				if err != nil || !ok {
					return [][]byte{frame}, nil
				}
				var seqs []uint64
				for _, i := range u.Items {
					b, err := commitlog.ParseBundle(i.Data)
					if err != nil {
						panic(err)
					}
					seqs = append(seqs, b.Commit.Header.Seq)
				}
				for _, m := range f(size, seqs) {
					frame, err := wire.Append(nil, m)
					if err != nil {
						panic(err)
					}
					answer = append(answer, frame)
				}
				size += uint64(len(seqs))
				return nil, answer
			},
		}
	}}
}

// acknowledge says that all is in the log.
func acknowledge(size uint64, seqs []uint64) []wire.Message {
	u := &wire.Uploaded{}
	for i, seq := range seqs {
		u.Results = append(u.Results, wire.Result{Seq: seq, ID: commitlog.CommitID(size) + commitlog.CommitID(i) + 1})
	}
	return []wire.Message{u}
}

// answer answers each commit with what f makes of its acknowledgement.
func answer(f func(r *wire.Result)) func(size uint64, seqs []uint64) []wire.Message {
	return func(size uint64, seqs []uint64) []wire.Message {
		out := acknowledge(size, seqs)
		for i := range out[0].(*wire.Uploaded).Results {
			f(&out[0].(*wire.Uploaded).Results[i])
		}
		return out
	}
}

// results is the mutation that f makes of each result of UPLOADED.
func results(name string, f func(r *wire.Result)) lying.Mutation {
	return lying.Change(name, lying.All, func(u *wire.Uploaded) {
		for i := range u.Results {
			f(&u.Results[i])
		}
	})
}

// hold keeps DOWNLOAD back.
func hold(m lying.Mutation) lying.Mutation {
	return lying.Both(m.Name, m, lying.Drop(wire.TypeDownload, lying.All))
}

// C7, C9: an answer to what was sent is compared with the log.
func TestC7Acknowledged(t *testing.T) {
	s := newScene(t)
	refused := func(code wire.Code) func(r *wire.Result) { return func(r *wire.Result) { r.ID, r.Code = 0, code } }
	s.trySending(t,
		attack{swallow("acknowledged, and never there", acknowledge), commitlog.ErrOwnCommitMissing},
		attack{hold(lying.Insert("a PING", wire.TypeUploaded, 1, &wire.Ping{})).Named("acknowledged, and kept back"), commitlog.ErrOwnCommitMissing},
		attack{results("acknowledged one later", func(r *wire.Result) { r.ID++ }), commitlog.ErrOwnCommitMissing},
		attack{results("acknowledged far ahead", func(r *wire.Result) { r.ID = commitlog.MaxLog - 1 }), commitlog.ErrOwnCommitMissing},
		attack{hold(results("acknowledged where another is", func(r *wire.Result) { r.ID = 2 })).Named("acknowledged where another is"), commitlog.ErrOwnCommitMissing},
		attack{hold(results("acknowledged at its own old place", func(r *wire.Result) { r.ID = 5 })).Named("acknowledged at an own old place"), commitlog.ErrOwnCommitMissing},
		attack{swallow("called known already, at the end", func(size uint64, seqs []uint64) []wire.Message {
			u := &wire.Uploaded{}
			for _, seq := range seqs {
				u.Results = append(u.Results, wire.Result{Seq: seq, ID: commitlog.CommitID(size)})
			}
			return []wire.Message{u}
		}), commitlog.ErrOwnCommitMissing},
		attack{swallow("all acknowledged at one place", func(size uint64, seqs []uint64) []wire.Message {
			u := &wire.Uploaded{}
			for _, seq := range seqs {
				u.Results = append(u.Results, wire.Result{Seq: seq, ID: commitlog.CommitID(size) + 1})
			}
			return []wire.Message{u}
		}), commitlog.ErrOwnCommitMissing},
		attack{lying.Both("acknowledged, then refused", lying.Drop(wire.TypeDownload, lying.All),
			lying.Replace("", 1, func(u *wire.Uploaded) []wire.Message {
				no := &wire.Uploaded{}
				for _, r := range u.Results {
					no.Results = append(no.Results, wire.Result{Seq: r.Seq, Code: wire.CodeTooLarge})
				}
				u.Results = append(u.Results, no.Results...)
				return []wire.Message{u}
			})), commitlog.ErrOwnCommitMissing},
		attack{results("another sequence number", func(r *wire.Result) { r.Seq += 1000 }), nil}, // the log says it
		attack{results("refused, and appended", refused(wire.CodeTooLarge)), nil},
		attack{swallow("called revoked", answer(refused(wire.CodeRevoked))), commitlog.ErrRevoked},
		attack{swallow("called unknown", answer(refused(wire.CodeUnknownSigner))), commitlog.ErrUnknownSigner},
		attack{swallow("called a copy", answer(refused(wire.CodeEquivocation))), commitlog.ErrEquivocation},
		attack{swallow("refused, as too large", answer(refused(wire.CodeTooLarge))), nil}, // set aside, and said so
		attack{swallow("refused, again and again", answer(refused(wire.CodeOrder))), nil},
		attack{swallow("a code that nobody knows", answer(refused(599))), nil},
		attack{swallow("answered twice", func(size uint64, seqs []uint64) []wire.Message {
			return slices.Repeat(acknowledge(size, seqs), 4)
		}), wire.ErrProtocol},
		attack{hold(lying.Drop(wire.TypeUploaded, lying.All)).Named("no answer at all"), wire.ErrTimeout},
		attack{lying.HangUp(wire.TypeUploaded, 1), wire.ErrUnreachable},
		// Own commits come back as stubs, which say where.
		attack{lying.Commits("stubs of what it never made", func(items []wire.Item) []wire.Item {
			return changeStubs(items, func(id commitlog.CommitID, seq uint64) (commitlog.CommitID, uint64) { return id, seq + 1000 })
		}), nil}, // it asks for the commits themselves
		attack{lying.Commits("stubs at other places", func(items []wire.Item) []wire.Item {
			return changeStubs(items, func(id commitlog.CommitID, seq uint64) (commitlog.CommitID, uint64) { return id + 1, seq })
		}), commitlog.ErrOmission},
		attack{lying.Commits("stubs in another order", func(items []wire.Item) []wire.Item {
			slices.Reverse(items)
			return items
		}), commitlog.ErrOmission},
	)
}

func changeStubs(items []wire.Item, f func(commitlog.CommitID, uint64) (commitlog.CommitID, uint64)) []wire.Item {
	for i := range items {
		if items[i].Kind == wire.ItemStub {
			items[i] = wire.NewStub(f(items[i].Stub()))
		}
	}
	return items
}

// C7: a secondary that acknowledges and does not deliver is found out after five
// minutes in which the log did not come closer, whatever it says beside the matter
// and however often it ends the session. Nothing is signed meanwhile.
func TestC7KeptBack(t *testing.T) {
	s := newScene(t)
	kept := hold(lying.Drop(wire.TypeMarked, lying.All))
	for name, lie := range map[string]lying.Mutation{
		"in silence":      kept,
		"with PINGs":      withNoise(kept, &wire.Ping{Token: 1 << 40}),
		"with PONGs":      withNoise(kept, &wire.Pong{Token: 1 << 40}),
		"ending sessions": withNoise(kept, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := s.secondary.Copy(t)
				d := s.victim.Copy(t, at)
				vaulttest.Sync(t, d)
				at.Lie(lie)
				missing := func(then func()) {
					t.Helper()
					ended := make(chan error, 1)
					began := time.Now()
					go func() { ended <- d.Run(t.Context(), vault.SyncOptions{}) }()
					synctest.Wait()
					then()
					select {
					case err := <-ended:
						if !errors.Is(err, commitlog.ErrOwnCommitMissing) {
							t.Error(err)
						}
					case <-time.After(long):
						t.Fatal("it is not found out")
					}
					if took := time.Since(began); took < 5*time.Minute || took > 10*time.Minute {
						t.Errorf("it took %v", took)
					}
				}
				missing(func() {
					write(t, d, "notes", "mine", "1")
					time.Sleep(2 * time.Minute)
					write(t, d, "notes", "mine", "2")
				})
				fatal(t, d.TryAgain(t.Context()))
				missing(func() {}) // it waits anew, and signs nothing more
				if st, err := d.Status(t.Context()); err != nil || st.Alarm == "" || st.Pending < 2 {
					t.Errorf("%+v, %v", st, err)
				}
				if sent := d.Dump().Without(); countKeys(sent, "sent/") != 1 {
					t.Errorf("%d commits are signed, want 1", countKeys(sent, "sent/"))
				}
			})
		})
	}
}

func countKeys(d vaulttest.Dump, prefix string) (n int) {
	for k := range d {
		if len(k) > len(prefix) && k[:len(prefix)] == prefix {
			n++
		}
	}
	return n
}

// withNoise adds noise to a lie: 8 KiB of a message each time that the device says
// anything, or, for nil, the end of the connection at the twelfth thing it says.
func withNoise(lie lying.Mutation, m wire.Message) lying.Mutation {
	return lying.Both(lie.Name, lie, lying.Mutation{Begin: func() lying.Lie {
		heard := 0
		return lying.Lie{Up: func(frame []byte) (pass, answer [][]byte) {
			if wire.Type(frame[0]) != wire.TypePing {
				return [][]byte{frame}, nil
			}
			heard++
			if m == nil {
				if heard == 12 { // four minutes
					return nil, [][]byte{nil}
				}
				return [][]byte{frame}, nil
			}
			one, err := wire.Append(nil, m)
			if err != nil {
				panic(err)
			}
			return [][]byte{frame}, slices.Repeat([][]byte{one}, 8<<10/len(one))
		}}
	}})
}

// C9: what a secondary says of how much there is is compared with what comes.
func TestC9FalseWords(t *testing.T) {
	s := newScene(t)
	var attacks []attack
	for _, left := range []uint64{1, 1 << 62} {
		attacks = append(attacks, attack{lying.Change(fmt.Sprintf("%d bytes left", left), lying.All, func(d *wire.Download) { d.Left = left }), nil})
	}
	attacks = append(attacks,
		attack{lying.Change("a smaller log, with what comes", lying.All, func(d *wire.Download) { d.Size = 0 }), nil},
		attack{lying.Change("other limits", 1, func(b *wire.Bound) { b.MaxObject, b.Retention = 0, 0 }), nil},
		attack{lying.Change("a last commit that is none", 1, func(b *wire.Bound) { b.Last = make([]byte, commitlog.HeaderSize) }), wire.ErrProtocol},
		attack{lying.Change("the last commit of another", 1, func(b *wire.Bound) {
			b.Last = slices.Clone(s.log[s.last()-1][8 : 8+commitlog.HeaderSize])
		}), wire.ErrProtocol},
		attack{lying.Insert("MARKED without MARK", wire.TypeBound, 1, &wire.Marked{Token: 1, Size: 3}), wire.ErrProtocol},
		attack{lying.Insert("HAVE without OBJECT", wire.TypeBound, 1, &wire.Have{}), wire.ErrProtocol},
		attack{lying.Insert("UPLOADED without UPLOAD", wire.TypeBound, 1, &wire.Uploaded{Results: []wire.Result{{Seq: 1, ID: 5}}}), wire.ErrProtocol},
		attack{lying.Insert("BLOBS without FETCH", wire.TypeBound, 1, &wire.Blobs{Request: 1, Absent: true}), wire.ErrProtocol},
		attack{lying.Insert("UNBOUND without UNBIND", wire.TypeBound, 1, &wire.Unbound{}), wire.ErrProtocol},
		attack{lying.Repeat(wire.TypeBound, 1), wire.ErrProtocol},
		attack{lying.Late(wire.TypeBound, 1), wire.ErrProtocol},
		attack{lying.Insert("what only devices say", wire.TypeBound, 1, &wire.Bind{}), wire.ErrProtocol},
		attack{lying.Insert("sign-in again", wire.TypeBound, 1, &wire.OK{}), wire.ErrProtocol},
	)
	s.try(t, known, attacks...)
	s.tryPartly(t, known,
		attack{lying.Change("a log that is longer than it is", 1, func(b *wire.Bound) { b.Size += 5 }), wire.ErrTimeout},
		attack{lying.Change("the longest log", 1, func(b *wire.Bound) { b.Size = commitlog.MaxLog - 1 }), wire.ErrTimeout},
	)

	// MARK, from somebody who waits for what was there when he asked.
	for name, tt := range map[string]struct {
		lie  lying.Mutation
		want error
	}{
		"truth":               {},
		"dropped":             {lying.Drop(wire.TypeMarked, 1), wire.ErrTimeout},
		"another token":       {lying.Change("", 1, func(m *wire.Marked) { m.Token++ }), wire.ErrProtocol},
		"of an old one":       {lying.Change("", 1, func(m *wire.Marked) { m.Token-- }), wire.ErrProtocol},
		"too early":           {lying.Answer("", func(m *wire.Mark) []wire.Message { return []wire.Message{&wire.Marked{Token: m.Token, Size: 1 << 20}} }), wire.ErrProtocol},
		"twice":               {lying.Repeat(wire.TypeMarked, 1), wire.ErrProtocol},
		"a size that is less": {lying.Change("", 1, func(m *wire.Marked) { m.Size = 0 }), nil},
	} {
		t.Run("MARKED "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := s.secondary.Copy(t)
				d := s.victim.Copy(t, at)
				at.Lie(tt.lie)
				var errs []error
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					d.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
						if p.Err != nil {
							errs = append(errs, p.Err)
						}
					}})
				}()
				synctest.Wait()
				waiting, stop := context.WithTimeout(ctx, time.Hour)
				err := d.WaitForDownload(waiting)
				stop()
				synctest.Wait()
				if tt.want == nil && (err != nil || len(errs) > 0) {
					t.Errorf("%v, %v", err, errs)
				}
				if tt.want != nil && (len(errs) == 0 || !errors.Is(errs[0], tt.want)) {
					t.Errorf("told %v, want %v; waiting ended with %v", errs, tt.want, err)
				}
				if st, serr := d.Status(t.Context()); err == nil && (serr != nil || st.Commits != uint64(s.last())) {
					t.Errorf("not everything was here: %+v, %v", st, serr)
				}
				cancel()
				<-ended
			})
		})
	}
}
