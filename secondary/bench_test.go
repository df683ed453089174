package secondary_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// startDurable starts a server over TLS whose store syncs.
func startDurable(b *testing.B) *fixture {
	b.Helper()
	return start(b, func(c *secondary.Config) {
		e, err := embedded.Open(b.TempDir(), embedded.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { e.Close() })
		c.Binding = wire.BindingExporter
		c.Engine = e
	})
}

// records returns commits with at least n records, 1,000 each.
func records(d *rawvault.Device, n int) (bundles []*commitlog.Bundle) {
	for made := 0; made < n; made += 1000 {
		bundles = append(bundles, d.Commit(keys.Tag{1}, 1000))
	}
	return bundles
}

// upload uploads the commits, pipelined.
func upload(p *peer, v *rawvault.Vault, bundles []*commitlog.Bundle) {
	go func() {
		for _, b := range bundles {
			if p.Send(p.f.ctx, uploadOf(b)) != nil {
				return
			}
		}
	}()
	for _, b := range bundles {
		p.appended(v, receive[*wire.Uploaded](p).Results, b)
	}
}

// One operation is one record of 328 bytes.
func BenchmarkUpload(b *testing.B) {
	f := startDurable(b)
	v, devices := f.vault(1)
	bundles := records(devices[0], b.N)
	p := f.device(v, devices[0])
	p.bind(v, 1, 0)
	b.ResetTimer()
	upload(p, v, bundles)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(p.Sent())/float64(len(bundles)*1000), "bytes/record")
}

func BenchmarkDownload(b *testing.B) {
	f := startDurable(b)
	v, devices := f.vault(2)
	p := f.device(v, devices[0])
	p.bind(v, 1, 0)
	bundles := records(devices[0], b.N)
	upload(p, v, bundles)
	q := f.device(v, devices[1])
	b.ResetTimer()
	q.bind(v, 1, 0)
	for size := uint64(1); size < v.Size(); {
		size += uint64(len(receive[*wire.Download](q).Items))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(q.Received())/float64(len(bundles)*1000), "bytes/record")
}

// BenchmarkIdleSession measures the memory of a session that is bound and has
// nothing to do, without TLS, and of a bare client's end of it.
func BenchmarkIdleSession(b *testing.B) {
	f := start(b, nil)
	const vaults, devices = 10, 50
	var all []*rawvault.Vault
	var theirs [][]*rawvault.Device
	for range vaults {
		v, d := f.vault(devices)
		all, theirs = append(all, v), append(theirs, d)
	}
	for f.server.Conns() > 0 {
		time.Sleep(time.Millisecond)
	}
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	for i, v := range all {
		for _, d := range theirs[i] {
			r := signedInRaw(b, f, v, d)
			r.send(&wire.Bind{Size: 1, Root: v.Root(1), Flags: wire.BindLive})
			r.message()
		}
	}
	b.ReportMetric(float64(used()-before)/(vaults*devices)/1024, "KiB/session")
	b.ReportMetric(0, "ns/op")
}
