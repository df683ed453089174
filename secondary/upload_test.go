package secondary_test

import (
	"errors"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// A commit whose answer was lost is sent again and has its old ID.
func TestLostAnswer(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	first := f.device(v, d)
	first.bind(v, 1, 0)
	a, b := d.Commit(keys.Tag{1}, 2), d.Commit(keys.Tag{1}, 1)
	first.append(v, a)
	first.Close() // as if the answer had not come

	second := f.device(v, d)
	if bound := second.bind(v, 2, 0); string(bound.Last) != string(a.Commit.Raw) {
		t.Errorf("BOUND names another last commit")
	}
	for range 2 {
		results := second.upload(a, b)
		if len(results) != 2 || results[0].ID != 2 || results[1].ID != 3 {
			t.Errorf("sent again: %+v, want IDs 2 and 3", results)
		}
	}
}

func TestUploadCondition(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	p := f.device(v, d)
	p.bind(v, 1, 0)
	b := d.Commit(keys.Tag{1}, 1)
	check := func(size uint64, want error) {
		t.Helper()
		u := uploadOf(b)
		u.Condition = &size
		p.send(u)
		r := receive[*wire.Uploaded](p).Results[0]
		if !errors.Is(r.Err(), want) || (want == nil) != (r.ID == 2) {
			t.Errorf("condition %d: %+v, want %v", size, r, want)
		}
	}
	check(0, wire.ErrCondition)
	check(2, wire.ErrCondition)
	check(1, nil)
	check(0, nil) // known by now, before any condition
}

// Two owners at once: one control commit gets the place, the other is told.
func TestTwoOwners(t *testing.T) {
	f := start(t, nil)
	v, _ := f.vault(0)
	w := *v
	b, c := v.ControlCommit(v.NewDevice().Registration(false))
	other, oc := w.ControlCommit(w.NewDevice().Registration(false))
	p := f.dial(client.Owner(v.Authority))
	p.bind(v, 1, 0)
	size := uint64(1)
	for _, test := range []struct {
		b    *commitlog.Bundle
		c    *wire.Control
		want error
	}{{b, c, nil}, {other, oc, wire.ErrCondition}} {
		p.send(&wire.Upload{Condition: &size, Control: test.c, Items: wire.Cut(rawvault.Encode(test.b))})
		if r := receive[*wire.Uploaded](p).Results[0]; !errors.Is(r.Err(), test.want) {
			t.Errorf("got %+v, want %v", r, test.want)
		}
	}
}

// After a refusal, what was built on the refused commit is answered with that,
// frame after frame, until something comes that was not.
func TestAfterRefused(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	p := f.device(v, d)
	p.bind(v, 1, 0)

	good := d.Commit(keys.Tag{1}, 1)
	bad := d.Commit(v.Control, 1) // a device may not write there
	late := d.Commit(keys.Tag{1}, 1)
	results := p.upload(good, bad, late)
	check := func(what string, r wire.Result, want error) {
		t.Helper()
		if !errors.Is(r.Err(), want) {
			t.Errorf("%s: %+v, want %v", what, r, want)
		}
	}
	check("good", results[0], nil)
	check("bad", results[1], commitlog.ErrMalformed)
	check("late", results[2], wire.ErrAfterRefused)
	check("later", p.upload(d.Commit(keys.Tag{1}, 1))[0], wire.ErrAfterRefused)
	v.Appended(good.Commit.Leaf())

	d.Forget(good.Commit.Leaf())
	p.append(v, d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{1}, 1))
}

// A bundle that does not parse is refused in its place.
func TestMalformedCommit(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	p := f.device(v, d)
	p.bind(v, 1, 0)
	good, bad, after := d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{1}, 1)
	data := rawvault.Encode(bad)
	data[len(data)-1] ^= 1 // in the blob
	p.send(&wire.Upload{Items: []wire.Item{wire.Cut(rawvault.Encode(good))[0], {Kind: wire.ItemBundle, Data: data}, wire.Cut(rawvault.Encode(after))[0]}})
	results := receive[*wire.Uploaded](p).Results
	if len(results) != 3 || results[0].ID != 2 || !errors.Is(results[1].Err(), commitlog.ErrBlob) || !errors.Is(results[2].Err(), wire.ErrAfterRefused) {
		t.Errorf("got %+v; want 2, ErrBlob, ErrAfterRefused", results)
	}
}

