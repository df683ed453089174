package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *embedded.Engine { return openAt(t, t.TempDir()) }

func openAt(t testing.TB, dir string) *embedded.Engine {
	t.Helper()
	e, err := embedded.Open(dir, embedded.Options{NoSync: true})
	fatal(t, err)
	t.Cleanup(func() { e.Close() })
	return e
}

// export returns the archive of a vault.
func export(t testing.TB, e *embedded.Engine, vault keys.VaultID) ([]byte, engine.Exported) {
	t.Helper()
	var b bytes.Buffer
	done, err := e.Export(t.Context(), vault, archive.NewWriter(&b))
	fatal(t, err)
	return b.Bytes(), done
}

// takeIn imports an archive.
func takeIn(ctx context.Context, e *embedded.Engine, data []byte) error {
	in := e.Import(engine.ImportOptions{})
	if err := archive.Read(ctx, bytes.NewReader(data), in); err != nil {
		in.Close(ctx)
		return err
	}
	return in.Close(ctx)
}

// seeded is a vault that is the same each time: all of it follows from numbers.
type seeded struct {
	t         testing.TB
	dir       string
	e         *embedded.Engine
	authority keys.Authority
	id        keys.VaultID
	control   keys.Tag
	now       time.Time
	filled    byte // of the blob before
	size      uint64
	tree      []commitlog.Hash
	last      map[keys.DeviceID]commitlog.Header
	leaf      map[keys.DeviceID]commitlog.Hash
}

func key(b byte) keys.SigningKey { return keys.NewSigningKey([32]byte{b}) }

func (s *seeded) ReadHash(i int64) (commitlog.Hash, error) { return s.tree[i], nil }

// content returns n bytes.
func (s *seeded) content(n int) []byte {
	s.filled++
	return bytes.Repeat([]byte{s.filled}, n)
}

func (s *seeded) put(refs ...commitlog.Ref) (commitlog.Change, []byte) {
	b := s.content(commitlog.MinBlob)
	return commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(b), BlobSize: uint32(len(b)), Refs: refs}, b
}

// commit appends a commit of the device, or of the authority.
func (s *seeded) commit(tag keys.Tag, device keys.DeviceID, sign keys.SigningKey, control *wire.Control, changes []commitlog.Change, blobs [][]byte) {
	s.t.Helper()
	h := commitlog.Header{Kind: commitlog.KindData, Epoch: 1, Tag: tag, Device: device, Seq: s.last[device].Seq + 1, PrevLeaf: s.leaf[device], SeenSize: s.size}
	purpose := keys.PurposeCommit
	if control != nil {
		h.Kind, purpose = commitlog.KindControl, keys.PurposeControl
	}
	var err error
	h.SeenRoot, err = commitlog.TreeRoot(s, s.size)
	fatal(s.t, err)
	c, err := commitlog.Build(h, changes, func(m []byte) [64]byte { return sign.Sign(purpose, s.id, m) })
	fatal(s.t, err)
	out, _, err := s.e.Append(s.t.Context(), engine.AppendRequest{Vault: s.id, Bundles: []*commitlog.Bundle{{Commit: c, Blobs: blobs}}, Control: control, Now: s.now})
	fatal(s.t, err)
	fatal(s.t, out[0].Err)
	grown, err := commitlog.GrowTree(s, s.size, c.Leaf())
	fatal(s.t, err)
	s.tree, s.size = append(s.tree, grown...), s.size+1
	s.last[device], s.leaf[device] = h, c.Leaf()
	s.now = s.now.Add(time.Hour)
}

