package enginetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func testAppend(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	if h, err := e.LastHeader(ctx, v.ID(), d.ID); h != nil || err != nil {
		t.Errorf("last header of a new device: %d bytes, %v", len(h), err)
	}
	a, b, c := d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{2}, 3), d.Commit(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, a, b)
	mustAppend(t, e, v, nil, c)
	checkHead(t, e, v)
	h, err := e.LastHeader(ctx, v.ID(), d.ID)
	if err != nil || !bytes.Equal(h, c.Commit.Raw) {
		t.Errorf("last header: %x, %v; want %x", h, err, c.Commit.Raw)
	}
	if h, err := e.Head(ctx, v.ID(), 2); err != nil || h.Size != 4 || h.Root != v.Root(2) {
		t.Errorf("head at 2: %+v, %v; want root %v", h, err, v.Root(2))
	}
	author, err := e.Author(ctx, v.ID(), d.ID)
	if err != nil || author.LastSeq != 3 || author.Auth != d.Auth.Public() {
		t.Errorf("author: %+v, %v", author, err)
	}
}

func testAppendAgain(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	a, b := d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, a, b)
	c := d.Commit(keys.Tag{1}, 1)
	elsewhere := uint64(77)

	// The same leaf has its ID, whatever the condition and however often.
	for _, condition := range []*uint64{nil, &elsewhere} {
		r := request(v, nil, a)
		r.Condition = condition
		out, size, err := e.Append(t.Context(), r)
		if err != nil || len(out) != 1 || out[0].ID != 2 || out[0].Err != nil || size != 3 {
			t.Errorf("again, condition %v: %+v, size %d, %v; want commit 2 of 3", condition, out, size, err)
		}
	}
	out, size, err := e.Append(t.Context(), request(v, nil, a, b, c, c))
	if err != nil || size != 4 {
		t.Fatalf("old and new: size %d, %v", size, err)
	}
	for i, want := range []commitlog.CommitID{2, 3, 4, 4} {
		if out[i].ID != want || out[i].Err != nil {
			t.Errorf("old and new: bundle %d: %+v, want commit %d", i, out[i], want)
		}
	}
	v.Appended(c.Commit.Leaf())

	// Another leaf under a known sequence number is refused.
	copied := *d
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	r := request(v, nil, copied.Commit(keys.Tag{1}, 1))
	refused(t, e, v, r, commitlog.ErrEquivocation)
	r.Condition = &elsewhere
	refused(t, e, v, r, wire.ErrCondition)
}

func testCondition(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	size := uint64(0)
	r := request(v, nil, d.Commit(keys.Tag{1}, 1))
	r.Condition = &size
	refused(t, e, v, r, wire.ErrCondition)
	size = 2
	refused(t, e, v, r, wire.ErrCondition)
	size = 1
	out, _, err := e.Append(t.Context(), r)
	if err != nil || out[0].Err != nil || out[0].ID != 2 {
		t.Errorf("condition that holds: %+v, %v", out, err)
	}
	r.Bundles = append(r.Bundles, r.Bundles[0])
	if _, _, err := e.Append(t.Context(), r); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("condition with two bundles: %v, want ErrProtocol", err)
	}
}

