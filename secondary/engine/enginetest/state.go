package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// aLog is a vault's log with some changes that are live, and some that were.
type aLog struct {
	v       *rawvault.Vault
	d, o    *rawvault.Device
	commits []*commitlog.Bundle
}

func (l *aLog) append(t *testing.T, e engine.Engine, c *wire.Control, b *commitlog.Bundle) {
	t.Helper()
	mustAppend(t, e, l.v, c, b)
	l.commits = append(l.commits, b)
}

func (l *aLog) checkpoint(d *rawvault.Device, size int, time uint64) *commitlog.Checkpoint {
	return d.Checkpoint(l.v.Comes(l.commits[:size]), time)
}

// withLog returns a vault with a log of ten commits.
func withLog(t *testing.T, e engine.Engine) *aLog {
	t.Helper()
	l := &aLog{v: create(t, e)}
	l.d, l.o = l.v.NewDevice(), l.v.NewDevice()
	b, c := l.v.ControlCommit(l.d.Registration(false), l.o.Registration(false))
	l.append(t, e, c, b)
	l.append(t, e, nil, l.d.Commit(keys.Tag{2}, 3))
	l.append(t, e, nil, l.o.Commit(keys.Tag{1}, 2))
	l.append(t, e, nil, l.d.Edit(keys.Tag{2}, commitlog.ChangeID{Commit: 2, Index: 1}))
	b, c = l.v.ControlCommit()
	l.append(t, e, c, b)
	l.append(t, e, nil, l.o.Commit(keys.Tag{3}, 1))
	l.append(t, e, nil, l.o.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 3}, commitlog.ChangeID{Commit: 3, Index: 1}))
	gone, blob := rawvault.Put(commitlog.MinBlob)
	gone.Op, gone.Refs = commitlog.OpDelete, []commitlog.Ref{{At: 6}}
	l.append(t, e, nil, l.d.CommitOf(keys.Tag{3}, []commitlog.Change{gone}, [][]byte{blob}))
	l.append(t, e, nil, l.d.Edit(keys.Tag{2}, commitlog.ChangeID{Commit: 2, Index: 2}, commitlog.ChangeID{Commit: 4}))
	l.append(t, e, nil, l.d.Commit(keys.Tag{2}, 1))
	return l
}

