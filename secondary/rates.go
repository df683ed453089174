package secondary

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Rate says how often something may be done: PerSecond in the long run, and Burst
// times at once after a rest. Zeros stand for a default, a negative PerSecond for no
// limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits bound what one address, and one vault, can make the server do. Zeros stand
// for the defaults, which nobody meets who uses kist. A connection from the server's
// own machine counts for no address: it is the operator's, or comes through a proxy
// whose clients nobody has told apart (see Config.ClientAddr). An address of IPv6 is
// its network, the first 64 bits.
type Limits struct {
	Connects Rate // connections that an address opens. 0: 10 a second, 300 at once
	Conns    int  // that an address may have open. 0: 256; negative: no limit
	Creates  Rate // attempts of an address to create a vault. 0: one in 10 s, 30 at once
	Messages Rate // of a vault's sessions: more are read later. 0: 5,000 a second, 20,000 at once
	Scans    Rate // requests that read all that is live in a vault, each worth one, and one more for every 10,000 commits. 0: 1 a second, 1,000 at once
	Sessions int  // of a vault at a time. 0: 256, which is more than it can have devices; negative: no limit
	// Bandwidth is in bytes that a vault's devices send, and as many that they are sent:
	// more are read, and sent, later. 0: no limit. The least that serves is 256 KiB a
	// second: below that a large commit takes longer than a device waits. Burst 0: what
	// four seconds bring, and at least 2 MiB, which is more than any frame has.
	Bandwidth Rate
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Connects, Rate{10, 300})
	setDefault(&l.Conns, 256)
	setDefault(&l.Creates, Rate{0.1, 30})
	setDefault(&l.Messages, Rate{5000, 20_000})
	setDefault(&l.Scans, Rate{1, 1000})
	setDefault(&l.Sessions, 256)
	if b := &l.Bandwidth; b.Burst == 0 {
		b.Burst = max(int(4*b.PerSecond), 2<<20)
	}
	return l
}

// maxBuckets is how many keys one kind of limit remembers.
const maxBuckets = 1 << 16

// buckets are token buckets, one a key. Of each it holds one time, at which the
// bucket is full again (the generic cell rate algorithm): one that is full need not
// be remembered. Beyond maxBuckets keys it forgets any, so memory is bounded, and
// whoever has that many addresses meets the limit of all connections.
type buckets[K comparable] struct {
	token float64       // between two tokens, in nanoseconds
	depth time.Duration // to fill an empty bucket; 0: no limit
	debt  time.Duration // that a key can run into, where it is charged

	mu    sync.Mutex
	full  map[K]time.Time
	swept time.Time

	met atomic.Uint64 // how often somebody had to wait
}

func newBuckets[K comparable](r Rate) *buckets[K] {
	b := &buckets[K]{full: make(map[K]time.Time)}
	if r.PerSecond > 0 {
		b.token = float64(time.Second) / r.PerSecond
		b.depth = b.worth(max(r.Burst, 1))
		b.debt = b.depth
	}
	return b
}

// worth returns the time that n tokens take to come.
func (b *buckets[K]) worth(n int) time.Duration { return time.Duration(b.token * float64(n)) }

// take takes n tokens and returns 0. Where there are fewer, it takes none and returns
// how long that stays so. More than a full bucket has are as many as that.
func (b *buckets[K]) take(k K, now time.Time, n int) (wait time.Duration) {
	return b.use(k, now, n, false)
}

// charge takes n tokens, and returns how long to wait until they are there: whoever is
// charged later waits longer.
func (b *buckets[K]) charge(k K, now time.Time, n int) (wait time.Duration) {
	return b.use(k, now, n, true)
}

func (b *buckets[K]) use(k K, now time.Time, n int, always bool) (wait time.Duration) {
	if b.depth == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, known := b.full[k]
	if full.Before(now) || full.After(now.Add(b.depth+b.debt)) { // or the clock was set back
		full = now
	}
	full = full.Add(min(b.worth(n), b.depth))
	wait = max(0, full.Sub(now)-b.depth)
	if wait > 0 {
		b.met.Add(1)
	}
	if wait > 0 && !always {
		return wait
	}
	if !known && len(b.full) >= maxBuckets {
		b.sweep(now)
	}
	b.full[k] = full
	return wait
}

// sweep makes room. mu is held.
func (b *buckets[K]) sweep(now time.Time) {
	if now.Sub(b.swept) >= time.Second || now.Before(b.swept) {
		b.swept = now
		for k, full := range b.full {
			if full.Before(now) {
				delete(b.full, k)
			}
		}
	}
	for k := range b.full {
		if len(b.full) < maxBuckets {
			return
		}
		delete(b.full, k)
	}
}

// remoteAddr is the Config.ClientAddr of a server without a proxy before it.
func remoteAddr(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr()
}

// limited returns the address that limits are counted for; false: none are.
func limited(a netip.Addr) (netip.Addr, bool) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() {
		return a, false
	}
	if a.Is6() {
		p, err := a.Prefix(64)
		return p.Addr(), err == nil
	}
	return a, true
}
