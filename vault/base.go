package vault

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A new device begins with a checkpoint, its base: it takes what is live there,
// follows the log from there on, and the log below comes later, see past.go
// (SPEC.md, "Starting from a checkpoint"). What is half here is nothing: until the
// last live change has come the log is empty, and nobody reads or writes records
// before this device is admitted.

// ErrNoBase: the checkpoint that the secondary has is of no use to begin with. The
// whole log is, see SyncOptions.Whole.
var ErrNoBase = errors.New("no checkpoint can be begun with")

// baseSession is the part of a session that begins with a checkpoint.
type baseSession struct {
	request    uint32 // under way; 0: none
	checkpoint *commitlog.Checkpoint
	place      basePlace
	control    []*commitlog.Excerpt // of a control commit that has not come whole
	held       []*commitlog.Excerpt // to be stored with those that follow
	holds      int                  // changes of these
	holdsBytes int                  // … and bytes of what came
	done       bool                 // the last has come

	waiting int        // changes that are stored and not indexed
	items   []baseItem // of these, which are stored next
	indexed []byte     // … and how far all are in the index then
	room    []baseItem // their memory
}

// baseBatch is how many live changes go into the log in one transaction. A variable
// for the sake of tests.
var baseBatch = 2048

const baseBatchBytes = 16 << 20 // … or bytes

// basePlace is how far the live changes of a base have come. It is kept under the
// key "base place" as
//
//	tag 16 ‖ commit ID u64 ‖ index u16 ‖ namespaces done u32 ‖ state hash so far
//
// with zeros for the beginning.
type basePlace struct {
	tag  keys.Tag
	id   commitlog.ChangeID
	done int // of the checkpoint's namespaces, the control log left out
	sum  *commitlog.StateHash
}

func (p *basePlace) encode() ([]byte, error) {
	b := append(make([]byte, 0, 160), p.tag[:]...)
	b = append(b, changeKey(p.id)...)
	b = be.AppendUint32(b, uint32(p.done))
	return p.sum.AppendBinary(b)
}

func parseBasePlace(b []byte) (p basePlace, err error) {
	if len(b) < 30 {
		return p, fmt.Errorf("%w: place in the base", ErrDamaged)
	}
	p = basePlace{tag: keys.Tag(b), id: parseChangeKey(b[16:]), done: int(be.Uint32(b[26:])), sum: commitlog.NewStateHash()}
	if err := p.sum.UnmarshalBinary(b[30:]); err != nil {
		return p, fmt.Errorf("%w: place in the base: %v", ErrDamaged, err)
	}
	return p, nil
}

