package store_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

const logName = "log"

var (
	ctlTag = keys.Tag{0xc0}
	tagA   = keys.Tag{0xaa}
	tagB   = keys.Tag{0xbb}
	tagE   = keys.Tag{0xee} // without restates
)

// A history is a log with all that was ever true of it.
type history struct {
	t         *testing.T
	rng       *rand.Rand
	authority keys.Authority
	db        *store.DB
	signers   []*signer // the authority first
	made      map[keys.Tag][]madeChange

	// By size of the log, from 0.
	commits []*appended
	roots   []commitlog.Hash
	live    []map[keys.Tag][]commitlog.ChangeID
	comes   []*commitlog.Checkpoint
	digests []commitlog.Hash
}

// signer is a device, or the authority.
type signer struct {
	id      keys.DeviceID
	key     keys.SigningKey
	slow    int // of 10 times, how often it has seen nothing new
	seq     uint64
	prev    commitlog.Hash
	seen    uint64
	own     []ownCommit
	revoked bool
}

type ownCommit struct {
	id, seq uint64
	tag     keys.Tag
	ops     []commitlog.Op
}

// madeChange is a change that can be named.
type madeChange struct {
	id    commitlog.ChangeID
	op    commitlog.Op
	named []commitlog.ChangeID // by a restate
}

// appended is a commit in the log, with what the control log says at it.
type appended struct {
	c       *commitlog.Commit
	blobs   [][]byte
	effects *commitlog.Effects
	admits  []*signer
	revokes *signer
	epoch   uint32 // that begins after it; 0: none
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 42))
	key := func() keys.SigningKey {
		var b [32]byte
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return keys.NewSigningKey(b)
	}
	h := &history{
		t: t, rng: rng, authority: keys.Authority{Sign: key(), Auth: key()}, made: make(map[keys.Tag][]madeChange),
		commits: []*appended{nil}, roots: []commitlog.Hash{commitlog.EmptyRoot}, live: []map[keys.Tag][]commitlog.ChangeID{nil},
		comes: []*commitlog.Checkpoint{nil}, digests: []commitlog.Hash{{}},
	}
	h.db = h.newLog()
	h.signers = []*signer{{key: h.authority.Sign}}
	for i := range 4 {
		h.signers = append(h.signers, &signer{id: keys.DeviceID{byte(0x40 * (i + 1) % 251), byte(i)}, key: key(), slow: 3 * i})
	}
	h.append(h.control(), h.signers[1:4], nil, 0)
	return h
}

// newLog returns a store with an empty log of the vault.
func (h *history) newLog() *store.DB {
	h.t.Helper()
	db, err := store.Open(filepath.Join(h.t.TempDir(), "log.db"), store.Options{NoSync: true})
	fatal(h.t, err)
	h.t.Cleanup(func() { fatal(h.t, db.Close()) })
	h.update(db, func(l *store.Log, tx *store.Tx) error {
		public := h.authority.Public()
		_, err := tx.CreateLog(logName, public.VaultID(), public)
		return err
	})
	return db
}

// update runs fn on the log of a store, nil where it has none.
func (h *history) update(db *store.DB, fn func(l *store.Log, tx *store.Tx) error) {
	h.t.Helper()
	fatal(h.t, db.Update(func(tx *store.Tx) error {
		l, _ := tx.Log(logName)
		return fn(l, tx)
	}))
}

func (h *history) view(db *store.DB, fn func(l *store.Log) error) {
	h.t.Helper()
	fatal(h.t, db.View(func(tx *store.Tx) error {
		l, err := tx.Log(logName)
		if err != nil {
			return err
		}
		return fn(l)
	}))
}

func (h *history) size() uint64 { return uint64(len(h.commits) - 1) }

// build signs a commit of changes that have no blobs yet.
func (h *history) build(s *signer, kind commitlog.Kind, tag keys.Tag, seen uint64, changes ...commitlog.Change) *appended {
	h.t.Helper()
	a := &appended{}
	for i := range changes {
		n := commitlog.MinBlob + 16*h.rng.IntN(4)
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d", h.size(), i, h.rng.Uint64()))
		b := bytes.Repeat(sum[:], n/32+1)[:n]
		changes[i].BlobHash, changes[i].BlobSize = sha256.Sum256(b), uint32(n)
		a.blobs = append(a.blobs, b)
	}
	purpose := keys.PurposeCommit
	if kind == commitlog.KindControl {
		purpose = keys.PurposeControl
	}
	epoch := uint32(1)
	for id := uint64(1); id <= seen; id++ {
		epoch = max(epoch, h.commits[id].epoch)
	}
	c, err := commitlog.Build(commitlog.Header{
		Kind: kind, Epoch: epoch, Tag: tag, Device: s.id, Seq: s.seq + 1, PrevLeaf: s.prev, SeenSize: seen, SeenRoot: h.roots[seen],
	}, changes, func(m []byte) [64]byte { return s.key.Sign(purpose, h.authority.Public().VaultID(), m) })
	fatal(h.t, err)
	a.c = c
	return a
}

