package vault

import "time"

// A hybrid logical clock is 48 bits of Unix milliseconds and 16 bits of
// counter. It is kept for each record, so that one device with a wrong clock
// infects nothing but the records it writes (SPEC.md, "Clocks").
type clock = uint64

// physical returns the clock of a point in time, with counter 0.
func physical(t time.Time) clock {
	ms := t.UnixMilli()
	if ms < 0 {
		return 0
	}
	return clock(ms) << 16
}

// tick returns the clock of a write at a time, later than all that it follows,
// as far as there are later ones: a record whose clock has come to its end goes
// on by causality alone.
func tick(now time.Time, follows clock) clock {
	return min(max(physical(now), follows)+1, maxClock)
}

// maxClock is the highest clock that is understood.
const maxClock = 1<<63 - 1

// clockTime returns the time that a clock shows.
func clockTime(c clock) time.Time { return time.UnixMilli(int64(c >> 16)) }

// farFuture is how far ahead of this device's clock a version may be dated without
// being pointed out. Nothing else comes of it: causality decides before clocks.
const farFuture = 24 * time.Hour

// ahead reports whether a clock is that far ahead of a time.
func ahead(c clock, now time.Time) bool { return clockTime(c).After(now.Add(farFuture)) }

// millis returns t in Unix milliseconds, 0 for the zero time.
func millis(t time.Time) uint64 {
	if t.IsZero() || t.UnixMilli() <= 0 {
		return 0
	}
	return uint64(t.UnixMilli())
}

// fromMillis is the inverse of millis.
func fromMillis(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
