package secondary_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func random(n int) ([]byte, commitlog.Hash) {
	_, data := rawvault.Put(n)
	return data, sha256.Sum256(data)
}

// What one device uploads comes to the other at once, and to itself as a stub.
func TestLivePush(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, wire.BindLive|wire.BindStubs)
	b.bind(v, 1, wire.BindLive)
	for i := range 5 {
		c := devices[0].Commit(keys.Tag{1}, 1+i)
		id := commitlog.CommitID(v.Size() + 1)
		a.send(uploadOf(c))
		// The answer and the stub come in either order.
		for range 2 {
			m, err := a.Receive(f.ctx)
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *wire.Uploaded:
				a.appended(v, m.Results, c)
			case *wire.Download:
				if got, seq := m.Items[0].Stub(); m.Items[0].Kind != wire.ItemStub || got != id || seq != c.Commit.Header.Seq {
					t.Errorf("own commit %d comes as %+v", id, m.Items[0])
				}
			default:
				t.Fatalf("received %v", m.Type())
			}
		}
		if got := b.download(id, id); string(got[0]) != as(id, c) {
			t.Errorf("commit %d comes as another", id)
		}
	}
}

// Without BindLive the log comes as it was at BIND, and up to each MARK.
func TestMark(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, 0)
	a.append(v, devices[0].Commit(keys.Tag{1}, 1), devices[0].Commit(keys.Tag{1}, 1))
	if bound := b.bind(v, 1, 0); bound.Size != 3 {
		t.Errorf("BOUND names size %d, want 3", bound.Size)
	}
	b.download(2, 3)
	b.send(&wire.Mark{Token: 11})
	if m := receive[*wire.Marked](b); m.Token != 11 || m.Size != 3 {
		t.Errorf("nothing new: %+v, want size 3", m)
	}
	a.append(v, devices[0].Commit(keys.Tag{1}, 1))
	b.send(&wire.Mark{Token: 12})
	b.send(&wire.Mark{Token: 13})
	b.download(4, 4)
	for _, token := range []uint64{12, 13} {
		if m := receive[*wire.Marked](b); m.Token != token || m.Size != 4 {
			t.Errorf("got %+v, want token %d and size 4", m, token)
		}
	}
}

// Blobs come for the namespaces that were asked for, headers and lists of all.
func TestNamespaces(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, 0)
	for i := range byte(4) {
		a.append(v, devices[0].Commit(keys.Tag{1 + i%2}, 1))
	}
	b.send(&wire.Bind{Root: commitlog.EmptyRoot, Tags: wire.Tags{{2}}})
	receive[*wire.Bound](b)
	for i, data := range b.download(1, 5) {
		bundle, err := commitlog.ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		h := &bundle.Commit.Header
		if want := h.Kind == commitlog.KindControl || h.Tag == (keys.Tag{2}); (bundle.Blobs[0] != nil) != want {
			t.Errorf("commit %d of tag %v: blob there %v, want %v", i+1, h.Tag, !want, want)
		}
	}
}

// A device whose log is not the beginning of this one is told, and sent nothing.
func TestOtherLog(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	tests := map[string]struct {
		size uint64
		root commitlog.Hash
		want uint64 // the size whose root BOUND names
	}{
		"another history": {1, commitlog.Hash{1}, 1},
		"a longer log":    {5, commitlog.Hash{1}, 1},
		"another origin":  {0, commitlog.Hash{1}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f.t = t
			p := f.device(v, devices[0])
			p.send(&wire.Bind{Size: test.size, Root: test.root, Flags: wire.BindLive})
			bound := receive[*wire.Bound](p)
			if bound.Size != 1 || bound.Root != v.Root(test.want) {
				t.Errorf("BOUND with size %d and root %v; want 1 and the root at %d", bound.Size, bound.Root, test.want)
			}
			p.send(&wire.Unbind{})
			receive[*wire.Unbound](p)
			p.bind(v, 0, 0) // from the beginning
			p.download(1, 1)
		})
	}
}

func TestUnbind(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, 0)
	b.bind(v, 1, wire.BindLive)
	b.send(&wire.Unbind{})
	receive[*wire.Unbound](b)
	a.append(v, devices[0].Commit(keys.Tag{1}, 1))
	b.send(&wire.Fetch{Request: 1, Commit: 1, Length: 1})
	receive[*wire.Blobs](b) // and no DOWNLOAD before it
	b.bind(v, 1, wire.BindLive)
	b.download(2, 2)
}

