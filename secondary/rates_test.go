package secondary

import (
	"net/netip"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	now := time.Unix(1795280000, 0)
	b := newBuckets[string](Rate{PerSecond: 2, Burst: 3})
	take := func(k string, want time.Duration) {
		t.Helper()
		if got := b.take(k, now, 1); got != want {
			t.Errorf("%s: wait %v, want %v", k, got, want)
		}
	}
	for range 3 {
		take("a", 0)
	}
	take("a", 500*time.Millisecond)
	take("a", 500*time.Millisecond) // what was refused costs nothing
	take("b", 0)
	now = now.Add(200 * time.Millisecond)
	take("a", 300*time.Millisecond)
	now = now.Add(300 * time.Millisecond)
	take("a", 0)
	take("a", 500*time.Millisecond)
	now = now.Add(time.Hour)
	for range 3 {
		take("a", 0)
	}
	take("a", 500*time.Millisecond)
	now = now.Add(-time.Hour) // the clock was set back
	take("a", 0)

	for i, want := range []time.Duration{0, 0, 0, 500, 1000, 1500} {
		if got := b.charge("c", now, 1); got != want*time.Millisecond {
			t.Errorf("charge %d: wait %v, want %v ms", i, got, want)
		}
	}
	if n := b.take("d", now, 2); n != 0 {
		t.Errorf("two of three: wait %v", n)
	}
	if n := b.take("d", now, 100); n != time.Second {
		t.Errorf("all, where one is there: wait %v, want 1 s", n)
	}
	none := newBuckets[int](Rate{PerSecond: -1})
	for range 1000 {
		if none.take(1, now, 1) != 0 {
			t.Fatal("a limit where there is none")
		}
	}
}

// However many keys come, few are remembered; those whose bucket is full are
// forgotten first.
func TestBucketsBounded(t *testing.T) {
	now := time.Unix(1795280000, 0)
	b := newBuckets[int](Rate{PerSecond: 1, Burst: 1})
	for i := range maxBuckets {
		b.take(i, now, 1)
	}
	now = now.Add(3 * time.Second)
	b.take(-1, now, 1)
	if len(b.full) != 1 {
		t.Errorf("%d keys after those of long ago, want 1", len(b.full))
	}
	for i := range 3 * maxBuckets {
		b.take(i, now, 1)
	}
	if len(b.full) > maxBuckets {
		t.Errorf("%d keys, want at most %d", len(b.full), maxBuckets)
	}
}

func TestLimited(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
		"127.0.0.9": "", "::1": "", "::ffff:127.0.0.1": "",
	} {
		got, ok := limited(netip.MustParseAddr(in))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s is %v, %v; want %q", in, got, ok, want)
		}
	}
	if _, ok := limited(netip.Addr{}); ok {
		t.Error("an address that is not known is limited")
	}
}