// What a session may not upload at all ends it.
func TestUploadNotOwn(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	stranger, theirs := f.vault(1)
	placed := devices[0].Commit(keys.Tag{1}, 1)
	placed.ID = 2
	control, words := v.ControlCommit()
	tests := map[string]*wire.Upload{
		"another device's":   uploadOf(devices[1].Commit(keys.Tag{1}, 1)),
		"another vault's":    uploadOf(theirs[0].Commit(keys.Tag{1}, 1)),
		"placed already":     uploadOf(placed),
		"control commit":     {Control: words, Items: wire.Cut(rawvault.Encode(control))},
		"header of no sense": {Items: []wire.Item{{Kind: wire.ItemBundle, Data: make([]byte, 300)}}},
	}
	for name, u := range tests {
		t.Run(name, func(t *testing.T) {
			f.t = t
			p := f.device(v, devices[0])
			p.bind(v, 1, 0)
			p.send(u)
			want := wire.ErrProtocol
			if name == "header of no sense" {
				want = commitlog.ErrVersion
			}
			p.fails(want)
		})
	}
	for _, vault := range []*rawvault.Vault{v, stranger} {
		if h, err := f.engine.Head(f.ctx, vault.ID(), 0); err != nil || h.Size != 1 {
			t.Errorf("a log has %d commits, %v; want 1", h.Size, err)
		}
	}
}

// A commit of the largest size goes up in parts and comes down in parts, between
// others.
func TestLargeCommit(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(3)
	p, q := f.device(v, devices[0]), f.device(v, devices[1])
	p.bind(v, 1, 0)
	q.bind(v, 1, wire.BindLive)
	d := devices[0]

	var changes []commitlog.Change
	var blobs [][]byte
	for range 120 {
		c, b := rawvault.Put(commitlog.MaxBlob)
		changes, blobs = append(changes, c), append(blobs, b)
	}
	small, large, last := d.Commit(keys.Tag{1}, 1), d.CommitOf(keys.Tag{1}, changes, blobs), d.Commit(keys.Tag{1}, 1)
	var items []wire.Item
	for _, b := range []*commitlog.Bundle{small, large, last} {
		items = append(items, wire.Cut(rawvault.Encode(b))...)
	}
	// small and the first part share a frame, and so do the last part and last.
	n := len(items)
	if n < 10 || items[1].Kind != wire.ItemPart || items[n-2].Kind != wire.ItemLast {
		t.Fatalf("%d items, not as the test wants them", n)
	}
	p.send(&wire.Upload{Items: items[:2]})
	for i := 2; i < n-2; i++ {
		p.send(&wire.Upload{Items: items[i : i+1]})
	}
	p.send(&wire.Upload{Items: items[n-2:]})
	p.appended(v, receive[*wire.Uploaded](p).Results, small)
	p.appended(v, receive[*wire.Uploaded](p).Results, large, last)
	late := f.device(v, devices[2]) // finds all three there
	late.bind(v, 1, 0)
	for _, p := range []*peer{q, late} {
		got := p.download(2, 4)
		for i, b := range []*commitlog.Bundle{small, large, last} {
			if string(got[i]) != as(commitlog.CommitID(2+i), b) {
				t.Errorf("commit %d comes down as another", 2+i)
			}
		}
	}
}

// A part that another item interrupts is a protocol error.
func TestBrokenParts(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	part := wire.Item{Kind: wire.ItemPart, Data: make([]byte, 100)}
	for name, second := range map[string]wire.Item{
		"whole bundle": wire.Cut(rawvault.Encode(devices[0].Commit(keys.Tag{1}, 1)))[0],
		"too short":    {Kind: wire.ItemLast, Data: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			p := f.device(v, devices[0])
			p.bind(v, 1, 0)
			p.send(&wire.Upload{Items: []wire.Item{part}})
			p.send(&wire.Upload{Items: []wire.Item{second}})
			p.fails(wire.ErrProtocol)
		})
	}
}

