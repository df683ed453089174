package store_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A lie about the log below the base, and where verifying it ends.
type lie struct {
	name string
	want error
	// tell changes what the device begins with, or what it is served below.
	tell func(h *history, base uint64, c *commitlog.Checkpoint, excerpts *[]*commitlog.Excerpt) (served *history)
}

func lies() []lie {
	// again returns another excerpt of the change at a place.
	again := func(h *history, x *commitlog.Excerpt, raw, entry, blob []byte) *commitlog.Excerpt {
		data := commitlog.AppendExcerpt(nil, x.ID, raw, 1)
		made, err := commitlog.ParseExcerpt(commitlog.AppendExcerptChange(data, x.Changes[0].Index, entry, blob))
		fatal(h.t, err)
		return made
	}
	// alone returns where the only live change of a commit is, of a device.
	alone := func(h *history, all []*commitlog.Excerpt) int {
		i := slices.IndexFunc(all, func(x *commitlog.Excerpt) bool {
			n := 0
			for _, y := range all {
				if y.ID == x.ID {
					n += len(y.Changes)
				}
			}
			return n == 1 && x.Header.Kind != commitlog.KindControl && x.Changes[0].Change.Op == commitlog.OpPut
		})
		if i < 0 {
			h.t.Fatal("no such commit")
		}
		return i
	}
	return []lie{
		{"nothing", nil, func(h *history, _ uint64, _ *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history { return h }},
		{"another header", commitlog.ErrFork, func(h *history, _ uint64, _ *commitlog.Checkpoint, all *[]*commitlog.Excerpt) *history {
			i := alone(h, *all)
			x := (*all)[i]
			raw := bytes.Clone(x.Raw)
			raw[len(raw)-1] ^= 1
			(*all)[i] = again(h, x, raw, x.Changes[0].Change.Entry, x.Changes[0].Blob)
			return h
		}},
		{"another change in a true commit", commitlog.ErrCheckpoint, func(h *history, _ uint64, _ *commitlog.Checkpoint, all *[]*commitlog.Excerpt) *history {
			i := alone(h, *all)
			x := (*all)[i]
			other := h.commits[1]
			(*all)[i] = again(h, x, x.Raw, other.c.Changes[0].Entry, other.blobs[0])
			return h
		}},
		{"a live change left out", commitlog.ErrCheckpoint, func(h *history, _ uint64, _ *commitlog.Checkpoint, all *[]*commitlog.Excerpt) *history {
			*all = slices.Delete(*all, alone(h, *all), alone(h, *all)+1)
			return h
		}},
		{"a dead change kept", commitlog.ErrCheckpoint, func(h *history, base uint64, _ *commitlog.Checkpoint, all *[]*commitlog.Excerpt) *history {
			for id := uint64(2); id <= base; id++ {
				a := h.commits[id]
				for i, ch := range a.c.Changes {
					dead := commitlog.ChangeID{Commit: commitlog.CommitID(id), Index: uint16(i)}
					if ch.Op == commitlog.OpPut && a.c.Header.Tag == tagA && !slices.Contains(h.live[base][tagA], dead) {
						x, err := commitlog.ParseExcerpt(commitlog.AppendExcerptChange(commitlog.AppendExcerpt(nil, dead.Commit, a.c.Raw, 1), dead.Index, ch.Entry, a.blobs[i]))
						fatal(h.t, err)
						*all = append(*all, x)
						return h
					}
				}
			}
			h.t.Fatal("nothing is dead")
			return nil
		}},
		{"another author's end", commitlog.ErrCheckpoint, func(h *history, _ uint64, c *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history {
			c.Authors[1].Seq++
			return h
		}},
		{"another number of statements", commitlog.ErrCheckpoint, func(h *history, _ uint64, c *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history {
			c.Control.Number++
			return h
		}},
		{"another last peak", commitlog.ErrFork, func(h *history, _ uint64, c *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history {
			c.Peaks[len(c.Peaks)-1][0] ^= 1
			return h
		}},
		{"another first peak", commitlog.ErrFork, func(h *history, _ uint64, c *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history {
			c.Peaks[0][0] ^= 1
			return h
		}},
		{"another log is served below", commitlog.ErrFork, func(h *history, base uint64, _ *commitlog.Checkpoint, _ *[]*commitlog.Excerpt) *history {
			fork := newHistory(h.t, 7) // by the same authors
			for fork.size() < base-5 {
				fork.grow()
			}
			for fork.size() < base {
				fork.data(fork.signers[2], tagE, fork.size(), commitlog.Change{Op: commitlog.OpPut})
			}
			return fork
		}},
	}
}

// Where base and log below disagree, verifying fails, and what is in use is as it
// was.
func TestPastLies(t *testing.T) {
	const base = 101
	for _, lie := range lies() {
		t.Run(lie.name, func(t *testing.T) {
			h := newHistory(t, 7)
			for h.size() < 110 {
				h.grow()
			}
			c := h.checkpoint(base)
			all := h.excerpts(base)
			served := lie.tell(h, base, c, &all)
			states := make(map[keys.Tag]*commitlog.StateHash)
			db := h.newLog()
			h.update(db, func(l *store.Log, _ *store.Tx) error {
				for id := uint64(1); id <= base; id++ {
					fatal(t, h.state(l, id))
				}
				for _, x := range all {
					fatal(t, l.PutExcerpt(x))
				}
				// The checkpoint is of what is served with it, as a device finds before it begins.
				return l.Namespaces(func(tag keys.Tag) (err error) {
					states[tag], err = l.StateHash(tag)
					return err
				})
			})
			c.Namespaces = nil
			for _, tag := range slices.SortedFunc(maps.Keys(states), func(a, b keys.Tag) int { return bytes.Compare(a[:], b[:]) }) {
				s := states[tag]
				c.Namespaces = append(c.Namespaces, commitlog.NamespaceState{Tag: tag, Count: s.Count, Bytes: s.Bytes, Hash: s.Sum()})
			}
			h.update(db, func(l *store.Log, _ *store.Tx) error { return l.Begin(c) })

			before := dump(t, db)
			err := db.Update(func(tx *store.Tx) error {
				p, err := tx.Past(logName, true)
				fatal(t, err)
				for p.Size() < base {
					if err := served.verifyNext(p); err != nil {
						return err
					}
				}
				comes, err := p.Comes(base)
				fatal(t, err)
				comes.Control, comes.Resets = commitlog.ControlHead{Number: uint64(len(h.live[base][ctlTag]))}, 0
				if err := comes.Same(c); err != nil {
					return err
				}
				return p.Done()
			})
			if !errors.Is(err, lie.want) || lie.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, lie.want)
			}
			if lie.want != nil {
				if diff := cmp.Diff(before, dump(t, db)); diff != "" {
					t.Errorf("before − after +:\n%s", diff)
				}
			}
		})
	}
}

// There is a past of a log alone, and only once it was begun.
func TestPastNotFound(t *testing.T) {
	h := newHistory(t, 1)
	h.update(h.db, func(_ *store.Log, tx *store.Tx) error {
		for _, name := range []string{logName, "none"} {
			if p, err := tx.Past(name, false); p != nil || !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", name, err)
			}
		}
		if _, err := tx.Past("none", true); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("begun: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// A past that is not verified to its end decides nothing above: it may be of commits
// that are true, in another order.
func TestPastUnfinished(t *testing.T) {
	put := commitlog.Change{Op: commitlog.OpPut}
	grown := func(swap bool) (h *history, first uint64) {
		h = newHistory(t, 99)
		d, e := h.signers[1], h.signers[2]
		h.fill(h.signers[3], 10)
		a, b := h.build(d, commitlog.KindData, tagA, 10, put), h.build(e, commitlog.KindData, tagE, 10, put)
		if swap {
			a, b = b, a
		}
		h.append(a, nil, nil, 0)
		h.append(b, nil, nil, 0)
		return h, 11
	}
	h, first := grown(false)
	d, e := h.signers[1], h.signers[2]
	restate := h.data(e, tagA, 12, commitlog.Change{Op: commitlog.OpRestate, Refs: []commitlog.Ref{at(first)}})
	h.data(e, tagE, 13, commitlog.Change{Op: commitlog.OpDelete, Refs: []commitlog.Ref{at(12)}}) // so that neither came with the checkpoint
	h.fill(h.signers[3], 20)
	db := h.begin(20)
	edit := h.data(d, tagA, 10, commitlog.Change{Op: commitlog.OpPut, Refs: []commitlog.Ref{{Own: true, At: d.seq}}})
	if want := []commitlog.ChangeID{{Commit: commitlog.CommitID(restate)}}; !slices.Equal(h.commits[edit].effects.Superseded, want) {
		t.Fatalf("the edit supersedes %v, want %v", h.commits[edit].effects.Superseded, want)
	}
	needs := func(l *store.Log) {
		t.Helper()
		fatal(t, l.Prove(10, h.roots[10]))
		if _, err := commitlog.Check(l, h.commits[edit].c); !errors.Is(err, commitlog.ErrNeedsHistory) {
			t.Errorf("got %v, want ErrNeedsHistory", err)
		}
	}
	served, _ := grown(true)
	h.update(db, func(l *store.Log, tx *store.Tx) error {
		needs(l)
		p, err := tx.Past(logName, true)
		fatal(t, err)
		for p.Size() < 12 {
			fatal(t, served.verifyNext(p))
		}
		needs(l)
		if err := h.verifyNext(p); !errors.Is(err, commitlog.ErrFork) {
			t.Errorf("the next commit, which saw the true order: %v, want ErrFork", err)
		}
		return nil
	})
	// With the true past, to its end, it is as in the whole log.
	db = h.begin(20)
	h.update(db, func(l *store.Log, tx *store.Tx) error {
		for !h.verify(tx, 20, 1) {
			needs(l)
		}
		var n tally
		if !h.follow(l, &n) {
			t.Error("the whole log needs history")
		}
		return nil
	})
}

// What was stored of another log below is dropped: the store is as before any of it
// came, and takes the true one.
func TestDropPast(t *testing.T) {
	const base = 101
	for _, growth := range []uint64{0, 60} {
		h := newHistory(t, 7)
		for h.size() < base+60 {
			h.grow()
		}
		db := h.begin(base)
		var n tally
		h.update(db, func(l *store.Log, _ *store.Tx) error {
			for l.Size() < base+growth {
				for size := uint64(1); size < base; size++ {
					fatal(t, l.Prove(size, h.roots[size]))
				}
				if !h.follow(l, &n) {
					break
				}
			}
			return nil
		})
		before := dump(t, db)
		fork := newHistory(t, 7) // by the same authors
		for fork.size() < base-5 {
			fork.grow()
		}
		for fork.size() < base {
			fork.data(fork.signers[2], tagE, fork.size(), commitlog.Change{Op: commitlog.OpPut}, commitlog.Change{Op: commitlog.OpPut})
		}
		for _, served := range []struct {
			h  *history
			to uint64
		}{{fork, base - 1}, {h, base / 2}, {h, 1}} {
			h.update(db, func(l *store.Log, tx *store.Tx) error {
				p, err := tx.Past(logName, true)
				fatal(t, err)
				for p.Size() < served.to && err == nil {
					err = served.h.verifyNext(p)
				}
				if p.Size() < min(served.to, base-5) {
					t.Fatal(p.Size(), err)
				}
				fatal(t, p.Drop())
				return nil
			})
			if diff := cmp.Diff(before, dump(t, db)); diff != "" {
				t.Fatal(diff)
			}
		}
		h.update(db, func(_ *store.Log, tx *store.Tx) error {
			h.verify(tx, base, base)
			return nil
		})
	}
}
