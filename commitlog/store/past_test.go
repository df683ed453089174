package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
)

// dump returns all that a store holds of a log, but the times of appending, and the
// index of restates that are not live, which says nothing.
func dump(t *testing.T, db *store.DB) map[string]string {
	t.Helper()
	out := make(map[string]string)
	fatal(t, db.View(func(tx *store.Tx) error {
		l, err := tx.Log(logName)
		fatal(t, err)
		return tx.Bucket(logName).Scan(nil, func(k, v []byte) (bool, error) {
			switch k[0] {
			case '~':
				t.Errorf("a bucket in the log: %q", k)
				return true, nil
			case 'r':
				v = nil
			case 'n':
				id := commitlog.ChangeID{Commit: commitlog.CommitID(be64(k[11:])), Index: uint16(k[19])<<8 | uint16(k[20])}
				if info, _, err := l.Change(id); err != nil || !info.Live {
					return true, err
				}
			}
			out[fmt.Sprintf("%c/%x", k[0], k[1:])] = fmt.Sprintf("%x", v)
			return true, nil
		})
	}))
	return out
}

func be64(b []byte) (n uint64) {
	for _, x := range b[:8] {
		n = n<<8 | uint64(x)
	}
	return n
}

// wholeAt returns a store that had the whole log from its first commit on.
func (h *history) wholeAt(size uint64) *store.DB {
	h.t.Helper()
	db := h.newLog()
	h.update(db, func(l *store.Log, _ *store.Tx) error {
		for id := uint64(1); id <= size; id++ {
			fatal(h.t, h.apply(l, id, h.commits[id].effects))
		}
		return nil
	})
	return db
}

// verify verifies up to n commits below the base, and all of it if the base is
// reached.
func (h *history) verify(tx *store.Tx, base, n uint64) (done bool) {
	h.t.Helper()
	p, err := tx.Past(logName, true)
	fatal(h.t, err)
	for range min(n, base-p.Size()) {
		fatal(h.t, h.verifyNext(p))
	}
	h.onlyBelow(p)
	if p.Size() < base {
		return false
	}
	h.same(p.Log, base)
	comes, err := p.Comes(base)
	fatal(h.t, err)
	if diff := cmp.Diff(h.comes[base], comes); diff != "" {
		h.t.Errorf("what it came to at %d: want − got +:\n%s", base, diff)
	}
	c := h.checkpoint(base)
	comes.Control, comes.Resets = c.Control, c.Resets
	fatal(h.t, comes.Same(c))
	fatal(h.t, p.Done())
	return true
}

// onlyBelow checks that a past knows what is in it, and nothing of what it shares
// buckets with.
func (h *history) onlyBelow(p *store.Past) {
	h.t.Helper()
	for id := uint64(1); id <= h.size(); id++ {
		c := h.commits[id].c
		_, known, err := p.Change(commitlog.ChangeID{Commit: commitlog.CommitID(id)})
		fatal(h.t, err)
		at, err := p.OwnCommit(c.Header.Device, c.Header.Seq)
		fatal(h.t, err)
		if in := id <= p.Size(); known != in || (at != 0) != in {
			h.t.Errorf("past of %d: change %d.0 %v, commit of number %d of its author %d", p.Size(), id, known, c.Header.Seq, at)
		}
	}
}

// verifyNext verifies the next commit below a base. Of what is live above, no blobs
// have come.
func (h *history) verifyNext(p *store.Past) error {
	id := p.Size() + 1
	a := h.commits[id]
	e, err := commitlog.Check(p, a.c)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(a.effects, e); diff != "" {
		h.t.Errorf("commit %d: want − got +:\n%s", id, diff)
	}
	blobs := slices.Clone(a.blobs)
	for i := range blobs {
		if _, blob, err := p.Entry(commitlog.ChangeID{Commit: commitlog.CommitID(id), Index: uint16(i)}); err == nil && blob != nil {
			blobs[i] = nil
		}
	}
	if err := p.Append(a.c, blobs, e, 1); err != nil {
		return err
	}
	return h.state(p.Log, id)
}

// The log below a base is verified beside the one above, which goes on meanwhile;
// then the store is as if it had always been whole.
func TestPast(t *testing.T) {
	var n tally
	beside, waited := 0, 0
	for seed := range uint64(8) {
		h := newHistory(t, 100+seed)
		for h.size() < 130 {
			h.grow()
		}
		for range 4 {
			base := 1 + h.rng.Uint64N(h.size())
			db := h.begin(base)
			for at, verified := base, false; !verified; {
				h.update(db, func(l *store.Log, tx *store.Tx) error {
					for range h.rng.IntN(20) {
						if at == h.size() {
							break
						}
						if !h.follow(l, &n) {
							verified = h.verify(tx, base, base)
							waited++
							return nil
						}
						at++
						beside++
					}
					h.same(l, at)
					verified = h.verify(tx, base, h.rng.Uint64N(30))
					h.same(l, at)
					return nil
				})
				if !verified {
					continue
				}
				if diff := cmp.Diff(dump(t, h.wholeAt(at)), dump(t, db)); diff != "" {
					t.Fatalf("base %d, size %d: want − got +:\n%s", base, at, diff)
				}
			}
			h.update(db, func(l *store.Log, tx *store.Tx) error {
				if _, err := tx.Past(logName, false); l.Base() != 0 || l.BaseSeq(h.signers[2].id) != 0 || !errors.Is(err, store.ErrNotFound) {
					t.Errorf("base %d, past %v", l.Base(), err)
				}
				for l.Size() < h.size() {
					e, err := commitlog.Check(l, h.commits[l.Size()+1].c)
					fatal(t, err)
					fatal(t, h.apply(l, l.Size()+1, e))
				}
				for id := base + 1; id <= h.size(); id++ {
					fatal(t, commitlog.CheckRefs(l, commitlog.CommitID(id), h.commits[id].c))
				}
				return nil
			})
			if diff := cmp.Diff(dump(t, h.db), dump(t, db)); diff != "" {
				t.Fatalf("base %d: want − got +:\n%s", base, diff)
			}
		}
	}
	t.Logf("%+v, %d commits beside, %d times one had to wait", n, beside, waited)
	if beside == 0 || waited == 0 {
		t.Errorf("%d commits beside, %d times one had to wait", beside, waited)
	}
}
