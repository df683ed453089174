package enginetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// appendAt is mustAppend at a time after now.
func appendAt(t *testing.T, e engine.Engine, v *rawvault.Vault, after time.Duration, b *commitlog.Bundle) {
	t.Helper()
	r := request(v, nil, b)
	r.Now = now.Add(after)
	out, _, err := e.Append(t.Context(), r)
	if err != nil || out[0].Err != nil {
		t.Fatalf("append: %+v, %v", out, err)
	}
	v.Appended(b.Commit.Leaf())
}

func compact(t *testing.T, e engine.Engine, before time.Time) engine.Compacted {
	t.Helper()
	c, err := e.Compact(t.Context(), before)
	if err != nil {
		t.Fatalf("compact: %v", err)
	}
	return c
}

// kept returns, for each change of the log, whether its blob is there. It compares
// everything else with what was appended.
func kept(t *testing.T, e engine.Engine, v *rawvault.Vault, commits []*commitlog.Bundle) (out [][]bool) {
	t.Helper()
	_, err := e.Read(t.Context(), engine.ReadRequest{Vault: v.ID()}, func(en *engine.Entry) (bool, error) {
		want := commits[en.ID-1]
		if !bytes.Equal(en.Bundle.Commit.Raw, want.Commit.Raw) || !bytes.Equal(en.Bundle.Commit.List, want.Commit.List) {
			t.Errorf("commit %d is another", en.ID)
		}
		here := make([]bool, len(want.Blobs))
		for i, blob := range en.Bundle.Blobs {
			here[i] = blob != nil
			if here[i] && !bytes.Equal(blob, want.Blobs[i]) {
				t.Errorf("commit %d: blob %d is another", en.ID, i)
			}
		}
		out = append(out, here)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func testCompact(t *testing.T, e engine.Engine) {
	const day = 24 * time.Hour
	ctx := t.Context()
	v, d := withDevice(t, e)
	_, _ = withDevice(t, e) // a vault in which there is nothing to do
	tag := keys.Tag{1}
	remove, blob := rawvault.Put(commitlog.MinBlob)
	remove.Op, remove.Refs = commitlog.OpDelete, []commitlog.Ref{{At: 2, Index: 1}}
	commits := []*commitlog.Bundle{nil}
	read := func(id commitlog.CommitID) (first *commitlog.Bundle) {
		t.Helper()
		_, err := e.Read(ctx, engine.ReadRequest{Vault: v.ID(), After: id - 1}, func(en *engine.Entry) (bool, error) {
			if first != nil {
				return false, nil
			}
			raw, err := en.Bundle.AppendBinary(nil)
			if err == nil {
				first, err = commitlog.ParseBundle(raw)
			}
			return true, err
		})
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	commits[0] = read(1)
	for _, c := range []struct {
		after time.Duration
		b     func() *commitlog.Bundle
	}{
		{0, func() *commitlog.Bundle { return d.Commit(tag, 3) }},                                                  // 2
		{1 * day, func() *commitlog.Bundle { return d.Edit(tag, commitlog.ChangeID{Commit: 2}) }},                  // 3 ends 2.0
		{2 * day, func() *commitlog.Bundle { return d.CommitOf(tag, []commitlog.Change{remove}, [][]byte{blob}) }}, // 4 ends 2.1 and itself
		{3 * day, func() *commitlog.Bundle { return d.Edit(tag, commitlog.ChangeID{Commit: 3}) }},                  // 5 ends 3.0
	} {
		b := c.b()
		appendAt(t, e, v, c.after, b)
		commits = append(commits, b)
	}
	point := d.Checkpoint(v.Comes(commits[:3]), 5)
	head := v.Root(v.Size())
	at := []struct {
		before time.Duration
		blobs  int
		want   [][]bool
	}{
		{-100 * 365 * day, 0, [][]bool{{true}, {true, true, true}, {true}, {true}, {true}}}, // before 1970
		{day - time.Millisecond, 0, [][]bool{{true}, {true, true, true}, {true}, {true}, {true}}},
		{day, 1, [][]bool{{true}, {false, true, true}, {true}, {true}, {true}}},
		{day, 0, [][]bool{{true}, {false, true, true}, {true}, {true}, {true}}},
		{2 * day, 2, [][]bool{{true}, {false, false, true}, {true}, {false}, {true}}},
		{99 * day, 1, [][]bool{{true}, {false, false, true}, {false}, {false}, {true}}},
		{99 * day, 0, [][]bool{{true}, {false, false, true}, {false}, {false}, {true}}},
	}
	for i, c := range at {
		done := compact(t, e, now.Add(c.before))
		if done != (engine.Compacted{Blobs: c.blobs, Bytes: uint64(c.blobs * commitlog.MinBlob)}) {
			t.Errorf("step %d dropped %+v, want %d blobs", i, done, c.blobs)
		}
		got := kept(t, e, v, commits)
		for j := range got {
			for k := range got[j] {
				if got[j][k] != c.want[j][k] {
					t.Errorf("step %d: blob of change %d.%d kept: %v", i, j+1, k, got[j][k])
				}
			}
		}
	}
	checkHead(t, e, v)
	if v.Root(v.Size()) != head {
		t.Error("the root is another")
	}
	// A checkpoint of before is still one, and its state is there but for the blobs.
	if err := e.PutCheckpoint(ctx, point); err != nil {
		t.Errorf("checkpoint at an old size: %v", err)
	}
	r, err := e.OpenState(ctx, v.ID(), 3)
	if err != nil {
		t.Fatal(err)
	}
	var there []bool
	if err := r.Next(ctx, engine.Place{}, func(c *engine.LiveChange) (bool, error) {
		there = append(there, c.Blob != nil)
		return true, nil
	}); err != nil || len(there) != 4 || !there[0] || there[1] || !there[2] || there[3] {
		t.Errorf("state at 3: %v, %v", there, err) // 1.0, 2.1, 2.2, 3.0
	}
	// And the log goes on: what was compacted counts as ever.
	b := d.Edit(tag, commitlog.ChangeID{Commit: 3}, commitlog.ChangeID{Commit: 5})
	appendAt(t, e, v, 4*day, b)
	if done := compact(t, e, now.Add(4*day)); done.Blobs != 1 {
		t.Errorf("after one more: %+v", done)
	}
}

// object returns a put with an object, and the object.
func object(n int) (commitlog.Change, []byte, []byte) {
	data, hash := randomObject(n)
	c, blob := rawvault.Put(commitlog.MinBlob)
	c.ObjectHash, c.ObjectSize = hash, uint64(n)
	return c, blob, data
}

func testCompactObjects(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	w, f := withDevice(t, e)
	tag := keys.Tag{1}
	const size = 70_000
	first, blob, data := object(size)
	hash := first.ObjectHash
	send := func(vault *rawvault.Vault, data []byte) (have uint64) {
		t.Helper()
		have, err := e.WriteObject(ctx, vault.ID(), hash, size, 0, data)
		if err != nil {
			t.Fatal(err)
		}
		return have
	}
	has := func(vault *rawvault.Vault, want bool) {
		t.Helper()
		if _, whole, err := e.HaveObject(ctx, vault.ID(), hash); whole != want || err != nil {
			t.Errorf("the object is there: %v, %v; want %v", whole, err, want)
		}
	}
	put := func(d *rawvault.Device, refs ...commitlog.Ref) *commitlog.Bundle {
		c, blob := rawvault.Put(commitlog.MinBlob)
		c.ObjectHash, c.ObjectSize, c.Refs = hash, size, refs
		return d.CommitOf(tag, []commitlog.Change{c}, [][]byte{blob})
	}
	const hour = time.Hour
	send(v, data)
	send(w, data)
	appendAt(t, e, v, 0, d.CommitOf(tag, []commitlog.Change{first}, [][]byte{blob})) // 2
	appendAt(t, e, w, 0, put(f))                                                     // another vault has it, too
	appendAt(t, e, v, hour, d.Edit(tag, commitlog.ChangeID{Commit: 2}))              // 3 ends it
	appendAt(t, e, v, 2*hour, put(d, commitlog.Ref{At: 3}))                          // 4 brings it back
	if c := compact(t, e, now.Add(2*hour)); c.Blobs != 2 || c.Objects != 0 {
		t.Errorf("an object that is live again: %+v", c)
	}
	has(v, true)
	appendAt(t, e, v, 3*hour, d.Edit(tag, commitlog.ChangeID{Commit: 4})) // 5 ends it again
	if c := compact(t, e, now.Add(3*hour-1)); c.Blobs != 0 || c.Objects != 0 {
		t.Errorf("before the time: %+v", c)
	}

	// A device was told that it is there: the next Compact but one removes it.
	if have := send(v, nil); have != size {
		t.Fatalf("%d bytes are there", have)
	}
	if c := compact(t, e, now.Add(3*hour)); c.Blobs != 1 || c.Objects != 0 {
		t.Errorf("an object that was asked about: %+v", c)
	}
	has(v, true)
	next := put(d, commitlog.Ref{At: 5})
	appendAt(t, e, v, 4*hour, next) // 6: the commit that was under way
	for range 3 {
		if c := compact(t, e, now.Add(4*hour)); c.Objects != 0 || len(next.Blobs) != 1 {
			t.Errorf("an object that came back in time: %+v", c)
		}
	}
	has(v, true)
	appendAt(t, e, v, 5*hour, d.Edit(tag, commitlog.ChangeID{Commit: 6})) // 7
	send(v, nil)
	var sum engine.Compacted
	for range 3 {
		c := compact(t, e, now.Add(5*hour))
		sum.Blobs += c.Blobs
		sum.Objects += c.Objects
	}
	if sum.Blobs != 1 || sum.Objects != 1 {
		t.Errorf("an object that nobody wants: %+v", sum)
	}
	has(v, false)
	has(w, true)
	if _, err := e.OpenObject(ctx, v.ID(), hash); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("opening it: %v", err)
	}

	// A commit that names it is refused until it has come again.
	saved := *d
	r := request(v, nil, put(d, commitlog.Ref{At: 7}))
	refused(t, e, v, r, wire.ErrObjectMissing)
	if have := send(v, data); have != size {
		t.Fatalf("%d bytes are there", have)
	}
	*d = saved
	appendAt(t, e, v, 6*hour, r.Bundles[0])
	compact(t, e, now.Add(6*hour))
	has(v, true)
}

// Compaction goes on beside everything else.
func testCompactBeside(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	tag := keys.Tag{1}
	ctx, cancel := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() {
		for ctx.Err() == nil {
			if _, err := e.Compact(ctx, now.Add(time.Hour)); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("compact: %v", err)
				return
			}
		}
	})
	beside.Go(func() {
		for ctx.Err() == nil {
			_, err := e.Read(ctx, engine.ReadRequest{Vault: v.ID()}, func(en *engine.Entry) (bool, error) {
				for i := range en.Bundle.Blobs {
					if ch := &en.Bundle.Commit.Changes[i]; en.Bundle.Blobs[i] != nil && commitlog.CheckBlob(ch, en.Bundle.Blobs[i]) != nil {
						t.Errorf("commit %d: blob %d is another", en.ID, i)
					}
				}
				return true, nil
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("read: %v", err)
				return
			}
		}
	})
	// Two values take turns, as a device does that reverts: each time the object is
	// asked for, and sent where it is not there any more.
	var objects [2]commitlog.Change
	var data [2][]byte
	for i := range objects {
		objects[i], _, data[i] = object(66_000)
	}
	live := commitlog.ChangeID{}
	for i := range 60 {
		o := objects[i%2]
		have, err := e.WriteObject(ctx, v.ID(), o.ObjectHash, o.ObjectSize, 0, nil)
		if err == nil && have < o.ObjectSize {
			_, err = e.WriteObject(ctx, v.ID(), o.ObjectHash, o.ObjectSize, have, data[i%2][have:])
		}
		if err != nil {
			t.Fatal(err)
		}
		c, blob := rawvault.Put(commitlog.MinBlob)
		c.ObjectHash, c.ObjectSize = o.ObjectHash, o.ObjectSize
		if live.Commit != 0 {
			c.Refs = []commitlog.Ref{{At: uint64(live.Commit)}}
		}
		b := d.CommitOf(tag, []commitlog.Change{c}, [][]byte{blob})
		out, _, err := e.Append(ctx, request(v, nil, b))
		for err == nil && errors.Is(out[0].Err, wire.ErrObjectMissing) { // two Compacts came between
			if _, err = e.WriteObject(ctx, v.ID(), o.ObjectHash, o.ObjectSize, 0, data[i%2]); err == nil {
				out, _, err = e.Append(ctx, request(v, nil, b))
			}
		}
		if err != nil || out[0].Err != nil {
			t.Fatalf("append: %+v, %v", out, err)
		}
		v.Appended(b.Commit.Leaf())
		live.Commit = out[0].ID
		if _, whole, err := e.HaveObject(ctx, v.ID(), o.ObjectHash); !whole || err != nil {
			t.Fatalf("the object of a live change is not there (%v)", err)
		}
	}
	cancel()
	beside.Wait()
	checkHead(t, e, v)
}
