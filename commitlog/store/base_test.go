package store_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// checkpoint returns what a device says of the history at a size.
func (h *history) checkpoint(size uint64) *commitlog.Checkpoint {
	h.t.Helper()
	c := *h.comes[size]
	s := h.signers[2]
	c.Device, c.Time, c.Control = s.id, 1_763_650_740_000, commitlog.ControlHead{Number: uint64(len(h.live[size][ctlTag]))}
	fatal(h.t, c.Sign(func(m []byte) [64]byte { return s.key.Sign(keys.PurposeCheckpoint, c.Vault, m) }))
	return &c
}

// excerpts returns the live changes at a size, as they are served: the changes of
// a commit in one excerpt, or in several.
func (h *history) excerpts(size uint64) (out []*commitlog.Excerpt) {
	h.t.Helper()
	all := h.order(size)
	for len(all) > 0 {
		id := all[0].id.Commit
		n := 1
		for n < len(all) && all[n].id.Commit == id && h.rng.IntN(4) > 0 {
			n++
		}
		a := h.commits[id]
		data := commitlog.AppendExcerpt(nil, id, a.c.Raw, n)
		for _, p := range all[:n] {
			data = commitlog.AppendExcerptChange(data, p.id.Index, a.c.Changes[p.id.Index].Entry, a.blobs[p.id.Index])
		}
		x, err := commitlog.ParseExcerpt(data)
		fatal(h.t, err)
		out, all = append(out, x), all[n:]
	}
	return out
}

// begin returns a store whose log begins at a size.
func (h *history) begin(size uint64) *store.DB {
	h.t.Helper()
	db := h.newLog()
	for some := range slices.Chunk(h.excerpts(size), 10) {
		h.update(db, func(l *store.Log, _ *store.Tx) error {
			for _, x := range some {
				fatal(h.t, l.PutExcerpt(x))
			}
			return nil
		})
	}
	h.update(db, func(l *store.Log, _ *store.Tx) error {
		for id := uint64(1); id <= size; id++ {
			fatal(h.t, h.state(l, id))
		}
		return l.Begin(h.checkpoint(size))
	})
	return db
}

// same checks that a log says of now what the history says of that size.
func (h *history) same(l *store.Log, size uint64) {
	h.t.Helper()
	if l.Size() != size {
		h.t.Fatalf("size %d, want %d", l.Size(), size)
	}
	if diff := cmp.Diff(h.live[size], liveNow(h.t, l)); diff != "" {
		h.t.Fatalf("live at %d: want − got +:\n%s", size, diff)
	}
	for _, n := range h.comes[size].Namespaces {
		s, err := l.StateHash(n.Tag)
		fatal(h.t, err)
		if s.Count != n.Count || s.Bytes != n.Bytes || s.Sum() != n.Hash {
			h.t.Errorf("namespace %v at %d: %d changes of %d bytes, want %d of %d, or another hash", n.Tag, size, s.Count, s.Bytes, n.Count, n.Bytes)
		}
	}
	for _, a := range h.comes[size].Authors {
		got, err := l.Author(a.Device)
		fatal(h.t, err)
		if got == nil || (commitlog.AuthorEnd{Device: a.Device, Seq: got.LastSeq, Leaf: got.LastLeaf, Seen: got.LastSeen}) != a {
			h.t.Errorf("author %v at %d: %+v, want %+v", a.Device, size, got, a)
		}
	}
	digest, err := l.Digest()
	fatal(h.t, err)
	if digest != h.digests[size] {
		h.t.Errorf("digest at %d", size)
	}
	if tag, err := l.ControlTag(); err != nil || tag != ctlTag {
		h.t.Errorf("control log %v, %v", tag, err)
	}
	from := max(l.Base(), 1)
	for _, at := range []uint64{from, from + h.rng.Uint64N(size-from+1), size} {
		root, err := l.RootAt(at)
		fatal(h.t, err)
		if root != h.roots[at] {
			h.t.Errorf("root at %d of %d", at, size)
		}
	}
}

// tally is what has been seen to happen above bases.
type tally struct {
	commits, below   int // with a seen size below the base
	needs            int // that need history
	unknown          int // refs by commit ID to what is not here
	own              int // and by own number
	void, endedByOld int // restates that are void, and that end, by such refs
}

