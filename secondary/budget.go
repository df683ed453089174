package secondary

import (
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds the bytes that a server holds in memory for its clients, all of them
// together: frames and bundles that are half here, and answers that are not taken.
// Where there is no room for more, who has held much for long gives way (see cost); where
// nobody has, who asks is refused, and comes back.
type budget struct {
	max int
	met atomic.Uint64 // how often somebody was refused, or had to give way

	mu      sync.Mutex
	held    int
	holders map[*holding]struct{} // that hold something which counts
}

// holding is what is held for one purpose of one client. Its bytes are counted before
// they are there, and until nothing refers to them any more.
type holding struct {
	budget *budget
	cut    func() // ends the client, so that it holds nothing any more; it must not wait

	// budget.mu guards what follows.
	bytes int
	since time.Time // it has been more than unasked for so long
	ended bool
}

// patience is what a client may hold something for while others wait: 0.8 Mbit/s for
// the frames that it is mostly.
const patience = 10 * time.Second

// unasked is what a client may hold for one purpose without being asked: the small
// messages of a session that has nothing to transfer. So these go on whatever others do.
const unasked = 8 << 10

// counted returns how many of the bytes of one holding count.
func counted(bytes int) int {
	if bytes <= unasked {
		return 0
	}
	return bytes
}

// acquire makes room for n bytes more, and reports whether there is some.
func (h *holding) acquire(n int) bool {
	return h.change(func(bytes int) int { return bytes + n })
}

// release gives n bytes back.
func (h *holding) release(n int) { h.acquire(-n) }

// set makes room for n bytes instead of what is held, and reports whether there is
// some. Where there is none, it holds what it did.
func (h *holding) set(n int) bool { return h.change(func(int) int { return n }) }

// end gives everything back, for good: acquire reports false from then on.
func (h *holding) end() {
	h.budget.mu.Lock()
	defer h.budget.mu.Unlock()
	h.budget.forget(h)
}

func (h *holding) change(to func(bytes int) int) bool {
	now := time.Now() // what it has been held for, not what the clock says
	b := h.budget
	b.mu.Lock()
	n, over := to(h.bytes), []*holding(nil)
	there := !h.ended
	if there {
		over, there = b.room(h, counted(n)-counted(h.bytes), now)
	}
	if there {
		b.put(h, n, now)
	}
	b.mu.Unlock()
	for _, other := range over {
		other.cut()
	}
	return there
}

// room makes room for more bytes of h, and returns who has given way. mu is held.
func (b *budget) room(h *holding, more int, now time.Time) (over []*holding, there bool) {
	for more > 0 && b.held+more > b.max {
		b.met.Add(1)
		other := b.costliest(now)
		if other == nil || other == h {
			return over, false
		}
		b.forget(other)
		over = append(over, other)
	}
	return over, true
}

// costliest returns who has held most for longest, bytes times time, of those that have
// taken longer than others have patience; nil for none. mu is held.
func (b *budget) costliest(now time.Time) (worst *holding) {
	most := 0.0
	for h := range b.holders {
		age := now.Sub(h.since)
		if cost := float64(h.bytes) * age.Seconds(); age >= patience && cost > most {
			worst, most = h, cost
		}
	}
	return worst
}

// put notes what h holds. mu is held.
func (b *budget) put(h *holding, bytes int, now time.Time) {
	before, after := counted(h.bytes), counted(bytes)
	b.held += after - before
	h.bytes = bytes
	switch {
	case after == 0:
		delete(b.holders, h)
	case before == 0:
		h.since = now
		if b.holders == nil {
			b.holders = make(map[*holding]struct{})
		}
		b.holders[h] = struct{}{}
	}
}

// forget ends a holding. mu is held.
func (b *budget) forget(h *holding) {
	b.put(h, 0, time.Time{})
	h.ended = true
}

// bytes returns how much is held.
func (b *budget) bytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}
