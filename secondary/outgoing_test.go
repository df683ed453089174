package secondary_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// Many devices of a vault that do not read hold no more than some do. They give way to
// one that does, after a while, and those of other vaults never wait for them.
func TestSlowDevices(t *testing.T) {
	counting := new(countingEngine)
	change := func(c *secondary.Config) {
		counting.Engine = c.Engine
		c.Engine = counting
	}
	inBubble(t, change, func(t *testing.T, f *fixture) {
		const slow = 20
		v, devices := f.vault(slow + 2)
		fill := func(v *rawvault.Vault, d *rawvault.Device) {
			a := f.device(v, d)
			a.bind(v, v.Size(), 0)
			for range 4 {
				var changes []commitlog.Change
				var blobs [][]byte
				for range 15 {
					c, b := rawvault.Put(commitlog.MaxBlob)
					changes, blobs = append(changes, c), append(blobs, b)
				}
				a.append(v, d.CommitOf(keys.Tag{1}, changes, blobs))
			}
			a.Close()
		}
		fill(v, devices[slow])
		var readers []*raw
		for _, d := range devices[:slow] {
			r := signedInRaw(t, f, v, d)
			r.send(&wire.Bind{Size: 1, Root: v.Root(1)})
			if m := r.message(); m.Type() != wire.TypeBound {
				t.Fatalf("BIND is answered with %v", m.Type())
			}
			readers = append(readers, r)
		}
		synctest.Wait() // until nothing moves any more: the line has no buffers
		if read := counting.read.Load(); read > 20<<20 {
			t.Errorf("%d MiB were read for devices that read nothing", read>>20)
		}

		other, others := f.vault(2)
		fill(other, others[0])
		begun := time.Now()
		b := f.device(other, others[1])
		b.bind(other, 1, 0)
		b.download(2, commitlog.CommitID(other.Size()))
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a device of another vault waits for %v", took)
		}

		a := f.device(v, devices[slow+1])
		a.send(&wire.Bind{Size: 1, Root: v.Root(1)})
		receive[*wire.Bound](a)
		a.download(2, commitlog.CommitID(v.Size()))
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("a device that reads has waited for %v", took)
		}
		// Who was cut off comes back and goes on; now they read.
		for i, d := range devices[:slow] {
			readers[i].Close()
			c := f.device(v, d)
			c.bind(v, 1, 0)
			c.download(2, commitlog.CommitID(v.Size()))
		}
	})
}