// unknownRefs returns how many refs of a commit name what a log does not have, by
// commit ID and by own number.
func unknownRefs(t *testing.T, l *store.Log, c *commitlog.Commit) (byID, byNumber int) {
	t.Helper()
	for _, ch := range c.Changes {
		for _, r := range ch.Refs {
			if r.Own {
				at, err := l.OwnCommit(c.Header.Device, r.At)
				fatal(t, err)
				if at == 0 {
					byNumber++
					continue
				}
				r.At = uint64(at)
			}
			if _, ok, err := l.Change(commitlog.ChangeID{Commit: commitlog.CommitID(r.At), Index: r.Index}); err != nil || !ok {
				fatal(t, err)
				byID++
			}
		}
	}
	return byID, byNumber
}

// follow appends the next commit of the history to a log that began at a base, and
// reports whether that could be told without the log below. If not, nothing is
// appended.
func (h *history) follow(l *store.Log, n *tally) bool {
	h.t.Helper()
	id, base := l.Size()+1, l.Base()
	a := h.commits[id]
	head := &a.c.Header
	n.commits++
	if head.SeenSize < base {
		n.below++
		if _, err := l.RootAt(head.SeenSize); err != nil && !errors.Is(err, store.ErrNotFound) {
			h.t.Errorf("root below the base: %v", err)
		}
		fatal(h.t, l.Prove(head.SeenSize, h.roots[head.SeenSize]))
	}
	byID, byNumber := unknownRefs(h.t, l, a.c)
	restates, err := l.AnyRestate(head.Tag)
	fatal(h.t, err)
	got, err := commitlog.Check(l, a.c)
	if must := byNumber > 0 && restates; must != errors.Is(err, commitlog.ErrNeedsHistory) {
		h.t.Fatalf("commit %d over base %d: %v; refs by own number to what is not here: %d, live restates: %v", id, base, err, byNumber, restates)
	}
	if err != nil {
		n.needs++
		if head.SeenSize >= base {
			h.t.Errorf("commit %d saw %d commits, and needs history below the base %d", id, head.SeenSize, base)
		}
		return false
	}
	n.unknown, n.own = n.unknown+byID, n.own+byNumber
	if got.Unresolved != (byID+byNumber > 0) {
		h.t.Errorf("commit %d over base %d: unresolved %v, with %d and %d refs to what is not here", id, base, got.Unresolved, byID, byNumber)
	}
	want := a.effects
	if got.ID != want.ID || got.Leaf != want.Leaf || !slices.Equal(got.Void, want.Void) || !slices.Equal(got.Superseded, want.Superseded) {
		h.t.Fatalf("commit %d over base %d: %+v, want %+v", id, base, got, want)
	}
	for i, ch := range a.c.Changes {
		if ch.Op == commitlog.OpRestate && !slices.Equal(got.Named[i], want.Named[i]) {
			h.t.Errorf("commit %d: restate %d names %v, want %v", id, i, got.Named[i], want.Named[i])
		}
	}
	if byID > 0 {
		n.void += len(got.Void)
		n.endedByOld += h.endedAside(a)
	}
	fatal(h.t, h.apply(l, id, got))
	return true
}

// endedAside returns how many restates a commit ends without naming them.
func (h *history) endedAside(a *appended) (n int) {
	for _, gone := range a.effects.Superseded {
		named := false
		for i := range a.effects.Named {
			named = named || slices.Contains(a.effects.Named[i], gone)
		}
		if !named {
			n++
		}
	}
	return n
}

// A log that began at a checkpoint goes on as the whole one does: every commit has
// the same effects, or says that it needs history where the specification says so.
func TestBase(t *testing.T) {
	var n tally
	for seed := range uint64(6) {
		h := newHistory(t, seed)
		for h.size() < 130 {
			h.grow()
		}
		for range 8 {
			base := 1 + h.rng.Uint64N(h.size()-10)
			db := h.begin(base)
			h.update(db, func(l *store.Log, _ *store.Tx) error {
				if l.Base() != base {
					t.Errorf("base %d, want %d", l.Base(), base)
				}
				h.same(l, base)
				return nil
			})
			for at := base; at < h.size(); {
				h.update(db, func(l *store.Log, _ *store.Tx) error {
					for range min(h.size()-at, 1+h.rng.Uint64N(40)) {
						at++
						if !h.follow(l, &n) {
							// So that what comes after is tried as well.
							fatal(t, h.apply(l, at, h.commits[at].effects))
						}
						h.same(l, at)
					}
					return nil
				})
			}
		}
	}
	t.Logf("%+v", n)
	if n.below == 0 || n.needs == 0 || n.unknown == 0 || n.own == 0 || n.void == 0 || n.endedByOld == 0 {
		t.Errorf("something never happened: %+v", n)
	}
}