func TestObjects(t *testing.T) {
	f := start(t, func(c *secondary.Config) { c.MaxObject = 3 << 20 })
	v, devices := f.vault(2)
	d := devices[0]
	change, blob := rawvault.Put(commitlog.MinBlob)
	data, hash := random(2_500_000)
	size := uint64(len(data))
	change.ObjectHash, change.ObjectSize = hash, size
	b := d.CommitOf(keys.Tag{1}, []commitlog.Change{change}, [][]byte{blob})

	p := f.device(v, d)
	bound := p.bind(v, 1, 0)
	if bound.MaxObject != 3<<20 {
		t.Errorf("BOUND names %d bytes for an object", bound.MaxObject)
	}
	if r := p.upload(b)[0]; !errors.Is(r.Err(), wire.ErrObjectMissing) {
		t.Errorf("commit before its object: %+v, want ErrObjectMissing", r)
	}
	put := func(p *peer, offset, n uint64) *wire.Have {
		t.Helper()
		p.send(&wire.Object{Hash: hash, Size: size, Offset: offset, Data: data[offset : offset+n]})
		return receive[*wire.Have](p)
	}
	if h := put(p, 0, 1_000_000); h.Bytes != 1_000_000 || h.Whole || h.Code != 0 {
		t.Errorf("first part: %+v", h)
	}
	p.Close()

	p = f.device(v, d) // the connection broke; it goes on where it was
	p.bind(v, 1, 0)
	if h := put(p, 0, 0); h.Bytes != 1_000_000 || h.Whole {
		t.Errorf("asked: %+v, want 1000000 bytes", h)
	}
	if h := put(p, 2_000_000, 500_000); h.Bytes != 1_000_000 {
		t.Errorf("a gap: %+v, want 1000000 bytes", h)
	}
	put(p, 1_000_000, 1_000_000)
	if h := put(p, 2_000_000, 500_000); h.Bytes != size || !h.Whole {
		t.Errorf("last part: %+v, want all", h)
	}
	p.append(v, b)

	// The other device gets it back in ranges, and resumes where it likes.
	q := f.device(v, devices[1])
	var got []byte
	for uint64(len(got)) < size {
		q.send(&wire.Fetch{Request: 7, Commit: 2, Object: true, Offset: uint64(len(got)), Length: 1 << 30})
		r := receive[*wire.Blobs](q)
		if r.Request != 7 || r.Size != size || len(r.Data) == 0 || len(r.Data) > wire.MaxRange {
			t.Fatalf("range at %d: request %d, size %d, %d bytes", len(got), r.Request, r.Size, len(r.Data))
		}
		got = append(got, r.Data...)
	}
	if string(got) != string(data) {
		t.Error("the object comes back as another")
	}

	other, wrong := random(1000)
	q.send(&wire.Object{Hash: hash, Size: 1000, Data: other}) // there already
	if h := receive[*wire.Have](q); h.Code != 0 || h.Bytes != size {
		t.Errorf("an object that is there: %+v", h)
	}
	wrong[0] ^= 1
	q.send(&wire.Object{Hash: wrong, Size: 1000, Data: other})
	if h := receive[*wire.Have](q); !errors.Is(h.Err(), commitlog.ErrBlob) || h.Bytes != 0 {
		t.Errorf("wrong bytes: %+v, want ErrBlob", h)
	}
	q.send(&wire.Object{Hash: wrong, Size: 3<<20 + 1, Data: other})
	if h := receive[*wire.Have](q); !errors.Is(h.Err(), wire.ErrTooLarge) {
		t.Errorf("too large: %+v, want ErrTooLarge", h)
	}
}

func TestFetch(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	p := f.device(v, d)
	p.bind(v, 1, 0)
	b := d.Commit(keys.Tag{1}, 2)
	p.append(v, b)
	blob := b.Blobs[1]
	for _, test := range []struct {
		offset uint64
		length uint32
		want   string
	}{{0, 1000, string(blob)}, {0, 10, string(blob[:10])}, {300, 1000, string(blob[300:])}, {uint64(len(blob)), 1, ""}, {1000, 1, ""}} {
		p.send(&wire.Fetch{Request: 1, Commit: 2, Index: 1, Offset: test.offset, Length: test.length})
		if r := receive[*wire.Blobs](p); string(r.Data) != test.want || r.Size != uint64(len(blob)) || r.Absent {
			t.Errorf("%d bytes at %d: %d bytes of %d", test.length, test.offset, len(r.Data), r.Size)
		}
	}
	for name, m := range map[string]*wire.Fetch{
		"no such commit": {Request: 2, Commit: 9, Length: 1},
		"no such change": {Request: 3, Commit: 2, Index: 2, Length: 1},
		"no object":      {Request: 4, Commit: 2, Index: 1, Object: true, Length: 1},
	} {
		p.send(m)
		if e := receive[*wire.Error](p); !errors.Is(e, wire.ErrNotFound) || e.Request != m.Request {
			t.Errorf("%s: %+v, want ErrNotFound for request %d", name, e, m.Request)
		}
	}
	p.send(&wire.Ping{Token: 3}) // the session goes on
	p.append(v, d.Commit(keys.Tag{1}, 1))
}

// A device cannot end sessions, its own or another's, by sending an old commit
// of its own again beside registrations that say "revoked".
func TestRegistrationsOfADevice(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a, b := f.device(v, devices[0]), f.device(v, devices[1])
	a.bind(v, 1, 0)
	b.bind(v, 1, 0)
	old := devices[0].Commit(keys.Tag{1}, 1)
	a.append(v, old)
	_, words := v.ControlCommit(devices[1].Registration(true))
	u := uploadOf(old)
	u.Control = words
	a.send(u)
	a.fails(wire.ErrProtocol)
	b.upload(devices[1].Commit(keys.Tag{1}, 1)) // goes on as before
}
