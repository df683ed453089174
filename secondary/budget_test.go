package secondary_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/metrics"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// withBudget is a server that holds so many MiB for its clients.
func withBudget(mib int) func(*secondary.Config) {
	return func(c *secondary.Config) { c.ClientBytes = mib << 20 }
}

// holds checks how much is held for clients now that nothing moves.
func (f *fixture) holds(least, most int) {
	f.t.Helper()
	synctest.Wait()
	if n := f.server.HeldBytes(); n < least || n > most {
		f.t.Errorf("%d bytes are held, want %d to %d", n, least, most)
	}
}

// halfBundle returns an UPLOAD with the first part of a bundle.
func halfBundle(d *rawvault.Device) *wire.Upload {
	items := wire.Cut(rawvault.Encode(largeCommit(d, 20)))
	return &wire.Upload{Items: items[:1]}
}

// largeCommit returns a commit with so many of the largest blobs.
func largeCommit(d *rawvault.Device, n int) *commitlog.Bundle {
	var changes []commitlog.Change
	var blobs [][]byte
	for range n {
		c, b := rawvault.Put(commitlog.MaxBlob)
		changes, blobs = append(changes, c), append(blobs, b)
	}
	return d.CommitOf(keys.Tag{1}, changes, blobs)
}

// busy reads until the session ends, which must be because the server is busy.
func (r *raw) busy() {
	r.t.Helper()
	for {
		m := r.message()
		if e, ok := m.(*wire.Error); ok {
			if e.Code != wire.CodeBusy || e.Action != wire.ActionRetryAfter || e.RetryAfter == 0 {
				r.t.Errorf("the session ends with %+v, want busy and when to come back", e)
			}
			return
		}
	}
}

func (r *raw) bind() {
	r.t.Helper()
	r.send(&wire.Bind{})
	if m := r.message(); m.Type() != wire.TypeBound {
		r.t.Fatalf("BIND is answered with %v", m.Type())
	}
}

// What is half here of all sessions together has one bound. Who finds it reached is told
// to come back, and finds room when others have held theirs for too long.
func TestHalfBundles(t *testing.T) {
	inBubble(t, withBudget(8), func(t *testing.T, f *fixture) {
		var holders []*raw
		for range 2 { // of several vaults: the bound is that of the server
			v, d := f.vault(1)
			r := signedInRaw(t, f, v, d[0])
			r.bind()
			r.send(halfBundle(d[0]))
			synctest.Wait()
			holders = append(holders, r)
		}
		f.holds(2*wire.MaxItem, 2*wire.MaxItem)

		v, d := f.vault(2)
		r := signedInRaw(t, f, v, d[0])
		r.bind()
		r.send(halfBundle(d[0]))
		r.busy()
		f.holds(2*wire.MaxItem, 2*wire.MaxItem)

		// What is small goes on all the same.
		small := f.device(v, d[1])
		small.bind(v, 1, 0)
		small.append(v, d[1].Commit(keys.Tag{1}, 1))

		time.Sleep(20 * time.Second) // of the bubble
		again := f.device(v, d[0])
		again.bind(v, v.Size(), 0)
		d[0].Forget(commitlog.Hash{}) // what was never whole here
		whole := largeCommit(d[0], 20)
		for _, item := range wire.Cut(rawvault.Encode(whole)) {
			again.send(&wire.Upload{Items: []wire.Item{item}})
		}
		again.appended(v, receive[*wire.Uploaded](again).Results, whole)
		f.holds(wire.MaxItem, wire.MaxItem)
		if _, err := holders[0].tryRead(); err == nil {
			_, err = holders[1].tryRead()
			if err == nil {
				t.Error("nobody has given way")
			}
		}
		for _, r := range holders {
			r.Close()
		}
		f.holds(0, 0)
	})
}

// A frame counts while it comes, and one that does not fit ends the session with a word.
func TestHalfFrames(t *testing.T) {
	inBubble(t, withBudget(3), func(t *testing.T, f *fixture) {
		v, d := f.vault(2)
		slow := signedInRaw(t, f, v, d[0])
		w, err := slow.NextWriter(2) // binary
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		f.holds(1<<20, 2<<20)

		r := signedInRaw(t, f, v, d[1])
		r.bind()
		r.send(halfBundle(d[1]))
		r.busy()
		f.holds(1<<20, 2<<20)
		slow.Close()
		f.holds(0, 0)
	})
}

// largeCheckpoints is an engine whose checkpoints have a MiB.
type largeCheckpoints struct{ engine.Engine }

