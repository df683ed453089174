package store_test

import (
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

// deadByNumber returns how many refs of a commit name by own number what is at or
// below the base and not live.
func deadByNumber(t *testing.T, l *store.Log, c *commitlog.Commit) (n int) {
	t.Helper()
	for _, ch := range c.Changes {
		for _, r := range ch.Refs {
			if !r.Own || r.At > l.BaseSeq(c.Header.Device) || c.Header.SeenSize >= l.Base() {
				continue
			}
			at, err := l.OwnCommit(c.Header.Device, r.At)
			fatal(t, err)
			if at == 0 || !l.Live(c.Header.Tag, commitlog.ChangeID{Commit: at, Index: r.Index}) {
				n++
			}
		}
	}
	return n
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
	dead := deadByNumber(h.t, l, a.c)
	if must := dead > 0 && restates; must != errors.Is(err, commitlog.ErrNeedsHistory) {
		h.t.Fatalf("commit %d over base %d: %v; refs by own number to what is not live: %d, live restates: %v", id, base, err, dead, restates)
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