func testCheckpoint(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	l := withLog(t, e)
	find := func(size uint64, device keys.DeviceID, want *commitlog.Checkpoint) {
		t.Helper()
		got, err := e.Checkpoint(ctx, l.v.ID(), size, device)
		if want == nil && !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("before %d of %v: %v, want ErrNotFound", size, device, err)
		}
		if want != nil && (err != nil || !bytes.Equal(got.Raw, want.Raw)) {
			t.Errorf("before %d of %v: %+v, %v; want that of size %d of %v", size, device, got, err, want.Size, want.Device)
		}
	}
	put := func(c *commitlog.Checkpoint) {
		t.Helper()
		if err := e.PutCheckpoint(ctx, c); err != nil {
			t.Errorf("checkpoint of %d: %v", c.Size, err)
		}
	}
	find(0, keys.DeviceID{}, nil)

	// The last is the one of the greatest size, and of these of the greatest device.
	low, high := l.d, l.o
	if bytes.Compare(low.ID[:], high.ID[:]) > 0 {
		low, high = high, low
	}
	a, b := l.checkpoint(low, 7, 5), l.checkpoint(high, 7, 5)
	put(a)
	put(b)
	find(0, keys.DeviceID{}, b)
	find(8, keys.DeviceID{}, b)
	find(7, high.ID, a)
	find(7, low.ID, nil)
	find(7, keys.DeviceID{}, nil)
	put(b) // the same again
	a2 := l.checkpoint(low, 10, 5)
	put(a2)
	find(0, keys.DeviceID{}, a2)
	find(10, low.ID, b)
	find(7, high.ID, nil) // each device has one
	b2 := l.checkpoint(high, 7, 6)
	put(b2)
	find(10, low.ID, b2)

	// One that is older, and one that is false, change nothing.
	refuse := func(what string, c *commitlog.Checkpoint) {
		t.Helper()
		if err := e.PutCheckpoint(ctx, c); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", what, err)
		}
		find(10, low.ID, b2)
	}
	refuse("an older time", l.checkpoint(high, 9, 5))
	refuse("an older size", l.checkpoint(high, 6, 7))
	for what, change := range map[string]func(c *commitlog.Checkpoint){
		"a longer log":                 func(c *commitlog.Checkpoint) { c.Size++; c.Peaks = append(c.Peaks, commitlog.Hash{}) },
		"another log":                  func(c *commitlog.Checkpoint) { c.Peaks[1][0] ^= 1 },
		"an author's next number":      func(c *commitlog.Checkpoint) { c.Authors[1].Seq++ },
		"an author's other leaf":       func(c *commitlog.Checkpoint) { c.Authors[2].Leaf[0] ^= 1 },
		"an author fewer":              func(c *commitlog.Checkpoint) { c.Authors = c.Authors[:2] },
		"a live change more":           func(c *commitlog.Checkpoint) { c.Namespaces[0].Count++; c.Namespaces[0].Bytes += commitlog.MinBlob },
		"another state hash":           func(c *commitlog.Checkpoint) { c.Namespaces[1].Hash[0] ^= 1 },
		"a namespace fewer":            func(c *commitlog.Checkpoint) { c.Namespaces = c.Namespaces[:2] },
		"another number of statements": func(c *commitlog.Checkpoint) { c.Control.Number++ },
	} {
		c := l.v.Comes(l.commits)
		change(c)
		refuse(what, high.Checkpoint(c, 7))
	}
	put(l.checkpoint(high, 10, 7))

	// Nothing is kept of a device that was revoked, and nothing more is taken.
	control, words := l.v.ControlCommit(high.Registration(true))
	l.append(t, e, words, control)
	find(0, keys.DeviceID{}, a2)
	find(10, low.ID, nil)
	if err := e.PutCheckpoint(ctx, l.checkpoint(high, 11, 8)); !errors.Is(err, commitlog.ErrRevoked) {
		t.Errorf("of a revoked device: %v, want ErrRevoked", err)
	}
	if err := e.PutCheckpoint(ctx, l.checkpoint(l.v.NewDevice(), 11, 8)); !errors.Is(err, commitlog.ErrUnknownSigner) {
		t.Errorf("of an unknown device: %v, want ErrUnknownSigner", err)
	}
	find(0, keys.DeviceID{}, a2)

	other := rawvault.New()
	c := l.v.Comes(l.commits)
	c.Vault = other.ID()
	if err := e.PutCheckpoint(ctx, low.Checkpoint(c, 9)); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v, want ErrNotFound", err)
	}
	if _, err := e.Checkpoint(ctx, other.ID(), 0, keys.DeviceID{}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("before any, of an unknown vault: %v, want ErrNotFound", err)
	}
	// Another vault has its own.
	if _, err := e.Checkpoint(ctx, create(t, e).ID(), 0, keys.DeviceID{}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of another vault: %v, want ErrNotFound", err)
	}
}