func (h *history) control() *appended {
	changes := make([]commitlog.Change, 1+h.rng.IntN(2))
	for i := range changes {
		changes[i].Op = commitlog.OpPut
	}
	return h.build(h.signers[0], commitlog.KindControl, ctlTag, h.size(), changes...)
}

// append appends a commit, and notes what is true then.
func (h *history) append(a *appended, admits []*signer, revokes *signer, epoch uint32) {
	h.t.Helper()
	a.admits, a.revokes, a.epoch = admits, revokes, epoch
	h.commits = append(h.commits, a)
	h.update(h.db, func(l *store.Log, _ *store.Tx) error {
		e, err := commitlog.Check(l, a.c)
		if err != nil {
			return err
		}
		a.effects = e
		return h.apply(l, h.size(), e)
	})
	id, head := h.size(), a.c.Header
	var s *signer
	for _, x := range h.signers {
		if x.id == head.Device {
			s = x
		}
	}
	s.seq, s.prev, s.seen = head.Seq, a.c.Leaf(), head.SeenSize
	own := ownCommit{id: id, seq: head.Seq, tag: head.Tag}
	for i := range a.c.Changes {
		ch := &a.c.Changes[i]
		own.ops = append(own.ops, ch.Op)
		if ch.Op != commitlog.OpDelete {
			m := madeChange{id: commitlog.ChangeID{Commit: commitlog.CommitID(id), Index: uint16(i)}, op: ch.Op}
			if ch.Op == commitlog.OpRestate {
				m.named = a.effects.Named[i]
			}
			h.made[head.Tag] = append(h.made[head.Tag], m)
		}
	}
	s.own = append(s.own, own)
	for _, d := range admits {
		d.seen = id // before that it could not know
	}
	if revokes != nil {
		revokes.revoked = true
	}
	h.view(h.db, func(l *store.Log) error {
		root, err := l.RootAt(id)
		fatal(h.t, err)
		comes, err := l.Comes(id)
		fatal(h.t, err)
		digest, err := l.Digest()
		fatal(h.t, err)
		h.roots, h.comes, h.digests = append(h.roots, root), append(h.comes, comes), append(h.digests, digest)
		h.live = append(h.live, liveNow(h.t, l))
		return nil
	})
}

// apply appends a commit of the history to a log that has those before it.
func (h *history) apply(l *store.Log, id uint64, e *commitlog.Effects) error {
	a := h.commits[id]
	if err := l.Append(a.c, a.blobs, e, id); err != nil {
		return err
	}
	return h.state(l, id)
}

// state applies what the control log says at a commit.
func (h *history) state(l *store.Log, id uint64) error {
	a := h.commits[id]
	for _, d := range a.admits {
		if err := l.SetAuthor(d.id, &commitlog.Author{Sign: d.key.Public()}); err != nil {
			return err
		}
	}
	if a.revokes != nil {
		known, err := l.Author(a.revokes.id)
		if err != nil {
			return err
		}
		gone := *known
		gone.Revoked = commitlog.CommitID(id)
		if err := l.SetAuthor(a.revokes.id, &gone); err != nil {
			return err
		}
	}
	if a.epoch != 0 {
		return l.SetEpoch(id, a.epoch)
	}
	return nil
}

// liveNow returns what is live in a log, by namespace.
func liveNow(t *testing.T, l *store.Log) map[keys.Tag][]commitlog.ChangeID {
	t.Helper()
	live := make(map[keys.Tag][]commitlog.ChangeID)
	fatal(t, l.Namespaces(func(tag keys.Tag) error {
		return l.EachLive(tag, func(id commitlog.ChangeID) error {
			live[tag] = append(live[tag], id)
			return nil
		})
	}))
	return live
}