func (largeCheckpoints) Checkpoint(context.Context, keys.VaultID, uint64, keys.DeviceID) (*commitlog.Checkpoint, error) {
	return &commitlog.Checkpoint{Size: 1, Device: keys.DeviceID{1}, Raw: make([]byte, 1<<20)}, nil
}

// Answers that nobody reads count, and end with who reads none.
func TestUnreadAnswers(t *testing.T) {
	change := func(c *secondary.Config) {
		c.ClientBytes = 3 << 20
		c.Engine = largeCheckpoints{c.Engine}
	}
	inBubble(t, change, func(t *testing.T, f *fixture) {
		v, d := f.vault(4)
		for i, device := range d[:3] {
			r := signedInRaw(t, f, v, device)
			for range 8 / (i + 1) {
				r.send(&wire.Checkpoint{Request: 2})
			}
			f.holds(1<<20, 3<<20)
		}
		time.Sleep(20 * time.Second) // of the bubble
		a := f.device(v, d[3])
		a.send(&wire.Checkpoint{Request: 1})
		if m := receive[*wire.Checkpoint](a); len(m.Data) != 1<<20 {
			t.Errorf("a checkpoint of %d bytes", len(m.Data))
		}
		f.holds(0, 3<<20)
	})
}

// Frames that go to devices of many vaults, none of which reads, have the same bound, and
// who reads gets through.
func TestUnreadDownloads(t *testing.T) {
	inBubble(t, withBudget(6), func(t *testing.T, f *fixture) {
		const vaults = 10
		var logs [vaults]*rawvault.Vault
		var readers [vaults]*rawvault.Device
		for i := range vaults {
			v, d := f.vault(2)
			a := f.device(v, d[0])
			a.bind(v, 1, 0)
			for range 2 {
				a.append(v, largeCommit(d[0], 15))
			}
			a.Close()
			logs[i], readers[i] = v, d[1]
		}
		for i, v := range logs[1:] {
			r := signedInRaw(t, f, v, readers[i+1])
			r.send(&wire.Bind{Size: 1, Root: v.Root(1)})
			if m := r.message(); m.Type() != wire.TypeBound {
				t.Fatalf("BIND is answered with %v", m.Type())
			}
			f.holds(1<<20, 6<<20)
		}
		b := f.device(logs[0], readers[0])
		b.send(&wire.Bind{Size: 1, Root: logs[0].Root(1)})
		receive[*wire.Bound](b)
		begun := time.Now()
		b.download(2, 3)
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("a device that reads has waited for %v", took)
		}
		f.holds(1<<20, 6<<20)
	})
}

// The namespaces that sessions ask for count as well, while they do.
func TestAskedNamespaces(t *testing.T) {
	inBubble(t, withBudget(1), func(t *testing.T, f *fixture) {
		const most = 1<<20/(wire.MaxTags*36) - 1 // a frame has to come in beside them
		v, d := f.vault(most + 1)
		tags := make(wire.Tags, wire.MaxTags)
		for i := range tags {
			tags[i] = keys.Tag{byte(i >> 8), byte(i), 1}
		}
		bind := func(device *rawvault.Device) *raw {
			r := signedInRaw(t, f, v, device)
			r.send(&wire.Bind{Size: 1, Root: v.Root(1), Tags: tags})
			return r
		}
		for _, device := range d[:most] {
			if m := bind(device).message(); m.Type() != wire.TypeBound {
				t.Fatalf("BIND is answered with %+v", m)
			}
			f.holds(0, 1<<20)
		}
		f.holds(1<<19, 1<<20)
		bind(d[most]).busy()
		f.holds(1<<19, 1<<20)
	})
}

// How much is held is measured, and how often there was no room.
func TestBudgetMetrics(t *testing.T) {
	inBubble(t, withBudget(6), func(t *testing.T, f *fixture) {
		v, d := f.vault(2)
		r := signedInRaw(t, f, v, d[0])
		r.bind()
		r.send(halfBundle(d[0]))
		synctest.Wait()
		other := signedInRaw(t, f, v, d[1])
		other.bind()
		other.send(halfBundle(d[1]))
		other.busy()
		synctest.Wait()
		var w metrics.Writer
		f.server.WriteMetrics(&w)
		var text strings.Builder
		if _, err := w.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"\nkistd_client_bytes 2.097152e+06\n", "\nkistd_client_bytes_max 6.291456e+06\n", "\nkistd_limits_total{limit=\"memory\"} 1\n"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text.String())
			}
		}
	})
}