// Who binds and unbinds and takes no answers is cut off, before they are many.
func TestBindsUnderWay(t *testing.T) {
	l, d := testLog(t, nil)
	s := l.f.directDevice(l.Vault, d[0])
	bind, unbind := &wire.Bind{Root: l.Root(0)}, &wire.Unbind{}
	for range 3 * wire.MaxBinds {
		s.tell(bind)
		says[*wire.Bound](s)
		s.tell(unbind)
		says[*wire.Unbound](s)
	}
	for range wire.MaxBinds / 2 {
		if a, b := s.tell(bind), s.tell(unbind); len(a)+len(b) > 0 {
			t.Fatalf("answered with %+v, %+v", a, b)
		}
	}
	s.ends(bind, wire.ErrProtocol)
}

// Left tells how much is still to come, exactly where nothing is left out.
func TestLeft(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, 0)
	var total uint64
	for range 40 {
		c, blob := rawvault.Put(100_000)
		bundle := devices[0].CommitOf(keys.Tag{1}, []commitlog.Change{c}, [][]byte{blob})
		total += uint64(bundle.EncodedSize())
		a.append(v, bundle)
	}
	b.bind(v, 1, 0)
	var got uint64
	for frames := 0; got < total; frames++ {
		d := receive[*wire.Download](b)
		for _, i := range d.Items {
			got += uint64(len(i.Data))
		}
		if d.Left != total-got || d.Size != 41 {
			t.Errorf("frame %d: %d bytes left of size %d; want %d of 41", frames, d.Left, d.Size, total-got)
		}
	}
}

// countingEngine counts the bytes of bundles that are read from it.
type countingEngine struct {
	engine.Engine
	read atomic.Int64
}

func (e *countingEngine) Read(ctx context.Context, r engine.ReadRequest, fn func(*engine.Entry) (bool, error)) (engine.Progress, error) {
	return e.Engine.Read(ctx, r, func(en *engine.Entry) (bool, error) {
		taken, err := fn(en)
		if taken && en.Bundle != nil {
			e.read.Add(int64(en.Bundle.EncodedSize()))
		}
		return taken, err
	})
}

// A device that does not read is not read for: its log stays in the store.
func TestSlowDevice(t *testing.T) {
	counting := new(countingEngine)
	change := func(c *secondary.Config) {
		counting.Engine = c.Engine
		c.Engine = counting
	}
	inBubble(t, change, func(t *testing.T, f *fixture) {
		v, devices := f.vault(2)
		a := f.device(v, devices[0])
		a.bind(v, 1, 0)
		const total = 8 << 20
		for n := 0; n < total; {
			var changes []commitlog.Change
			var blobs [][]byte
			for range 15 {
				c, b := rawvault.Put(commitlog.MaxBlob)
				changes, blobs = append(changes, c), append(blobs, b)
				n += len(b)
			}
			a.append(v, devices[0].CommitOf(keys.Tag{1}, changes, blobs))
		}
		slow := signedInRaw(t, f, v, devices[1])
		slow.send(&wire.Bind{Size: 1, Root: v.Root(1), Flags: wire.BindLive})
		if m := slow.message(); m.Type() != wire.TypeBound {
			t.Fatalf("BIND is answered with %v", m.Type())
		}
		synctest.Wait() // until nothing moves any more: the line has no buffers
		if read := counting.read.Load(); read == 0 || read > 2<<20 {
			t.Errorf("%d bytes of %d were read for a device that reads nothing", read, total)
		}
		// It is served in the end, and others are all the time.
		a.append(v, devices[0].Commit(keys.Tag{1}, 1))
		for {
			if d, ok := slow.message().(*wire.Download); ok && d.Left == 0 {
				break
			}
		}
		if read := counting.read.Load(); read < total {
			t.Errorf("%d bytes of %d were read in the end", read, total)
		}
	})
}

// Many devices that write and listen at once all end with the same log.
func TestManyDevices(t *testing.T) {
	f := start(t, nil)
	const n, commits = 8, 20
	v, devices := f.vault(n)
	logs := make(chan string, n)
	for _, d := range devices {
		p := f.device(v, d)
		p.bind(v, 1, wire.BindLive)
		go func() {
			sent, log := 0, ""
			next := commitlog.CommitID(2)
			for next <= 1+n*commits {
				if sent < commits {
					if err := p.Send(f.ctx, uploadOf(d.Commit(keys.Tag{1}, 1))); err != nil {
						break
					}
					sent++
				}
				m, err := p.Receive(f.ctx)
				if err != nil {
					break
				}
				download, ok := m.(*wire.Download)
				if !ok {
					continue
				}
				for _, i := range download.Items {
					b, err := commitlog.ParseBundle(i.Data)
					if err != nil || b.ID != next {
						log += fmt.Sprintf("[commit %d for %d: %v]", b.ID, next, err)
					}
					next++
					log += b.Commit.Leaf().String()
				}
			}
			logs <- log
		}()
	}
	first := <-logs
	for range n - 1 {
		if log := <-logs; log != first || len(log) != n*commits*64 {
			t.Fatalf("logs of %d and %d characters differ, or are not whole", len(log), len(first))
		}
	}
}