// grow appends a random commit.
func (h *history) grow() {
	h.t.Helper()
	switch size := h.size(); {
	case size == 20:
		h.append(h.control(), h.signers[4:], nil, 0)
		return
	case size == 50:
		h.append(h.control(), nil, nil, 2)
		return
	case size == 110:
		h.append(h.control(), nil, h.signers[1], 0)
		return
	case h.rng.IntN(40) == 0:
		h.append(h.control(), nil, nil, 0)
		return
	}
	s := h.signers[1+h.rng.IntN(len(h.signers)-1)]
	if s.seen == 0 || s.revoked {
		s = h.signers[2]
	}
	tag := []keys.Tag{tagA, tagA, tagB, tagE}[h.rng.IntN(4)]
	seen, kind := h.size(), commitlog.KindData
	switch {
	case h.rng.IntN(10) < s.slow:
		seen = s.seen
	case h.rng.IntN(2) == 0:
		seen = s.seen + h.rng.Uint64N(h.size()-s.seen+1)
	case h.rng.IntN(8) == 0:
		kind = commitlog.KindSerialised
	}
	h.append(h.build(s, kind, tag, seen, h.changes(s, tag, seen)...), nil, nil, 0)
}

// changes returns random changes that one who has seen so much may sign.
func (h *history) changes(s *signer, tag keys.Tag, seen uint64) (out []commitlog.Change) {
	if tag != tagE && h.rng.IntN(3) == 0 {
		if out = h.against(tag, seen); out != nil {
			return out
		}
	}
	restates := tag != tagE && h.rng.IntN(2) == 0
	for range 1 + h.rng.IntN(3) {
		ch := commitlog.Change{Op: commitlog.OpPut}
		switch h.rng.IntN(4) {
		case 0:
			ch.Op = commitlog.OpDelete
			if restates {
				ch.Op = commitlog.OpRestate
			}
			ch.Refs = h.refs(s, tag, seen, ch.Op)
		case 1, 2:
			ch.Refs = h.refs(s, tag, seen, ch.Op)
		}
		if ch.Op != commitlog.OpPut && len(ch.Refs) == 0 {
			ch.Op = commitlog.OpPut
		}
		out = append(out, ch)
	}
	return out
}

// against returns changes that name all that some restate names, nil where there
// is none that they could name.
func (h *history) against(tag keys.Tag, seen uint64) []commitlog.Change {
	var all []madeChange
	for _, m := range h.made[tag] {
		if len(m.named) > 0 && !slices.ContainsFunc(m.named, func(n commitlog.ChangeID) bool { return uint64(n.Commit) > seen }) {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil
	}
	m := all[max(0, len(all)-1-h.rng.IntN(4))]
	var refs []commitlog.Ref
	for _, n := range m.named {
		refs = append(refs, commitlog.Ref{At: uint64(n.Commit), Index: n.Index})
	}
	cut := h.rng.IntN(len(refs))
	op := commitlog.OpDelete
	if h.rng.IntN(2) == 0 {
		op = commitlog.OpPut
	}
	out := []commitlog.Change{{Op: commitlog.OpPut, Refs: refs[cut:]}}
	if cut > 0 {
		out = append(out, commitlog.Change{Op: op, Refs: refs[:cut]})
	}
	return out
}

// refs returns what a change names.
func (h *history) refs(s *signer, tag keys.Tag, seen uint64, op commitlog.Op) (refs []commitlog.Ref) {
	var known []madeChange
	live := h.live[h.size()][tag]
	for _, m := range h.made[tag] {
		_, isLive := slices.BinarySearchFunc(live, m.id, commitlog.ChangeID.Compare)
		if uint64(m.id.Commit) <= seen && (isLive || op != commitlog.OpRestate || h.rng.IntN(10) == 0) {
			known = append(known, m)
		}
	}
	add := func(r commitlog.Ref) {
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	for range 1 + h.rng.IntN(3) {
		if len(known) > 0 {
			id := known[max(0, len(known)-1-h.rng.IntN(12))].id
			add(commitlog.Ref{At: uint64(id.Commit), Index: id.Index})
		}
	}
	if op != commitlog.OpRestate && h.rng.IntN(2) == 0 {
		for _, o := range s.own {
			if i := h.rng.IntN(len(o.ops)); o.id > seen && o.tag == tag && o.ops[i] != commitlog.OpDelete && h.rng.IntN(2) == 0 {
				add(commitlog.Ref{Own: true, At: o.seq, Index: uint16(i)})
			}
		}
	}
	slices.SortFunc(refs, commitlog.Ref.Compare)
	return refs
}
