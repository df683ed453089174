package secondary_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// commits reads what a READ is answered with. other takes what else is said
// meanwhile.
func (s *direct) commits(request uint32, other func(wire.Message)) (out []*commitlog.Bundle, frames int) {
	s.f.t.Helper()
	var a wire.Assembler
	for {
		m := s.next()
		c, ok := m.(*wire.Commits)
		if !ok {
			if other == nil || m == nil {
				s.f.t.Fatalf("it says %+v, want COMMITS", m)
			}
			other(m)
			continue
		}
		if c.Request != request {
			s.f.t.Errorf("COMMITS of request %d, want %d", c.Request, request)
		}
		frames++
		for _, i := range c.Items {
			data, err := a.Add(i)
			if err != nil {
				s.f.t.Fatal(err)
			}
			if data == nil {
				continue
			}
			b, err := commitlog.ParseBundle(data)
			if err != nil {
				s.f.t.Fatal(err)
			}
			out = append(out, b)
		}
		if !a.Partial() {
			return out, frames
		}
	}
}

// checkRead checks commits that a READ has brought.
func (l *aLog) checkRead(got []*commitlog.Bundle, after commitlog.CommitID, tags wire.Tags) {
	l.f.t.Helper()
	live := make(map[commitlog.ChangeID]bool)
	for _, c := range l.LiveIn(l.commits) {
		live[c.ID] = true
	}
	for i, b := range got {
		id := after + commitlog.CommitID(i) + 1
		sent := l.commits[id-1]
		if b.ID != id || !bytes.Equal(b.Commit.Raw, sent.Commit.Raw) || !bytes.Equal(b.Commit.List, sent.Commit.List) {
			l.f.t.Fatalf("commit %d, want %d, or another", b.ID, id)
		}
		for k, blob := range b.Blobs {
			want := sent.Blobs[k]
			if tag := sent.Commit.Header.Tag; tag != l.Control && (live[commitlog.ChangeID{Commit: id, Index: uint16(k)}] || tags != nil && !slices.Contains(tags, tag)) {
				want = nil
			}
			if !bytes.Equal(blob, want) {
				l.f.t.Errorf("tags %v: change %d.%d comes with %d bytes, want %d", tags, id, k, len(blob), len(want))
			}
		}
	}
}

// READ brings commits, bound or not, with the blobs that a device cannot have.
func TestRead(t *testing.T) {
	l, d := testLog(t, nil)
	s := l.f.directDevice(l.Vault, d[0])
	request := uint32(0)
	for _, tags := range []wire.Tags{nil, {}, {{2}}} {
		for after := range commitlog.CommitID(7) {
			for to := after + 1; to <= 7; to++ {
				request++
				if r := s.tell(&wire.Read{Request: request, After: after, To: to, Tags: tags}); len(r) > 0 {
					t.Fatalf("READ is answered with %+v", r)
				}
				got, _ := s.commits(request, nil)
				l.checkRead(got, after, tags)
				if len(got) != int(to-after) {
					t.Errorf("%d commits after %d, want up to %d", len(got), after, to)
				}
				if m := s.next(); m != nil {
					t.Errorf("after COMMITS: %v", m.Type())
				}
			}
		}
	}
	s.refuses(&wire.Read{Request: 1, After: 6, To: 8}, 1, wire.ErrNotFound)
	s.refuses(&wire.Read{Request: 1, After: 8, To: 9}, 1, wire.ErrNotFound)
	owner := l.f.direct(l.Vault, wire.RoleOwner, keys.DeviceID{}, l.Authority.Auth)
	owner.tell(&wire.Read{Request: 1, To: 7})
	got, _ := owner.commits(1, nil)
	l.checkRead(got, 0, nil)

	s.tell(&wire.Read{Request: 1, To: 7})
	s.ends(&wire.Read{Request: 2, To: 7}, wire.ErrProtocol)
}

// Commits that are too large for a frame come in parts, whatever else is said
// between them.
func TestReadInParts(t *testing.T) {
	l := start(t, nil).aLog()
	d := l.devices(1)
	l.data(sized(d[0], keys.Tag{1}, 40, commitlog.MaxBlob))
	l.data(sized(d[0], keys.Tag{1}, 40, commitlog.MaxBlob))
	l.append(l.ControlOf([]int{commitlog.MaxControlBlob}))
	l.data(d[0].Commit(keys.Tag{2}, 1))
	// What was large is ended, so that its blobs come.
	var all []commitlog.ChangeID
	for i := range 80 {
		all = append(all, commitlog.ChangeID{Commit: commitlog.CommitID(2 + i/40), Index: uint16(i % 40)})
	}
	l.data(d[0].Edit(keys.Tag{1}, all...))

	s := l.f.directDevice(l.Vault, d[0])
	s.tell(&wire.Bind{Size: 6, Root: l.Root(6), Flags: wire.BindLive})
	says[*wire.Bound](s)
	var got []*commitlog.Bundle
	frames, others, asked := 0, 0, false
	for request := uint32(1); len(got) < 6; request++ {
		s.tell(&wire.Read{Request: request, After: commitlog.CommitID(len(got)), To: 6})
		if len(got) == 1 {
			// The first part has come; then other things are said.
			first := says[*wire.Commits](s)
			if len(first.Items) != 1 || first.Items[0].Kind != wire.ItemPart {
				t.Fatalf("the first of many parts is %+v", first.Items[0].Kind)
			}
			s.tell(&wire.Fetch{Request: 9, Commit: 5, Length: 1 << 20})
			s.tell(&wire.Snapshot{Request: 9, Size: 1})
			s.tell(&wire.Unbind{})
			asked = true
			var a wire.Assembler
			data, err := a.Add(first.Items[0])
			for data == nil && err == nil {
				switch m := s.next().(type) {
				case *wire.Commits:
					if len(m.Items) != 1 || m.Request != request {
						t.Fatalf("a part of request %d with %d items", m.Request, len(m.Items))
					}
					data, err = a.Add(m.Items[0])
				case *wire.Blobs, *wire.State, *wire.Unbound:
					others++
				default:
					t.Fatalf("it says %+v", m)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := commitlog.ParseBundle(data)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b)
			continue
		}
		more, n := s.commits(request, nil)
		got, frames = append(got, more...), frames+n
	}
	l.checkRead(got, 0, nil)
	if !asked || others != 3 || len(got) != 6 {
		t.Errorf("%d commits, %d other answers", len(got), others)
	}
	if m := s.next(); m != nil {
		t.Errorf("after all: %v", m.Type())
	}
}