// nextLive reads up to n live changes after a place.
func nextLive(t *testing.T, r engine.StateReader, after engine.Place, n int) (out []string, last engine.Place) {
	t.Helper()
	last = after
	err := r.Next(t.Context(), after, func(c *engine.LiveChange) (bool, error) {
		if len(out) == n {
			return false, nil
		}
		out, last = append(out, fmt.Sprintf("%v %v %x %x %x", c.Place.Tag, c.Place.ID, c.Header, c.Entry, c.Blob)), c.Place
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, last
}

func (l *aLog) liveAt(size int) (out []string, places []engine.Place) {
	for _, c := range l.v.LiveIn(l.commits[:size]) {
		out = append(out, fmt.Sprintf("%v %v %x %x %x", c.Tag, c.ID, c.Bundle.Commit.Raw, c.Entry(), c.Blob()))
		places = append(places, engine.Place{Tag: c.Tag, ID: c.ID})
	}
	return out, places
}

func testState(t *testing.T, e engine.Engine) {
	l := withLog(t, e)
	open := func(size int) engine.StateReader {
		t.Helper()
		r, err := e.OpenState(t.Context(), l.v.ID(), uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	same := func(what string, got, want []string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %v\nwant %v", what, got, want)
		}
	}
	for size := 1; size <= len(l.commits); size++ {
		want, places := l.liveAt(size)
		got, _ := nextLive(t, open(size), engine.Place{}, 99)
		same(fmt.Sprint("at ", size), got, want)
		// From every place on, by a new reader.
		for i, p := range places {
			got, _ := nextLive(t, open(size), p, 99)
			same(fmt.Sprint("at ", size, " after ", i+1), got, want[i+1:])
		}
	}
	// One by one, while the log grows and ends what was live.
	size := len(l.commits)
	want, places := l.liveAt(size)
	r := open(size)
	var got []string
	var last engine.Place
	for _, p := range places {
		var some []string
		some, last = nextLive(t, r, last, 1)
		got = append(got, some...)
		if p.Tag == l.v.Control {
			l.append(t, e, nil, l.d.Commit(keys.Tag{4}, 1)) // a namespace that was not there
			continue
		}
		l.append(t, e, nil, l.d.Edit(p.Tag, p.ID))
	}
	same("while it grows", got, want)
	if some, _ := nextLive(t, r, last, 1); len(some) > 0 {
		t.Errorf("after the last: %v", some)
	}
	if len(l.commits) != size+len(places) {
		t.Errorf("%d commits", len(l.commits))
	}

	if _, err := e.OpenState(t.Context(), l.v.ID(), l.v.Size()+1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("beyond the log: %v, want ErrNotFound", err)
	}
	if _, err := e.OpenState(t.Context(), keys.VaultID{1}, 1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v, want ErrNotFound", err)
	}
	never := func(*engine.LiveChange) (bool, error) { t.Error("called"); return false, nil }
	// Tag 3 had nothing live at that size.
	if err := open(5).Next(t.Context(), engine.Place{Tag: keys.Tag{3}, ID: commitlog.ChangeID{Commit: 1}}, never); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("after a place that is none: %v, want ErrProtocol", err)
	}
	enough := errors.New("enough")
	if err := open(5).Next(t.Context(), engine.Place{}, func(*engine.LiveChange) (bool, error) { return true, enough }); !errors.Is(err, enough) {
		t.Errorf("error of the function: %v", err)
	}
}

// With Dead, the blobs of what is live now do not come, but those of control
// commits do.
func testReadDead(t *testing.T, e engine.Engine) {
	l := withLog(t, e)
	live := make(map[commitlog.ChangeID]bool)
	for _, c := range l.v.LiveIn(l.commits) {
		live[c.ID] = true
	}
	read := func(r engine.ReadRequest) {
		t.Helper()
		r.Vault, r.Dead = l.v.ID(), true
		there := 0
		_, err := e.Read(t.Context(), r, func(en *engine.Entry) (bool, error) {
			sent := l.commits[en.ID-1]
			for i, blob := range en.Bundle.Blobs {
				want := sent.Blobs[i]
				tag := sent.Commit.Header.Tag
				if tag != l.v.Control && (live[commitlog.ChangeID{Commit: en.ID, Index: uint16(i)}] || r.Tags != nil && !r.Tags[tag]) {
					want = nil
				}
				if !bytes.Equal(blob, want) {
					t.Errorf("tags %v: change %d.%d comes with a blob of %d bytes, want %d", r.Tags, en.ID, i, len(blob), len(want))
				}
				if want != nil {
					there++
				}
			}
			return true, nil
		})
		if err != nil || there < 3 {
			t.Errorf("%d blobs, %v", there, err)
		}
	}
	read(engine.ReadRequest{})
	read(engine.ReadRequest{Tags: map[keys.Tag]bool{{2}: true}})
}
