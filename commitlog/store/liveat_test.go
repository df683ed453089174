package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// place is a live change as LiveAt gives it.
type place struct {
	tag keys.Tag
	id  commitlog.ChangeID
}

// order returns what was live at a size in the order of LiveAt.
func (h *history) order(size uint64) (out []place) {
	tags := []keys.Tag{ctlTag}
	for tag := range h.live[size] {
		if tag != ctlTag {
			tags = append(tags, tag)
		}
	}
	slices.SortFunc(tags[1:], func(a, b keys.Tag) int { return slices.Compare(a[:], b[:]) })
	for _, tag := range tags {
		for _, id := range h.live[size][tag] {
			out = append(out, place{tag, id})
		}
	}
	return out
}

// page reads up to n live changes after a place.
func page(l *store.Log, at *store.LiveAt, after place, n int) (out []place, err error) {
	tags, err := at.Tags(l)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags[max(0, slices.Index(tags, after.tag)):] {
		from := commitlog.ChangeID{}
		if tag == after.tag {
			from = after.id
		}
		err := at.Each(l, tag, from, func(id commitlog.ChangeID) (bool, error) {
			if len(out) == n {
				return false, nil
			}
			out = append(out, place{tag, id})
			return true, nil
		})
		if err != nil || len(out) == n {
			return out, err
		}
	}
	return out, nil
}

// What was live at each size, and what the log came to, is known ever after.
func TestLiveAt(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, seed)
			for h.size() < 120 {
				h.grow()
			}
			h.view(h.db, func(l *store.Log) error {
				for size := uint64(1); size <= h.size(); size++ {
					got, err := page(l, store.NewLiveAt(size), place{}, 1<<30)
					fatal(t, err)
					if !slices.Equal(got, h.order(size)) {
						t.Errorf("live at %d: %v, want %v", size, got, h.order(size))
					}
					comes, err := l.Comes(size)
					fatal(t, err)
					if diff := cmp.Diff(h.comes[size], comes); diff != "" {
						t.Errorf("what it came to at %d: then − now +:\n%s", size, diff)
					}
					if comes.Root() != h.roots[size] {
						t.Errorf("root at %d", size)
					}
				}
				return nil
			})
		})
	}
}

// It is read in pages of any size, while the log grows, by one reader and by a new
// one for every page.
func TestLiveAtInPages(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, seed)
			for h.size() < 40 {
				h.grow()
			}
			ended := 0
			for h.size() < 120 {
				size := h.size() - h.rng.Uint64N(20)
				one := store.NewLiveAt(size)
				var got, want []place = nil, h.order(size)
				var after place
				for more := true; more; {
					n := 1 + h.rng.IntN(8)
					at := one
					if h.rng.IntN(2) == 0 {
						at = store.NewLiveAt(size)
					}
					h.view(h.db, func(l *store.Log) error {
						p, err := page(l, at, after, n)
						got, more = append(got, p...), len(p) == n
						return err
					})
					if len(got) > 0 {
						after = got[len(got)-1]
					}
					h.grow()
				}
				if !slices.Equal(got, want) {
					t.Errorf("live at %d: %v, want %v", size, got, want)
				}
				for _, p := range got {
					if !slices.Contains(h.live[h.size()][p.tag], p.id) {
						ended++
					}
				}
			}
			if ended == 0 {
				t.Error("nothing was ended meanwhile")
			}
		})
	}
}

// A reader is told to stop, or stops with an error, at every place.
func TestLiveAtStops(t *testing.T) {
	h := newHistory(t, 1)
	for h.size() < 80 {
		h.grow()
	}
	const size = 50
	want := h.order(size)
	h.view(h.db, func(l *store.Log) error {
		at := store.NewLiveAt(size)
		for n := range want {
			got, err := page(l, at, place{}, n+1)
			fatal(t, err)
			if !slices.Equal(got, want[:n+1]) {
				t.Errorf("%d: %v, want %v", n, got, want[:n+1])
			}
			boom := errors.New("boom")
			err = at.Each(l, want[n].tag, commitlog.ChangeID{}, func(id commitlog.ChangeID) (bool, error) {
				if id == want[n].id {
					return true, boom
				}
				return true, nil
			})
			if !errors.Is(err, boom) {
				t.Errorf("%d: %v, want the error of the call", n, err)
			}
		}
		return nil
	})
}