// fill appends commits that put one record each, up to a size.
func (h *history) fill(s *signer, size uint64) {
	h.t.Helper()
	for h.size() < size {
		h.data(s, tagE, h.size(), commitlog.Change{Op: commitlog.OpPut})
	}
}

func (h *history) data(s *signer, tag keys.Tag, seen uint64, changes ...commitlog.Change) uint64 {
	h.t.Helper()
	h.append(h.build(s, commitlog.KindData, tag, seen, changes...), nil, nil, 0)
	return h.size()
}

func at(id uint64) commitlog.Ref { return commitlog.Ref{At: id} }

// A restate ends by an edit of what it named, though that is dead and below the
// base, and a commit of another namespace, which may not name it, does not end it.
func TestBaseEndsRestate(t *testing.T) {
	h := newHistory(t, 99)
	filler, writer, late := h.signers[1], h.signers[2], h.signers[3]
	h.fill(filler, 39)
	p1 := h.data(writer, tagA, 39, commitlog.Change{Op: commitlog.OpPut})
	p2 := h.data(writer, tagA, 40, commitlog.Change{Op: commitlog.OpPut})
	h.fill(filler, 49)
	r := h.data(writer, tagA, 49, commitlog.Change{Op: commitlog.OpRestate, Refs: []commitlog.Ref{at(p1), at(p2)}})
	h.fill(filler, 69)
	foreign := h.build(late, commitlog.KindData, tagB, 45, commitlog.Change{Op: commitlog.OpPut, Refs: []commitlog.Ref{at(p1), at(p2)}})
	half := h.build(late, commitlog.KindData, tagA, 45, commitlog.Change{Op: commitlog.OpPut, Refs: []commitlog.Ref{at(p1)}})
	e := h.data(late, tagA, 45, commitlog.Change{Op: commitlog.OpPut, Refs: []commitlog.Ref{at(p1), at(p2)}})
	if p1 != 40 || p2 != 41 || r != 50 || e != 70 {
		t.Fatalf("commits %d, %d, %d, %d", p1, p2, r, e)
	}

	db := h.begin(60)
	var n tally
	h.update(db, func(l *store.Log, _ *store.Tx) error {
		for l.Size() < 69 {
			if !h.follow(l, &n) {
				t.Fatal("needs history")
			}
		}
		fatal(t, l.Prove(45, h.roots[45]))
		for name, a := range map[string]*appended{"of another namespace": foreign, "of half of it": half} {
			got, err := commitlog.Check(l, a.c)
			fatal(t, err)
			if len(got.Superseded) != 0 || !got.Unresolved {
				t.Errorf("edit %s: %+v", name, got)
			}
		}
		got, err := commitlog.Check(l, h.commits[70].c)
		fatal(t, err)
		if want := []commitlog.ChangeID{{Commit: 50}}; !slices.Equal(got.Superseded, want) || !got.Unresolved {
			t.Errorf("edit of both: %+v, want %v superseded", got, want)
		}
		if !h.follow(l, &n) {
			t.Error("needs history")
		}
		h.same(l, 70)
		return nil
	})
	// The whole log knows whose namespace that is.
	h.update(h.db, func(l *store.Log, _ *store.Tx) error {
		if _, err := commitlog.Check(l, foreign.c); !errors.Is(err, commitlog.ErrEquivocation) { // commit 70 is there
			t.Errorf("%v", err)
		}
		return nil
	})
}

