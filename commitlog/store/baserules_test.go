package store_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

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
		{"what ended below, of another namespace", h.build(late, commitlog.KindData, tagB, 11, put(at(dead))), nil},
		{"a delete below", h.build(late, commitlog.KindData, tagA, 11, put(at(dead+1))), nil},
		{"own number below", h.build(late, commitlog.KindData, tagB, 3, put(commitlog.Ref{Own: true, At: 1})), nil},
		{"own number below, of another namespace", h.build(late, commitlog.KindData, tagA, 3, put(commitlog.Ref{Own: true, At: 1})), nil},
		{"own number below, a change that was never there", h.build(late, commitlog.KindData, tagB, 3, put(commitlog.Ref{Own: true, At: 1, Index: 7})), nil},
		{"own number below, which it had seen", h.build(late, commitlog.KindData, tagB, 6, put(commitlog.Ref{Own: true, At: 1})), nil},
		{"own number that was never there", h.build(gap(late), commitlog.KindData, tagB, 3, put(commitlog.Ref{Own: true, At: 2})), commitlog.ErrMalformed},
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
		for seen := uint64(3); seen < 10; seen += 3 {
			fatal(t, l.Prove(seen, h.roots[seen]))
		}
		for _, tt := range tests {
			if _, err := commitlog.Check(l, tt.a.c); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		// Below the base nothing is known that was not proven.
		c := h.build(late, commitlog.KindData, tagA, 7, put()).c
		if _, err := commitlog.Check(l, c); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a root that was not proven: %v", err)
		}
		fatal(t, l.Prove(7, commitlog.Hash{1}))
		if _, err := commitlog.Check(l, c); !errors.Is(err, commitlog.ErrFork) {
			t.Errorf("another root: %v", err)
		}
		return nil
	})

	// What could not be told is found when the log below is there.
	later := map[string]error{
		"nothing named": nil, "what ended below": nil, "own number below": nil,
		"what was never there": commitlog.ErrMalformed, "a delete below": commitlog.ErrMalformed,
		"what ended below, of another namespace": commitlog.ErrScope, "own number below, of another namespace": commitlog.ErrScope,
		"own number below, a change that was never there": commitlog.ErrMalformed, "own number below, which it had seen": commitlog.ErrMalformed,
	}
	h.view(h.db, func(l *store.Log) error {
		for _, tt := range tests {
			want, could := later[tt.name]
			if could != (tt.want == nil) {
				t.Fatalf("%s: no word of what is found later", tt.name)
			}
			if err := commitlog.CheckRefs(l, 12, tt.a.c); could && (!errors.Is(err, want) || want == nil && err != nil) {
				t.Errorf("%s, later: %v, want %v", tt.name, err, want)
			}
		}
		return nil
	})
}

// gap returns a signer whose next number leaves one out.
func gap(s *signer) *signer {
	g := *s
	g.seq++
	return &g
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

// Of a log that is not here, the control commits are checked alone.
func TestBaseControl(t *testing.T) {
	h := newHistory(t, 5)
	for h.size() < 130 {
		h.grow()
	}
	db := h.newLog()
	owner := h.signers[0]
	h.update(db, func(l *store.Log, _ *store.Tx) error {
		after, last := uint64(0), commitlog.AuthorEnd{}
		// again signs the control commit of a place with another header.
		again := func(id uint64, change func(c *commitlog.Header)) *commitlog.Commit {
			c := h.commits[id].c
			head := c.Header
			change(&head)
			purpose := keys.PurposeControl
			if head.Kind != commitlog.KindControl {
				purpose = keys.PurposeCommit
			}
			made, err := commitlog.Build(head, slices.Clone(c.Changes), func(m []byte) [64]byte { return owner.key.Sign(purpose, h.authority.Public().VaultID(), m) })
			fatal(t, err)
			return made
		}
		for id := uint64(1); id <= h.size(); id++ {
			a := h.commits[id]
			if a.c.Header.Kind != commitlog.KindControl {
				if err := commitlog.CheckBaseControl(l, commitlog.CommitID(after), commitlog.CommitID(id), a.c); !errors.Is(err, commitlog.ErrMalformed) {
					t.Errorf("commit %d, not of the authority: %v", id, err)
				}
				continue
			}
			for _, tt := range []struct {
				name  string
				after uint64
				id    uint64
				c     *commitlog.Commit
				want  error
			}{
				{"as it is", after, id, a.c, nil},
				{"its number again", after, id, again(id, func(c *commitlog.Header) { c.Seq = last.Seq + 1<<62; c.PrevLeaf[0] ^= 1 }), commitlog.ErrOmission},
				{"another place", after, id + 1, a.c, commitlog.ErrOrder},
				{"another epoch", after, id, again(id, func(c *commitlog.Header) { c.Epoch++ }), commitlog.ErrEpoch},
				{"before one that is here", id, id, a.c, commitlog.ErrOrder},
				{"not signed", after, id, func() *commitlog.Commit {
					made, err := commitlog.Build(a.c.Header, slices.Clone(a.c.Changes), func(m []byte) [64]byte { return [64]byte{} })
					fatal(t, err)
					return made
				}(), commitlog.ErrSignature},
			} {
				if tt.name == "another place" && id == 1 {
					tt.want = commitlog.ErrNoGenesis
				}
				err := commitlog.CheckBaseControl(l, commitlog.CommitID(tt.after), commitlog.CommitID(tt.id), tt.c)
				if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
					t.Errorf("commit %d, %s: %v, want %v", id, tt.name, err, tt.want)
				}
			}
			authority, err := l.Author(keys.DeviceID{})
			fatal(t, err)
			grown := *authority
			grown.LastSeq, grown.LastLeaf, grown.LastSeen = a.c.Header.Seq, a.c.Leaf(), a.c.Header.SeenSize
			fatal(t, l.SetAuthor(keys.DeviceID{}, &grown))
			fatal(t, h.state(l, id))
			after, last = id, commitlog.AuthorEnd{Seq: a.c.Header.Seq}
			if err := commitlog.CheckBaseControl(l, 0, commitlog.CommitID(id), a.c); id > 1 && !errors.Is(err, commitlog.ErrNoGenesis) {
				t.Errorf("commit %d first: %v", id, err)
			}
			if err := commitlog.CheckBaseControl(l, commitlog.CommitID(id-1), commitlog.CommitID(id), a.c); id > 1 && !errors.Is(err, commitlog.ErrEquivocation) {
				t.Errorf("commit %d again: %v", id, err)
			}
		}
		return nil
	})
}