// A serialised commit is taken directly after what its author had seen, and
// nowhere else, with and without a condition.
func testSerialised(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	seen := v.Size()
	saved := *d
	late := d.Serialised(keys.Tag{1}, 1)
	*d = saved
	first := d.Serialised(keys.Tag{1}, 2)
	mustAppend(t, e, v, nil, first)

	other := v.NewDevice()
	b, control := v.ControlCommit(other.Registration(false))
	mustAppend(t, e, v, control, b)

	// Sent again, it has its place, whatever the log has become.
	again := request(v, nil, first)
	again.Condition = &seen
	out, _, err := e.Append(t.Context(), again)
	if err != nil || out[0].ID != 2 || out[0].Err != nil {
		t.Errorf("again: %+v, %v; want commit 2", out, err)
	}
	// One that was signed over an older log is refused: by its condition, and
	// by its place alone. (Another sequence number, so that only that counts.)
	stale := other.Serialised(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	r := request(v, nil, stale)
	refused(t, e, v, r, commitlog.ErrOrder)
	r.Condition = &stale.Commit.Header.SeenSize
	refused(t, e, v, r, wire.ErrCondition)
	r = request(v, nil, late)
	r.Condition = &seen
	refused(t, e, v, r, wire.ErrCondition)
	other.Forget(commitlog.Hash{})
	mustAppend(t, e, v, nil, other.Serialised(keys.Tag{1}, 1))
}

func testRefusals(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)

	stranger := v.NewDevice()
	refused(t, e, v, request(v, nil, stranger.Commit(keys.Tag{1}, 1)), commitlog.ErrUnknownSigner)

	saved := *d
	without := d.Commit(keys.Tag{1}, 2)
	without.Blobs = [][]byte{without.Blobs[0], nil}
	refused(t, e, v, request(v, nil, without), commitlog.ErrBlob)
	without.Blobs = without.Blobs[:1]
	refused(t, e, v, request(v, nil, without), commitlog.ErrBlob)

	*d = saved
	wrong := d.Commit(v.Control, 1)
	refused(t, e, v, request(v, nil, wrong), commitlog.ErrMalformed)

	// One commit's refusal does not touch those before it, and those that
	// follow it are refused as well.
	*d = saved
	good := d.Commit(keys.Tag{1}, 1)
	bad := d.Commit(keys.Tag{1}, 1)
	bad.Blobs[0] = nil
	after := d.Commit(keys.Tag{1}, 1)
	out, size, err := e.Append(t.Context(), request(v, nil, good, bad, after))
	if err != nil || len(out) != 3 || size != 2 {
		t.Fatalf("three commits: %+v, size %d, %v", out, size, err)
	}
	if out[0].ID != 2 || out[0].Err != nil || !errors.Is(out[1].Err, commitlog.ErrBlob) || !errors.Is(out[2].Err, commitlog.ErrOmission) {
		t.Errorf("three commits: %+v; want 2, ErrBlob, ErrOmission", out)
	}
	v.Appended(good.Commit.Leaf())
	checkHead(t, e, v)

	// Built anew on what is in the log, the next goes in.
	d.Forget(good.Commit.Leaf())
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
}

// testConcurrency lets devices of several vaults write at once: every commit has
// an ID, and the IDs of a vault have no gaps.
func testConcurrency(t *testing.T, e engine.Engine) {
	const vaults, devices, commits = 3, 4, 15
	var wg sync.WaitGroup
	for range vaults {
		v := create(t, e)
		var all []*rawvault.Device
		var registrations []wire.Registration
		for range devices {
			d := v.NewDevice()
			all, registrations = append(all, d), append(registrations, d.Registration(false))
		}
		b, c := v.ControlCommit(registrations...)
		mustAppend(t, e, v, c, b)

		ids := make(chan commitlog.CommitID, devices*commits)
		var writers sync.WaitGroup
		for _, d := range all {
			writers.Go(func() {
				for range commits {
					out, size, err := e.Append(t.Context(), request(v, nil, d.Commit(keys.Tag{1}, 1)))
					if err != nil || out[0].Err != nil || size < uint64(out[0].ID) {
						t.Errorf("append: %+v, size %d, %v", out, size, err)
						return
					}
					ids <- out[0].ID
				}
			})
		}
		wg.Go(func() {
			writers.Wait()
			close(ids)
			seen := make(map[commitlog.CommitID]bool)
			for id := range ids {
				if seen[id] || id < 2 || id > 1+devices*commits {
					t.Errorf("commit ID %d, twice or out of range", id)
				}
				seen[id] = true
			}
			if len(seen) != devices*commits {
				t.Errorf("%d commit IDs, want %d", len(seen), devices*commits)
			}
		})
	}
	wg.Wait()
}

func testCancelled(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Append(ctx, request(v, nil, d.Commit(keys.Tag{1}, 1))); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v, want Canceled", err)
	}
	checkHead(t, e, v)
}
