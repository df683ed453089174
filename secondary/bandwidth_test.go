package secondary_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/internal/rawvault"
)

// What a vault sends and is sent takes the time that its bandwidth says, however often its
// devices connect; they take turns; and other vaults do not notice.
func TestBandwidth(t *testing.T) {
	const rate = 1 << 20
	limit := func(c *secondary.Config) { c.Limits.Bandwidth = secondary.Rate{PerSecond: rate, Burst: 2 * rate} }
	inBubble(t, limit, func(t *testing.T, f *fixture) {
		took := func(since time.Time, want, most time.Duration, what string) {
			t.Helper()
			if d := time.Since(since); d < want || d > most {
				t.Errorf("%s took %v, want %v to %v", what, d, want, most)
			}
		}
		const readers = 5
		v, devices := f.vault(readers + 2)
		const commits, blobs = 16, 7
		begun := time.Now()
		begins := v.Size()
		a := f.device(v, devices[0])
		a.bind(v, v.Size(), 0)
		for range commits {
			var changes []commitlog.Change
			var values [][]byte
			for range blobs {
				c, b := rawvault.Put(commitlog.MaxBlob)
				changes, values = append(changes, c), append(values, b)
			}
			a.append(v, devices[0].CommitOf(keys.Tag{1}, changes, values))
		}
		a.Close()
		const volume = commits * blobs * commitlog.MaxBlob * time.Second / rate
		took(begun, volume-3*time.Second, volume, "sending it") // two seconds' worth at once, and nobody waits for the last frame

		begun = time.Now()
		done := make(chan time.Time, readers)
		for _, d := range devices[2:] {
			go func() {
				defer func() { done <- time.Now() }()
				b := f.device(v, d)
				b.bind(v, begins, 0)
				b.download(commitlog.CommitID(begins+1), commitlog.CommitID(v.Size()))
			}()
		}
		synctest.Wait()
		other, others := f.vault(1)
		c := f.device(other, others[0])
		at := time.Now()
		c.bind(other, other.Size(), 0)
		ch, blob := rawvault.Put(commitlog.MinBlob)
		c.append(other, others[0].CommitOf(keys.Tag{1}, []commitlog.Change{ch}, [][]byte{blob}))
		took(at, 0, 0, "a commit of another vault")
		var first, last time.Time
		for i := range readers {
			if last = <-done; i == 0 {
				first = last
			}
		}
		// Nobody waits for the first frame, or after the last one.
		took(begun, (readers-1)*volume, readers*volume, "reading it five times")
		if apart := last.Sub(first); apart > readers*volume/2 {
			t.Errorf("of those that began together, one was ready %v before another", apart)
		}

		begun = time.Now()
		for have := begins; have < v.Size(); have++ {
			b := f.device(v, devices[1])
			b.bind(v, have, 0)
			b.download(commitlog.CommitID(have+1), commitlog.CommitID(have+1))
			b.Close()
		}
		took(begun, volume-3*time.Second, 10*volume, "reading it with a session for each commit")
	})
}

// A device that sends far more than it may is slow, and not cut off.
func TestBandwidthUsedUp(t *testing.T) {
	limit := func(c *secondary.Config) { c.Limits.Bandwidth = secondary.Rate{PerSecond: 8 << 10, Burst: 1 << 20} }
	inBubble(t, limit, func(t *testing.T, f *fixture) {
		v, devices := f.vault(1)
		a := f.device(v, devices[0])
		a.bind(v, v.Size(), 0)
		for range 4 { // each would take 100 s; the client gives up on a line after one minute
			var changes []commitlog.Change
			var values [][]byte
			for range 7 {
				c, b := rawvault.Put(commitlog.MaxBlob)
				changes, values = append(changes, c), append(values, b)
			}
			a.append(v, devices[0].CommitOf(keys.Tag{1}, changes, values))
		}
	})
}