// newSeeded makes a vault with two devices, of which one has a scope and is revoked; an
// object; a change that was superseded and compacted; a checkpoint; and a quota.
func newSeeded(t testing.TB) *seeded {
	t.Helper()
	ctx := t.Context()
	s := &seeded{
		t: t, dir: t.TempDir(), now: time.UnixMilli(1795280000000), control: keys.Tag{0xcc}, filled: 0x40,
		authority: keys.Authority{Sign: key(1), Auth: key(2)}, last: make(map[keys.DeviceID]commitlog.Header), leaf: make(map[keys.DeviceID]commitlog.Hash),
	}
	s.e = openAt(t, s.dir)
	s.id = s.authority.Public().VaultID()
	fatal(t, s.e.Invite(ctx, wire.Token{1}, 1, s.now.Add(time.Hour), &engine.Quota{Bytes: 1 << 30, Devices: 4}))
	fatal(t, s.e.Create(ctx, wire.Token{1}, s.authority.Public(), s.now))
	register := func(b byte, tags []keys.Tag) wire.Registration {
		r := wire.Registration{Sign: key(b).Public(), Auth: key(b + 1).Public(), KEMHash: [32]byte{b}, Tags: tags}
		r.Device = r.ID()
		return r
	}
	laptop, phone := register(3, nil), register(5, []keys.Tag{{1}, {2}})
	ch, blob := s.put()
	s.commit(s.control, keys.DeviceID{}, key(1), &wire.Control{Epoch: 1, Devices: []wire.Registration{laptop, phone}}, []commitlog.Change{ch}, [][]byte{blob})

	object := s.content(commitlog.MinBlob)
	first, firstBlob := s.put()
	long, longBlob := s.put()
	long.ObjectHash, long.ObjectSize = sha256.Sum256(object), uint64(len(object))
	_, err := s.e.WriteObject(ctx, s.id, long.ObjectHash, long.ObjectSize, 0, object)
	fatal(t, err)
	s.commit(keys.Tag{1}, laptop.Device, key(3), nil, []commitlog.Change{first, long}, [][]byte{firstBlob, longBlob})
	ch, blob = s.put(commitlog.Ref{At: 2})
	s.commit(keys.Tag{1}, phone.Device, key(5), nil, []commitlog.Change{ch}, [][]byte{blob})
	if done, err := s.e.Compact(ctx, s.now); err != nil || done.Blobs != 1 {
		t.Fatalf("compacted: %+v, %v", done, err)
	}
	phone.Revoked = true
	ch, blob = s.put()
	s.commit(s.control, keys.DeviceID{}, key(1), &wire.Control{Epoch: 1, Devices: []wire.Registration{phone}}, []commitlog.Change{ch}, [][]byte{blob})
	s.checkpoint(laptop.Device)
	return s
}

// checkpoint posts one at the log's end.
func (s *seeded) checkpoint(device keys.DeviceID) {
	s.t.Helper()
	c := &commitlog.Checkpoint{Vault: s.id, Device: device, Size: s.size, Time: 7, Control: commitlog.ControlHead{Number: 2}}
	for _, i := range commitlog.Peaks(s.size) {
		c.Peaks = append(c.Peaks, s.tree[i])
	}
	states := make(map[keys.Tag]*commitlog.StateHash)
	r, err := s.e.OpenState(s.t.Context(), s.id, s.size)
	fatal(s.t, err)
	fatal(s.t, r.Next(s.t.Context(), engine.Place{}, func(l *engine.LiveChange) (bool, error) {
		if states[l.Place.Tag] == nil {
			states[l.Place.Tag] = commitlog.NewStateHash()
		}
		states[l.Place.Tag].Add(l.Place.ID, commitlog.LeafHash(l.Header), l.Entry)
		return true, nil
	}))
	for _, tag := range []keys.Tag{{1}, s.control} {
		x := states[tag]
		c.Namespaces = append(c.Namespaces, commitlog.NamespaceState{Tag: tag, Count: x.Count, Bytes: x.Bytes, Hash: x.Sum()})
	}
	ids := []keys.DeviceID{{}}
	for id := range s.last {
		if !id.IsZero() {
			ids = append(ids, id)
		}
	}
	if len(ids) == 3 && string(ids[1][:]) > string(ids[2][:]) {
		ids[1], ids[2] = ids[2], ids[1]
	}
	for _, id := range ids {
		h := s.last[id]
		c.Authors = append(c.Authors, commitlog.AuthorEnd{Device: id, Seq: h.Seq, Leaf: s.leaf[id], Seen: h.SeenSize})
	}
	fatal(s.t, c.Sign(func(m []byte) [64]byte { return key(3).Sign(keys.PurposeCheckpoint, s.id, m) }))
	fatal(s.t, s.e.PutCheckpoint(s.t.Context(), c))
}