// base returns the checkpoint that the log began with or begins with, nil if
// there is none.
func (s *state) base() (*commitlog.Checkpoint, error) {
	raw := s.meta.Get(metaBase)
	if raw == nil {
		return nil, nil
	}
	c, err := commitlog.ParseCheckpoint(slices.Clone(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return c, nil
}

// beginBase readies the session to begin with a checkpoint, or to go on with that,
// if the vault is to.
func (e *engine) beginBase() error {
	return e.v.view(func(s *state) error {
		c, err := s.base()
		if err != nil || s.log.Size() > 0 || e.owner == nil || c == nil && (e.owner.whole || !s.outbox.Empty()) {
			return err // what was written here before keeps to the way that has no way back
		}
		if e.owner.whole {
			return fmt.Errorf("%w: this device has begun with one, and is to have the whole log", ErrNoBase)
		}
		e.base = &baseSession{checkpoint: c, place: basePlace{sum: commitlog.NewStateHash()}}
		if b := s.meta.Get(metaBasePlace); b != nil {
			e.base.place, err = parseBasePlace(b)
			e.base.waiting = baseIndexed // or fewer
		}
		return err
	})
}

// askBase asks for the checkpoint, and then for what is live there.
func (e *engine) askBase() (out []wire.Message, err error) {
	b := e.base
	if b.request != 0 {
		return nil, nil
	}
	e.request++
	b.request = e.request
	if b.checkpoint == nil {
		return []wire.Message{&wire.Checkpoint{Request: b.request}}, nil
	}
	live, size := b.checkpoint.Live()
	e.announced, e.left = b.checkpoint.Size, size
	e.v.conf.Logger.Info("beginning with a checkpoint", "size", b.checkpoint.Size, "live", live)
	m := &wire.Snapshot{Request: b.request, Size: b.checkpoint.Size, Tag: b.place.tag, Commit: b.place.id.Commit, Index: b.place.id.Index}
	return []wire.Message{m}, e.v.view(func(s *state) error {
		k, err := s.keeping()
		if err == nil {
			m.Tags = k.bindTags()
		}
		return err
	})
}

// onBase takes the checkpoint to begin with.
func (e *engine) onBase(m *wire.Checkpoint) error {
	b := e.base
	if b.checkpoint != nil || m.Request != b.request {
		return fmt.Errorf("%w: CHECKPOINT that was not asked for", wire.ErrProtocol)
	}
	b.request = 0
	if len(m.Data) == 0 {
		e.base = nil // there is none: the whole log comes
		return nil
	}
	c, err := commitlog.ParseCheckpoint(m.Data)
	if err == nil && c.Vault != e.v.keys.vault {
		err = commitlog.ErrVaultIDMismatch
	}
	if err == nil && (c.Size != m.Size || c.Device != m.Device) {
		err = commitlog.ErrCheckpoint
	}
	if err != nil {
		return &commitlog.CommitError{Err: err, Reason: "the checkpoint that the secondary serves"}
	}
	return e.v.update(func(s *state) error {
		if !s.outbox.Empty() { // by now: see beginBase
			e.base = nil
			return nil
		}
		b.checkpoint = c
		return s.meta.Put(metaBase, c.Raw)
	})
}

// beginning reports whether the log begins at a checkpoint, and this device is not
// admitted yet. Until it is, nothing is read or written: what has come may not be
// whole or true, and goes again where it is not.
func (s *state) beginning() (bool, error) {
	if s.meta.Get(metaBase) == nil {
		return false, nil
	}
	a, err := s.log.Author(s.v.keys.device)
	return a == nil, err
}

// begun returns [ErrIncomplete] while the vault is beginning.
func (s *state) begun() error {
	is, err := s.beginning()
	if err == nil && is {
		err = ErrIncomplete
	}
	return err
}

// onState takes live changes of the base.
func (e *engine) onState(m *parsedState) error {
	b := e.base
	if b == nil || b.checkpoint == nil || m.Request != b.request || b.done {
		return fmt.Errorf("%w: STATE that was not asked for", wire.ErrProtocol)
	}
	in := m.excerpts
	if m.err != nil {
		return &commitlog.CommitError{ID: commitlog.CommitID(b.checkpoint.Size), Err: m.err}
	}
	for i, x := range in {
		b.holds += len(x.Changes)
		b.holdsBytes += len(m.Items[i].Data)
	}
	if b.held = append(b.held, in...); !m.Done && !b.full() {
		return nil
	}
	in, b.held, b.holds, b.holdsBytes = b.held, nil, 0, 0
	before, err := b.place.encode()
	if err != nil {
		return err
	}
	var control []*commitlog.Excerpt
	err = e.v.update(func(s *state) error {
		place, err := parseBasePlace(before) // of its own in each run
		if err != nil {
			return err
		}
		t := &baseTaker{s: s, c: b.checkpoint, place: &place, control: b.control}
		for _, x := range in {
			if err := t.take(x); err != nil {
				return err
			}
		}
		control = t.control
		at, err := place.encode()
		if err != nil {
			return err
		}
		b.place = place
		if m.Done {
			if err := t.next(keys.Tag{}); err != nil {
				return err
			}
		}
		return s.meta.Put(metaBasePlace, at)
	})
	if err != nil {
		return err
	}
	b.control = control
	for _, x := range in {
		b.waiting += len(x.Changes)
		for i := range x.Changes {
			n := uint64(len(x.Changes[i].Blob))
			e.pulledBytes += n
			e.left -= min(e.left, uint64(x.Changes[i].Change.BlobSize))
		}
	}
	b.done = m.Done
	return nil
}

// full reports whether what is held is to be stored. A control commit is stored as
// a whole, so that none is half here after an interruption.
func (b *baseSession) full() bool {
	if n := len(b.held); n > 0 && b.held[n-1].Header.Kind == commitlog.KindControl && b.holdsBytes < 2*commitlog.MaxCommitBytes {
		return false
	}
	return b.holds >= baseBatch || b.holdsBytes >= baseBatchBytes
}

// baseTaker takes the live changes of one STATE.
type baseTaker struct {
	s       *state
	c       *commitlog.Checkpoint
	place   *basePlace
	control []*commitlog.Excerpt
	want    *commitlog.NamespaceState // what the checkpoint says of the namespace at place; nil: not looked up
	last    keys.DeviceID             // whose commit was admitted last …
	lastTag keys.Tag                  // … where
	lastSeq uint64                    // … and its last sequence number in the checkpoint
	leaf    commitlog.Hash
	leafOf  commitlog.CommitID
}

func (t *baseTaker) refuse(id commitlog.CommitID, reason string, args ...any) error {
	return &commitlog.CommitError{ID: id, Err: commitlog.ErrCheckpoint, Reason: fmt.Sprintf(reason, args...)}
}

// take takes one excerpt.
func (t *baseTaker) take(x *commitlog.Excerpt) error {
	s, h := t.s, &x.Header
	control := h.Tag == s.v.keys.control
	switch {
	case uint64(x.ID) > t.c.Size:
		return t.refuse(x.ID, "beyond its size")
	case control != (h.Kind == commitlog.KindControl):
		return t.refuse(x.ID, "control commits, and only they, belong to the control log")
	case h.SeenSize >= uint64(x.ID), h.Kind == commitlog.KindSerialised && h.SeenSize+1 != uint64(x.ID):
		return t.refuse(x.ID, "seen size %d", h.SeenSize)
	}
	if h.Tag != t.place.tag {
		if err := t.next(h.Tag); err != nil {
			return err
		}
	}
	if !control {
		if err := t.admit(x); err != nil {
			return err
		}
	}
	if x.ID != t.leafOf {
		t.leafOf, t.leaf = x.ID, commitlog.LeafHash(x.Raw)
	}
	for i := range x.Changes {
		id := commitlog.ChangeID{Commit: x.ID, Index: x.Changes[i].Index}
		if id.Compare(t.place.id) <= 0 {
			return t.refuse(x.ID, "its changes are out of order")
		}
		t.place.sum.Add(id, t.leaf, x.Changes[i].Change.Entry)
		t.place.id = id
	}
	// More than it names is not stored first and counted later.
	if err := t.names(); err != nil {
		return err
	}
	if t.place.sum.Count > t.want.Count || t.place.sum.Bytes > t.want.Bytes {
		return t.refuse(x.ID, "more live changes in namespace %s than the %d that it names", h.Tag, t.want.Count)
	}
	if control {
		return t.statements(x)
	}
	keeping, err := s.keeping()
	if err != nil {
		return err
	}
	if !keeping.has(h.Tag) {
		for i := range x.Changes {
			x.Changes[i].Blob = nil
		}
	}
	return s.log.PutExcerpt(x)
}

// admit checks the author of an excerpt.
func (t *baseTaker) admit(x *commitlog.Excerpt) error {
	if t.last != x.Header.Device || t.lastTag != x.Header.Tag {
		author, err := t.s.log.Author(x.Header.Device)
		if err != nil {
			return err
		}
		end, ok := t.c.Author(x.Header.Device)
		if author == nil || !ok {
			return t.refuse(x.ID, "device %s has no commits", x.Header.Device)
		}
		if !author.MayWrite(x.Header.Tag) {
			return t.refuse(x.ID, "device %s may not write there", x.Header.Device)
		}
		t.last, t.lastTag, t.lastSeq = x.Header.Device, x.Header.Tag, end.Seq
	}
	if x.Header.Seq > t.lastSeq {
		return t.refuse(x.ID, "sequence number %d after %d", x.Header.Seq, t.lastSeq)
	}
	return nil
}

// next ends a namespace and begins the one that follows; zeros end the last.
func (t *baseTaker) next(tag keys.Tag) error {
	s, p := t.s, t.place
	fail := func(reason string, args ...any) error {
		return t.refuse(commitlog.CommitID(t.c.Size), reason, args...)
	}
	ctl := s.v.keys.control
	if p.tag == (keys.Tag{}) {
		if tag != ctl {
			return &commitlog.CommitError{Err: commitlog.ErrNoGenesis, Reason: "the control log does not come first"}
		}
	} else {
		if err := t.names(); err != nil {
			return err
		}
		if n := t.want; n.Count != p.sum.Count || n.Bytes != p.sum.Bytes || n.Hash != p.sum.Sum() {
			return fail("%d live changes came in namespace %s, and not the %d that it names", p.sum.Count, p.tag, n.Count)
		}
		if p.tag == ctl {
			if err := t.signed(); err != nil {
				return err
			}
		} else {
			p.done++
		}
	}
	if tag == (keys.Tag{}) {
		if others := len(t.c.Namespaces) - 1; p.done != others {
			return fail("%d namespaces came and not %d", p.done, others)
		}
		return nil
	}
	if tag == ctl && p.tag != (keys.Tag{}) || tag != ctl && p.tag != ctl && slices.Compare(tag[:], p.tag[:]) <= 0 {
		return fail("namespaces are out of order")
	}
	p.tag, p.id, p.sum, t.want = tag, commitlog.ChangeID{}, commitlog.NewStateHash(), nil
	return nil
}

// names looks up what the checkpoint says of the namespace at the place.
func (t *baseTaker) names() error {
	if t.want != nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(t.c.Namespaces, t.place.tag, func(n commitlog.NamespaceState, tag keys.Tag) int {
		return bytes.Compare(n.Tag[:], tag[:])
	})
	if !found {
		return t.refuse(commitlog.CommitID(t.c.Size), "namespace %s is not in it", t.place.tag)
	}
	t.want = &t.c.Namespaces[i]
	return nil
}

// statements takes an excerpt of a control commit, and what it states with the last.
func (t *baseTaker) statements(x *commitlog.Excerpt) error {
	s := t.s
	if len(t.control) > 0 && t.control[0].ID != x.ID {
		return t.refuse(x.ID, "a control commit has not come whole")
	}
	t.control = append(slices.Clip(t.control), x)
	have := 0
	for _, part := range t.control {
		have += len(part.Changes)
	}
	if have < int(x.Header.Changes) {
		return nil
	}
	b := &commitlog.Bundle{ID: x.ID}
	var list []byte
	for _, part := range t.control {
		for i := range part.Changes {
			list = append(list, part.Changes[i].Change.Entry...)
			b.Blobs = append(b.Blobs, part.Changes[i].Blob)
		}
	}
	var err error
	if b.Commit, err = commitlog.ParseCommit(x.Raw, list); err != nil {
		return &commitlog.CommitError{ID: x.ID, Err: err}
	}
	after, err := s.lastControl(x.ID)
	if err != nil {
		return err
	}
	if err := commitlog.CheckBaseControl(s.log, after, x.ID, b.Commit); err != nil {
		return err
	}
	if err := s.control(s.log, metaControl, b); err != nil {
		return err
	}
	for _, part := range t.control {
		if err := s.log.PutExcerpt(part); err != nil {
			return err
		}
	}
	authority, err := s.log.Author(keys.DeviceID{})
	if err != nil {
		return err
	}
	grown := *authority
	grown.LastSeq, grown.LastLeaf, grown.LastSeen = x.Header.Seq, t.leaf, x.Header.SeenSize
	t.control = nil
	return s.log.SetAuthor(keys.DeviceID{}, &grown)
}

// lastControl returns the newest control commit that is here, up to one, 0 for none.
func (s *state) lastControl(upTo commitlog.CommitID) (id commitlog.CommitID, err error) {
	err = s.log.EachLive(s.v.keys.control, func(c commitlog.ChangeID) error {
		if c.Commit <= upTo {
			id = c.Commit
		}
		return nil
	})
	return id, err
}

// signed checks the checkpoint itself, once the control log is here.
func (t *baseTaker) signed() error {
	refuse := func(err error, reason string) error {
		return &commitlog.CommitError{ID: commitlog.CommitID(t.c.Size), Err: err, Reason: reason}
	}
	author, err := t.s.log.Author(t.c.Device)
	if err != nil {
		return err
	}
	switch authority, _ := t.s.log.Author(keys.DeviceID{}); {
	case len(t.control) > 0:
		return refuse(commitlog.ErrCheckpoint, "a control commit has not come whole")
	case author == nil:
		return refuse(commitlog.ErrUnknownSigner, "the checkpoint is signed by a device that is not in the control log")
	case !t.c.Verify(author.Sign):
		return refuse(commitlog.ErrSignature, "of the checkpoint")
	case author.Revoked != 0 || author.Scope != nil:
		return fmt.Errorf("%w: it was signed by a device that is revoked, or does not have all", ErrNoBase)
	case t.c.Control != t.s.controlHead(), t.c.Resets != t.s.log.Resets(t.c.Size), authority == nil,
		t.c.Authors[0] != commitlog.AuthorEnd{Seq: authority.LastSeq, Leaf: authority.LastLeaf, Seen: authority.LastSeen}:
		return refuse(commitlog.ErrCheckpoint, "the control log is another")
	}
	return nil
}

// useless returns ErrNoBase if the author of the base was revoked since.
func (s *state) useless() error {
	if s.log.Base() == 0 {
		return nil
	}
	c, err := s.base()
	if err != nil || c == nil {
		return err
	}
	author, err := s.log.Author(c.Device)
	if err == nil && (author == nil || author.Revoked != 0) {
		err = fmt.Errorf("%w: it was signed by a device that was revoked since", ErrNoBase)
	}
	return err
}
