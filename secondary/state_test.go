package secondary_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// lives is a live change as STATE brings it.
type lives struct {
	tag  keys.Tag
	id   commitlog.ChangeID
	text string // header, entry and blob
}

func liveText(header, entry, blob []byte) string {
	return fmt.Sprint(commitlog.LeafHash(header), commitlog.LeafHash(entry), len(entry), " blob ", blob != nil, commitlog.LeafHash(blob))
}

// live returns what was live at a size, as STATE brings it where the blobs of some
// namespaces are wanted, nil for all.
func (l *aLog) live(size int, tags wire.Tags) (out []lives) {
	for _, c := range l.LiveIn(l.commits[:size]) {
		blob := c.Blob()
		if tags != nil && c.Tag != l.Control && !slices.Contains(tags, c.Tag) {
			blob = nil
		}
		out = append(out, lives{c.Tag, c.ID, liveText(c.Bundle.Commit.Raw, c.Entry(), blob)})
	}
	return out
}

// page reads a STATE.
func (s *direct) page(request uint32) (out []lives, done bool) {
	s.f.t.Helper()
	m := says[*wire.State](s)
	if m.Request != request {
		s.f.t.Errorf("STATE of request %d, want %d", m.Request, request)
	}
	for _, i := range m.Items {
		x, err := commitlog.ParseExcerpt(i.Data)
		if err != nil {
			s.f.t.Fatal(err)
		}
		for _, c := range x.Changes {
			out = append(out, lives{x.Header.Tag, commitlog.ChangeID{Commit: x.ID, Index: c.Index}, liveText(x.Raw, c.Change.Entry, c.Blob)})
		}
	}
	return out, m.Done
}

// pages reads all that a SNAPSHOT is answered with.
func (s *direct) pages(m *wire.Snapshot, between func(page int)) (out []lives, n int) {
	s.f.t.Helper()
	if replies := s.tell(m); len(replies) > 0 {
		s.f.t.Fatalf("SNAPSHOT is answered with %+v", replies)
	}
	for done := false; !done; n++ {
		var p []lives
		p, done = s.page(m.Request)
		out = append(out, p...)
		if between != nil {
			between(n)
		}
	}
	if m := s.next(); m != nil {
		s.f.t.Errorf("after the last STATE: %v", m.Type())
	}
	return out, n
}

func sameLives(t *testing.T, what string, got, want []lives) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// What was live comes at every size, from every place on, and with the blobs of the
// namespaces that are wanted.
func TestSnapshot(t *testing.T) {
	l, d := testLog(t, nil)
	s := l.f.directDevice(l.Vault, d[0])
	request := uint32(0)
	for size := 1; size <= len(l.commits); size++ {
		for _, tags := range []wire.Tags{nil, {}, {{2}}, {{1}, {3}}} {
			want := l.live(size, tags)
			request++
			got, _ := s.pages(&wire.Snapshot{Request: request, Size: uint64(size), Tags: tags}, nil)
			sameLives(t, fmt.Sprint("at ", size, " of ", tags), got, want)
			for i, p := range want {
				request++
				got, _ := s.pages(&wire.Snapshot{Request: request, Size: uint64(size), Tag: p.tag, Commit: p.id.Commit, Index: p.id.Index, Tags: tags}, nil)
				sameLives(t, fmt.Sprint("at ", size, " of ", tags, " after ", i+1), got, want[i+1:])
			}
		}
	}
	s.refuses(&wire.Snapshot{Request: 1, Size: l.Size() + 1}, 1, wire.ErrNotFound)
	// The owner, who has no log, may ask, and so may a device that is bound.
	owner := l.f.direct(l.Vault, wire.RoleOwner, keys.DeviceID{}, l.Authority.Auth)
	got, _ := owner.pages(&wire.Snapshot{Request: 1, Size: 7}, nil)
	sameLives(t, "the owner", got, l.live(7, nil))
	s.tell(&wire.Bind{Size: 7, Root: l.Root(7), Flags: wire.BindLive})
	says[*wire.Bound](s)
	got, _ = s.pages(&wire.Snapshot{Request: 1, Size: 7}, nil)
	sameLives(t, "bound", got, l.live(7, nil))
}

func TestSnapshotRefuses(t *testing.T) {
	l, d := testLog(t, nil)
	for name, m := range map[string]*wire.Snapshot{
		"while one is under way":         {Request: 2, Size: 5},
		"the same while it is under way": {Request: 1, Size: 7},
	} {
		t.Run(name, func(t *testing.T) {
			s := l.f.directDevice(l.Vault, d[0])
			if r := s.tell(&wire.Snapshot{Request: 1, Size: 7}); len(r) > 0 {
				t.Fatalf("%+v", r)
			}
			s.ends(m, wire.ErrProtocol)
		})
	}
	// A place in a namespace that had nothing.
	s := l.f.directDevice(l.Vault, d[0])
	s.tell(&wire.Snapshot{Request: 1, Size: 3, Tag: keys.Tag{3}, Commit: 3})
	if e := says[*wire.Error](s); e.Code != wire.CodeProtocol || e.Request != 0 {
		t.Errorf("after a place that is none: %+v", e)
	}
}