// What no author may sign is refused over a base as it is in the whole log, but
// where only the log below can tell.
func TestBaseRefuses(t *testing.T) {
	h := newHistory(t, 99)
	s, late := h.signers[2], h.signers[3]
	dead := h.data(s, tagA, h.size(), commitlog.Change{Op: commitlog.OpPut})
	h.data(s, tagA, h.size(), commitlog.Change{Op: commitlog.OpDelete, Refs: []commitlog.Ref{at(dead)}})
	ended := h.data(late, tagB, h.size(), commitlog.Change{Op: commitlog.OpPut})
	lived := h.data(s, tagA, h.size(), commitlog.Change{Op: commitlog.OpPut})
	h.data(s, tagB, h.size(), commitlog.Change{Op: commitlog.OpDelete, Refs: []commitlog.Ref{at(ended)}})
	h.fill(h.signers[1], 10)
	db := h.begin(10)
	gone := h.data(s, tagA, 10, commitlog.Change{Op: commitlog.OpDelete, Refs: []commitlog.Ref{at(lived)}})
	late.seen = 3
	put := func(refs ...commitlog.Ref) commitlog.Change { return commitlog.Change{Op: commitlog.OpPut, Refs: refs} }
	tests := []struct {
		name string
		a    *appended
		want error
	}{
		{"nothing named", h.build(late, commitlog.KindData, tagA, 11, put()), nil},
		{"what ended below", h.build(late, commitlog.KindData, tagA, 11, put(at(dead))), nil},
		{"what was never there", h.build(late, commitlog.KindData, tagA, 11, put(commitlog.Ref{At: dead, Index: 7})), nil},
		{"a live change of another namespace", h.build(late, commitlog.KindData, tagB, 11, put(at(lived))), commitlog.ErrScope},
		{"what was never there, above", h.build(late, commitlog.KindData, tagA, 11, put(commitlog.Ref{At: gone, Index: 7})), commitlog.ErrMalformed},
		{"a delete above", h.build(late, commitlog.KindData, tagA, 11, put(at(gone))), commitlog.ErrMalformed},
		{"own number below, which it had not seen", h.build(s, commitlog.KindData, tagA, 10, put(commitlog.Ref{Own: true, At: 1})), commitlog.ErrMalformed},
		{"an older leaf", func() *appended {
			old := *late
			old.prev = commitlog.Hash{}
			return h.build(&old, commitlog.KindData, tagA, 11, put())
		}(), commitlog.ErrEquivocation},
		{"another commit of that number", func() *appended {
			old := *late
			old.seq = 0
			return h.build(&old, commitlog.KindData, tagA, 11, put())
		}(), commitlog.ErrEquivocation},
		{"a seen size below that of its last", h.build(late, commitlog.KindData, tagA, 2, put()), commitlog.ErrOrder},
	}
	h.update(db, func(l *store.Log, _ *store.Tx) error {
		var n tally
		if !h.follow(l, &n) {
			t.Fatal("needs history")
		}
		for _, tt := range tests {
			if _, err := commitlog.Check(l, tt.a.c); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		// Below the base nothing is known that was not proven.
		c := h.build(late, commitlog.KindData, tagA, 6, put()).c
		if _, err := commitlog.Check(l, c); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a root that was not proven: %v", err)
		}
		fatal(t, l.Prove(6, commitlog.Hash{1}))
		if _, err := commitlog.Check(l, c); !errors.Is(err, commitlog.ErrFork) {
			t.Errorf("another root: %v", err)
		}
		return nil
	})
}

// Two headers for one place, and two places for one number, are refused.
func TestPutExcerptRefuses(t *testing.T) {
	h := newHistory(t, 3)
	for h.size() < 30 {
		h.grow()
	}
	all := h.excerpts(30)
	some := all[len(all)-1]
	again := func(id commitlog.CommitID, raw []byte) *commitlog.Excerpt {
		x, err := commitlog.ParseExcerpt(bytes.Join([][]byte{
			commitlog.AppendExcerpt(nil, id, raw, 1), commitlog.AppendExcerptChange(nil, some.Changes[0].Index, some.Changes[0].Change.Entry, nil),
		}, nil))
		fatal(t, err)
		return x
	}
	signed := bytes.Clone(some.Raw)
	signed[len(signed)-1] ^= 1
	for name, x := range map[string]*commitlog.Excerpt{
		"another header": again(some.ID, signed), "another place": again(some.ID+1, some.Raw),
	} {
		db := h.newLog()
		err := db.Update(func(tx *store.Tx) error {
			l, err := tx.Log(logName)
			fatal(t, err)
			for _, x := range all {
				fatal(t, l.PutExcerpt(x))
			}
			return l.PutExcerpt(x)
		})
		var ce *commitlog.CommitError
		if !errors.Is(err, commitlog.ErrCheckpoint) || !errors.As(err, &ce) || ce.ID != x.ID {
			t.Errorf("%s: %v, want ErrCheckpoint of commit %d", name, err, x.ID)
		}
	}
}

// An author that the control log does not know makes a checkpoint useless.
func TestBeginRefuses(t *testing.T) {
	h := newHistory(t, 3)
	for h.size() < 30 {
		h.grow()
	}
	db := h.newLog()
	err := db.Update(func(tx *store.Tx) error {
		l, err := tx.Log(logName)
		fatal(t, err)
		for _, x := range h.excerpts(30) {
			fatal(t, l.PutExcerpt(x))
		}
		return l.Begin(h.checkpoint(30))
	})
	if !errors.Is(err, commitlog.ErrCheckpoint) {
		t.Errorf("got %v, want ErrCheckpoint", err)
	}
	h.view(db, func(l *store.Log) error {
		if l.Size() != 0 || l.Base() != 0 {
			t.Errorf("size %d, base %d", l.Size(), l.Base())
		}
		return nil
	})
}