// Large changes come in many frames, while the log grows and ends what was live.
func TestSnapshotLarge(t *testing.T) {
	l := start(t, nil).aLog()
	d := l.devices(2)
	// Two changes of one commit that do not fit an item.
	l.append(l.ControlOf([]int{commitlog.MaxControlBlob * 5 / 6, commitlog.MaxControlBlob}))
	l.append(l.ControlOf([]int{commitlog.MaxControlBlob - 1}))
	l.data(sized(d[0], keys.Tag{1}, 60, commitlog.MaxBlob))
	l.data(d[1].Commit(keys.Tag{1}, 1))
	l.data(sized(d[0], keys.Tag{2}, 3000, commitlog.MinBlob))
	size := len(l.commits)
	want := l.live(size, nil)
	s := l.f.directDevice(l.Vault, d[0])
	got, n := s.pages(&wire.Snapshot{Request: 1, Size: uint64(size)}, func(page int) {
		switch page {
		case 3: // within the large commit, whose last change goes, and one that was sent
			l.data(d[1].Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 4, Index: 0}, commitlog.ChangeID{Commit: 4, Index: 59}))
		case 4:
			l.data(d[1].Edit(keys.Tag{2}, commitlog.ChangeID{Commit: 6, Index: 2999}))
			l.data(d[1].Commit(keys.Tag{7}, 1))
		}
	})
	if !slices.Equal(got, want) {
		t.Errorf("%d changes in %d frames, want %d, or others", len(got), n, len(want))
	}
	if n < 9 {
		t.Errorf("%d frames", n)
	}
	// Cut anywhere, it goes on there, though all of that has changed since.
	for cut := 1; cut < len(want); cut += 1 + cut/3 {
		p := want[cut-1]
		got, _ := s.pages(&wire.Snapshot{Request: 2, Size: uint64(size), Tag: p.tag, Commit: p.id.Commit, Index: p.id.Index}, nil)
		if !slices.Equal(got, want[cut:]) {
			t.Errorf("after %d: %d changes, want %d, or others", cut, len(got), len(want)-cut)
		}
	}
}

// sized returns a commit of n puts with blobs of a size.
func sized(d *rawvault.Device, tag keys.Tag, n, size int) *commitlog.Bundle {
	var changes []commitlog.Change
	var blobs [][]byte
	for range n {
		c, b := rawvault.Put(size)
		changes, blobs = append(changes, c), append(blobs, b)
	}
	return d.CommitOf(tag, changes, blobs)
}

// What is served for a snapshot is what a checkpoint of that size says.
func TestSnapshotComesToCheckpoint(t *testing.T) {
	l, d := testLog(t, atCheckpointNow)
	s := l.f.directDevice(l.Vault, d[0])
	for size := 1; size <= len(l.commits); size++ {
		want := l.Comes(l.commits[:size])
		states := make(map[keys.Tag]*commitlog.StateHash)
		s.tell(&wire.Snapshot{Request: 1, Size: uint64(size), Tags: wire.Tags{}})
		for done := false; !done; {
			m := says[*wire.State](s)
			done = m.Done
			for _, i := range m.Items {
				x, err := commitlog.ParseExcerpt(i.Data)
				if err != nil {
					t.Fatal(err)
				}
				if states[x.Header.Tag] == nil {
					states[x.Header.Tag] = commitlog.NewStateHash()
				}
				for _, c := range x.Changes {
					states[x.Header.Tag].Add(commitlog.ChangeID{Commit: x.ID, Index: c.Index}, commitlog.LeafHash(x.Raw), c.Change.Entry)
				}
			}
		}
		for _, n := range want.Namespaces {
			if st := states[n.Tag]; st == nil || st.Count != n.Count || st.Bytes != n.Bytes || st.Sum() != n.Hash {
				t.Errorf("namespace %v at %d: %+v, want %+v", n.Tag, size, st, n)
			}
		}
		if len(states) != len(want.Namespaces) {
			t.Errorf("%d namespaces at %d, want %d", len(states), size, len(want.Namespaces))
		}
	}
}

// Over a connection the answers come by themselves.
func TestStateOverConnection(t *testing.T) {
	l, d := testLog(t, atCheckpointNow)
	p := l.f.device(l.Vault, d[0])
	p.send(&wire.Snapshot{Request: 1, Size: 7})
	if m := receive[*wire.State](p); m.Request != 1 || !m.Done || len(m.Items) != 6 {
		t.Errorf("STATE %d, done %v, %d items", m.Request, m.Done, len(m.Items))
	}
	p.send(&wire.Read{Request: 2, To: 7})
	if m := receive[*wire.Commits](p); m.Request != 2 || len(m.Items) != 7 {
		t.Errorf("COMMITS %d, %d items", m.Request, len(m.Items))
	}
	c := d[0].Checkpoint(l.Comes(l.commits), uint64(checkpointNow.UnixMilli()))
	p.send(post(3, c))
	p.send(&wire.Checkpoint{Request: 4})
	if m := receive[*wire.Checkpoint](p); m.Request != 3 || len(m.Data) > 0 {
		t.Errorf("posted: %+v", m)
	}
	if m := receive[*wire.Checkpoint](p); m.Request != 4 || !bytes.Equal(m.Data, c.Raw) {
		t.Errorf("asked: %+v", m)
	}
	p.send(&wire.Snapshot{Request: 5, Size: 8})
	p.send(&wire.Read{Request: 6, To: 8})
	for _, want := range []uint32{5, 6} {
		if e := receive[*wire.Error](p); e.Request != want || e.Code != wire.CodeNotFound {
			t.Errorf("request %d: %+v", want, e)
		}
	}
}
