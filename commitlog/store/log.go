package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// ErrNotFound: the log holds no such commit or change.
var ErrNotFound = errors.New("not found")

// Log is one vault's log within a transaction. It is the [commitlog.State] that
// commits are checked against. What its methods return is valid within the
// transaction, unless they say that it is a copy.
type Log struct {
	vault     keys.VaultID
	authority keys.AuthorityKeys
	size      uint64
	control   keys.Tag

	head, commits, changes, live, retired, restates, sequences, leaves, authors, tree *Bucket

	past bool // it is the log below a base, and shares buckets with the one above

	known  map[keys.DeviceID]*commitlog.Author // read so far
	roots  [2]rootAt                           // computed last
	nextRt int
}

type rootAt struct {
	size  uint64
	root  commitlog.Hash
	valid bool
}

var _ commitlog.State = (*Log)(nil)

var be = binary.BigEndian

// present is the value of keys that say all themselves. It is not nil, which
// bbolt could not tell from absence.
var present = []byte{}

// CreateLog makes an empty log of the vault in the bucket of that name, which
// must not hold one. The authority's keys must be those of the vault.
func (tx *Tx) CreateLog(name string, vault keys.VaultID, authority keys.AuthorityKeys) (*Log, error) {
	if authority.VaultID() != vault {
		return nil, commitlog.ErrVaultIDMismatch
	}
	b, err := tx.CreateBucket(name)
	if err != nil {
		return nil, err
	}
	l := &Log{vault: vault, authority: authority}
	for _, p := range l.parts() {
		if *p.dst, err = b.CreateBucket(p.name); err != nil {
			return nil, err
		}
	}
	if l.head.Get([]byte("log")) != nil {
		return nil, fmt.Errorf("a log is here already")
	}
	l.prepare(tx, name)
	if err := l.SetEpoch(0, 1); err != nil {
		return nil, err
	}
	if err := l.SetAuthor(keys.DeviceID{}, &commitlog.Author{Sign: authority.Sign, Auth: authority.Auth}); err != nil {
		return nil, err
	}
	return l, l.writeHead()
}

// Log returns the log in the bucket of that name, [ErrNotFound] if there is none.
func (tx *Tx) Log(name string) (*Log, error) {
	if l := tx.logs[name]; l != nil {
		return l, nil
	}
	b := tx.Bucket(name)
	if b == nil {
		return nil, ErrNotFound
	}
	l := &Log{}
	for _, p := range l.parts() {
		*p.dst = b.Lazy(p.name).Shaped(p.shape)
	}
	if err := l.readHead(); err != nil {
		return nil, err
	}
	l.prepare(tx, name)
	return l, nil
}

// part is one of the buckets that a log is made of.
type part struct {
	name  string
	dst   **Bucket
	shape Shape
}

func (l *Log) parts() [10]part {
	return [...]part{
		{"head", &l.head, Shape{Any, Any}}, {"commits", &l.commits, Shape{8, commitlog.HeaderSize}},
		{"changes", &l.changes, Shape{10, Any}}, {"live", &l.live, Shape{26, 0}},
		{"retired", &l.retired, Shape{18, 8}}, {"restates", &l.restates, Shape{20, 0}},
		{"sequences", &l.sequences, Shape{24, 8}}, {"leaves", &l.leaves, Shape{48, 0}},
		{"authors", &l.authors, Shape{16, Any}}, {"tree", &l.tree, Shape{8, 32}},
	}
}

// prepare readies a log for use and keeps it for the transaction: what several
// calls of one transaction append, they append to the same Log.
func (l *Log) prepare(tx *Tx, name string) {
	for _, b := range []*Bucket{l.commits, l.changes, l.live, l.retired, l.tree} {
		b.Append()
	}
	l.known = make(map[keys.DeviceID]*commitlog.Author)
	if name == "" {
		return
	}
	if tx.logs == nil {
		tx.logs = make(map[string]*Log)
	}
	tx.logs[name] = l
}

func (l *Log) readHead() error {
	h := l.head.Get([]byte("log"))
	if len(h) != 104 {
		return fmt.Errorf("%w: log head of %d bytes", ErrDamaged, len(h))
	}
	copy(l.vault[:], h)
	copy(l.authority.Sign[:], h[16:])
	copy(l.authority.Auth[:], h[48:])
	l.size = be.Uint64(h[80:])
	copy(l.control[:], h[88:])
	return nil
}

func (l *Log) writeHead() error {
	h := make([]byte, 0, 104)
	h = append(h, l.vault[:]...)
	h = append(h, l.authority.Sign[:]...)
	h = append(h, l.authority.Auth[:]...)
	h = be.AppendUint64(h, l.size)
	h = append(h, l.control[:]...)
	return l.head.Put([]byte("log"), h)
}

// Keys of the buckets.

func commitKey(id commitlog.CommitID) []byte { return be.AppendUint64(make([]byte, 0, 8), uint64(id)) }

func appendChangeID(b []byte, id commitlog.ChangeID) []byte {
	b = be.AppendUint64(b, uint64(id.Commit))
	return be.AppendUint16(b, id.Index)
}

func parseChangeID(b []byte) commitlog.ChangeID {
	return commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(b)), Index: be.Uint16(b[8:])}
}

func changeKey(id commitlog.ChangeID) []byte { return appendChangeID(make([]byte, 0, 10), id) }

func liveKey(tag keys.Tag, id commitlog.ChangeID) []byte {
	return appendChangeID(append(make([]byte, 0, 26), tag[:]...), id)
}

func sequenceKey(id keys.DeviceID, seq uint64) []byte {
	return be.AppendUint64(append(make([]byte, 0, 24), id[:]...), seq)
}

func leafKey(id keys.DeviceID, leaf commitlog.Hash) []byte {
	return append(append(make([]byte, 0, 48), id[:]...), leaf[:]...)
}

// Vault returns the vault whose log this is.
func (l *Log) Vault() keys.VaultID { return l.vault }

// Authority returns the vault's authority keys.
func (l *Log) Authority() keys.AuthorityKeys { return l.authority }

// Size returns the number of commits.
func (l *Log) Size() uint64 { return l.size }

// ControlTag returns the tag of the control log, zero before commit 1.
func (l *Log) ControlTag() (keys.Tag, error) { return l.control, nil }

// NewestReset returns the newest commit with a reset statement, 0 for none.
func (l *Log) NewestReset() (commitlog.CommitID, error) {
	return newestReset(l.head.Get(keyResets)), nil
}

// Resets returns the number of reset statements in the first size commits.
func (l *Log) Resets(size uint64) uint64 { return countResets(l.head.Get(keyResets), size) }

// AddReset records a reset statement in the commit, which is the newest one.
func (l *Log) AddReset(id commitlog.CommitID) error {
	return l.head.Put(keyResets, be.AppendUint64(bytes.Clone(l.head.Get(keyResets)), uint64(id)))
}

var keyResets = []byte("resets")

func newestReset(b []byte) commitlog.CommitID {
	if len(b) < 8 {
		return 0
	}
	return commitlog.CommitID(be.Uint64(b[len(b)-8:]))
}

func countResets(b []byte, size uint64) (n uint64) {
	for ; len(b) >= 8 && be.Uint64(b) <= size; b = b[8:] {
		n++
	}
	return n
}

// ReadHash returns a stored hash of the tree.
func (l *Log) ReadHash(index int64) (h commitlog.Hash, err error) {
	v := l.tree.Get(be.AppendUint64(make([]byte, 0, 8), uint64(index)))
	if len(v) != len(h) {
		return h, fmt.Errorf("%w: tree hash %d", ErrDamaged, index)
	}
	return commitlog.Hash(v), nil
}

// RootAt returns the Merkle root of the first size commits; [ErrNotFound] for one
// below the base that was not proven.
func (l *Log) RootAt(size uint64) (commitlog.Hash, error) {
	if size > l.size {
		return commitlog.Hash{}, fmt.Errorf("root at %d of a log of %d: %w", size, l.size, ErrNotFound)
	}
	for _, r := range l.roots {
		if r.valid && r.size == size {
			return r.root, nil
		}
	}
	if size < l.Base() {
		return l.rootBelow(size)
	}
	root, err := commitlog.TreeRoot(l, size)
	if err != nil {
		return root, err
	}
	l.roots[l.nextRt] = rootAt{size, root, true}
	l.nextRt ^= 1
	return root, nil
}

// EpochAt returns the epoch in force after the first size commits.
func (l *Log) EpochAt(size uint64) (uint32, error) {
	var epoch uint32
	for b := l.head.Get([]byte("epochs")); len(b) >= 12; b = b[12:] {
		if be.Uint64(b) <= size {
			epoch = be.Uint32(b[8:])
		}
	}
	if epoch == 0 {
		return 0, fmt.Errorf("%w: no epoch at %d", ErrDamaged, size)
	}
	return epoch, nil
}

// SetEpoch records that the epoch is in force after the first from commits.
func (l *Log) SetEpoch(from uint64, epoch uint32) error {
	b := bytes.Clone(l.head.Get([]byte("epochs")))
	b = be.AppendUint64(b, from)
	return l.head.Put([]byte("epochs"), be.AppendUint32(b, epoch))
}

// Author returns what is known of a device, or of the authority (the zero id);
// nil if nothing is. It must not be changed, but by SetAuthor.
func (l *Log) Author(id keys.DeviceID) (*commitlog.Author, error) {
	if a, ok := l.known[id]; ok {
		return a, nil
	}
	v := l.authors.Get(id[:])
	if v == nil {
		return nil, nil
	}
	a, err := parseAuthor(v)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", id, err)
	}
	l.known[id] = a
	return a, nil
}

// SetAuthor stores what is known of a device.
func (l *Log) SetAuthor(id keys.DeviceID, a *commitlog.Author) error {
	l.known[id] = a
	return l.authors.Put(id[:], appendAuthor(nil, a))
}

// Authors calls fn for each author, in order of their ids, until it returns an
// error.
func (l *Log) Authors(fn func(id keys.DeviceID, a *commitlog.Author) error) error {
	return l.authors.Scan(nil, func(k, v []byte) (bool, error) {
		a, err := parseAuthor(v)
		if err != nil {
			return false, err
		}
		return true, fn(keys.DeviceID(k), a)
	})
}

// An author is stored as sign key 32 ‖ auth key 32 ‖ revoked u64 ‖ last seq u64 ‖
// last leaf 32 ‖ last seen u64 ‖ scoped u8 ‖ n × (tag 16 ‖ write u8).
func appendAuthor(b []byte, a *commitlog.Author) []byte {
	b = append(b, a.Sign[:]...)
	b = append(b, a.Auth[:]...)
	b = be.AppendUint64(b, uint64(a.Revoked))
	b = be.AppendUint64(b, a.LastSeq)
	b = append(b, a.LastLeaf[:]...)
	b = be.AppendUint64(b, a.LastSeen)
	if a.Scope == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	for _, s := range a.Scope {
		b = append(b, s.Tag[:]...)
		if s.Write {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func parseAuthor(b []byte) (*commitlog.Author, error) {
	const fixed = 121
	if len(b) < fixed || (len(b)-fixed)%17 != 0 {
		return nil, fmt.Errorf("%w: author of %d bytes", ErrDamaged, len(b))
	}
	a := &commitlog.Author{Revoked: commitlog.CommitID(be.Uint64(b[64:])), LastSeq: be.Uint64(b[72:]), LastSeen: be.Uint64(b[112:])}
	copy(a.Sign[:], b)
	copy(a.Auth[:], b[32:])
	copy(a.LastLeaf[:], b[80:])
	if b[120] == 1 {
		a.Scope = []keys.ScopeEntry{}
		for b = b[fixed:]; len(b) > 0; b = b[17:] {
			a.Scope = append(a.Scope, keys.ScopeEntry{Tag: keys.Tag(b[:16]), Write: b[16] == 1})
		}
	}
	return a, nil
}

// OwnCommit returns the commit with the author's sequence number, 0 for none.
func (l *Log) OwnCommit(id keys.DeviceID, seq uint64) (commitlog.CommitID, error) {
	v := l.sequences.Get(sequenceKey(id, seq))
	if v == nil {
		return 0, nil
	}
	if at := be.Uint64(v); at <= l.size || !l.past {
		return commitlog.CommitID(at), nil
	}
	return 0, nil
}

// OwnLeaf reports whether a commit of the author has the leaf.
func (l *Log) OwnLeaf(id keys.DeviceID, leaf commitlog.Hash) (bool, error) {
	return l.leaves.Get(leafKey(id, leaf)) != nil, nil
}

// Header returns the encoded header of a commit, [ErrNotFound] if the log does
// not reach that far.
func (l *Log) Header(id commitlog.CommitID) ([]byte, error) {
	v := l.commits.Get(commitKey(id))
	if v == nil {
		return nil, fmt.Errorf("commit %d: %w", id, ErrNotFound)
	}
	return v, nil
}

// Change reports what the log knows of a change, and whether it holds it.
func (l *Log) Change(id commitlog.ChangeID) (info commitlog.ChangeInfo, ok bool, err error) {
	v := l.changes.Get(changeKey(id))
	if v == nil || l.past && uint64(id.Commit) > l.size {
		return info, false, nil
	}
	header, err := l.Header(id.Commit)
	if err != nil {
		return info, false, err
	}
	info.Tag = keys.Tag(header[6:22])
	info.Op = commitlog.Op(v[0])
	info.Live = l.live.Get(liveKey(info.Tag, id)) != nil
	return info, true, nil
}

// ChangeFrom returns the first change at a place of the log or after it, false if
// there is none.
func (l *Log) ChangeFrom(at commitlog.ChangeID) (first commitlog.ChangeID, ok bool) {
	_ = l.changes.Scan(changeKey(at), func(k, _ []byte) (bool, error) {
		first, ok = parseChangeID(k), true
		return false, nil
	})
	return first, ok
}

// Live reports whether the change, of that namespace, is live.
func (l *Log) Live(tag keys.Tag, id commitlog.ChangeID) bool {
	return l.live.Get(liveKey(tag, id)) != nil
}

// Entry returns the decoded change and its blob, nil where that is absent.
func (l *Log) Entry(id commitlog.ChangeID) (commitlog.Change, []byte, error) {
	v, err := l.changes.Only(changeKey(id))
	if err != nil {
		return commitlog.Change{}, nil, err
	}
	if v == nil {
		return commitlog.Change{}, nil, fmt.Errorf("change %v: %w", id, ErrNotFound)
	}
	return splitChange(id, v)
}

func splitChange(id commitlog.ChangeID, v []byte) (commitlog.Change, []byte, error) {
	ch, blob, err := commitlog.ParseChange(v)
	if err != nil {
		return ch, nil, fmt.Errorf("%w: change %v: %v", ErrDamaged, id, err)
	}
	if len(blob) == 0 {
		return ch, nil, nil
	}
	if len(blob) != int(ch.BlobSize) {
		return ch, nil, fmt.Errorf("%w: change %v: blob of %d bytes", ErrDamaged, id, len(blob))
	}
	return ch, blob, nil
}

// SetBlob stores the blob of a change that came without it, or whose blob is not
// the one that the change names any more.
func (l *Log) SetBlob(id commitlog.ChangeID, blob []byte) error {
	ch, have, err := l.Entry(id)
	if err != nil || have != nil && commitlog.CheckBlob(&ch, have) == nil {
		return err
	}
	if err := commitlog.CheckBlob(&ch, blob); err != nil {
		return err
	}
	return l.changes.Put(changeKey(id), append(bytes.Clone(ch.Entry), blob...))
}

// Named returns the changes that a change names, by commit ID. Below the base
// those are left out whose commits are not here.
func (l *Log) Named(id commitlog.ChangeID) ([]commitlog.ChangeID, error) {
	ch, _, err := l.Entry(id)
	if err != nil {
		return nil, l.below(id.Commit, err)
	}
	header, err := l.Header(id.Commit)
	if err != nil {
		return nil, err
	}
	author := keys.DeviceID(header[22:38])
	out := make([]commitlog.ChangeID, 0, len(ch.Refs))
	for _, r := range ch.Refs {
		at := commitlog.CommitID(r.At)
		if r.Own {
			if at, err = l.OwnCommit(author, r.At); err != nil {
				return nil, err
			}
		}
		if at != 0 {
			out = append(out, commitlog.ChangeID{Commit: at, Index: r.Index})
		}
	}
	return out, nil
}

// Restates returns the live restates that name the change.
func (l *Log) Restates(named commitlog.ChangeID) (out []commitlog.ChangeID, err error) {
	err = l.restates.ScanPrefix(changeKey(named), nil, func(k, _ []byte) (bool, error) {
		id := parseChangeID(k[10:])
		info, _, err := l.Change(id)
		if info.Live {
			out = append(out, id)
		}
		return true, err
	})
	return out, err
}

// AnyRestate reports whether the namespace has a live restate. It looks at all
// there are.
func (l *Log) AnyRestate(tag keys.Tag) (any bool, err error) {
	err = l.restates.Scan(nil, func(k, _ []byte) (bool, error) {
		any = l.Live(tag, parseChangeID(k[10:]))
		return !any, nil
	})
	return any, err
}

// Append adds a commit that [commitlog.Check] has accepted against this log,
// with the effects it returned. blobs has one element a change; nil: absent.
// now is the time of the append in Unix ms. The blobs must not change until the
// transaction ends. Control statements are the caller's to apply (SetAuthor,
// SetEpoch, AddReset).
func (l *Log) Append(c *commitlog.Commit, blobs [][]byte, e *commitlog.Effects, now uint64) error {
	if e.ID != commitlog.CommitID(l.size+1) {
		panic("store: internal error: append of a commit checked for another place")
	}
	hashes, err := commitlog.GrowTree(l, l.size, e.Leaf)
	if err != nil {
		return err
	}
	at := commitlog.TreeIndex(l.size)
	for i, h := range hashes {
		if err := l.once(l.tree, be.AppendUint64(nil, uint64(at)+uint64(i)), bytes.Clone(h[:]), e.ID); err != nil {
			return err
		}
	}
	if err := l.once(l.commits, commitKey(e.ID), c.Raw, e.ID); err != nil {
		return err
	}
	stamp := be.AppendUint64(nil, now)
	for i := range c.Changes {
		ch := &c.Changes[i]
		id := commitlog.ChangeID{Commit: e.ID, Index: uint16(i)}
		if there, err := l.came(id, ch); err != nil {
			return err
		} else if !there {
			v := make([]byte, 0, len(ch.Entry)+len(blobs[i]))
			v = append(append(v, ch.Entry...), blobs[i]...)
			if err := l.changes.Put(changeKey(id), v); err != nil {
				return err
			}
		}
		if ch.Op == commitlog.OpDelete || ch.Op == commitlog.OpRestate && e.IsVoid(i) {
			err = l.retired.Put(appendChangeID(commitKey(e.ID), id), stamp)
		} else {
			err = l.live.Put(liveKey(c.Header.Tag, id), present)
		}
		if err != nil {
			return err
		}
		if ch.Op == commitlog.OpRestate && !e.IsVoid(i) {
			for _, n := range e.Named[i] {
				if err := l.restates.Put(appendChangeID(changeKey(n), id), present); err != nil {
					return err
				}
			}
		}
	}
	for _, gone := range e.Superseded {
		if err := l.live.Delete(liveKey(c.Header.Tag, gone)); err != nil {
			return err
		}
		if err := l.retired.Put(appendChangeID(commitKey(e.ID), gone), stamp); err != nil {
			return err
		}
	}
	if err := l.once(l.sequences, sequenceKey(c.Header.Device, c.Header.Seq), commitKey(e.ID), e.ID); err != nil {
		return err
	}
	if err := l.leaves.Put(leafKey(c.Header.Device, e.Leaf), present); err != nil {
		return err
	}
	author, err := l.Author(c.Header.Device)
	if err != nil {
		return err
	}
	grown := *author
	grown.LastSeq, grown.LastLeaf, grown.LastSeen = c.Header.Seq, e.Leaf, c.Header.SeenSize
	if err := l.SetAuthor(c.Header.Device, &grown); err != nil {
		return err
	}
	l.size++
	if e.ID == 1 {
		l.control = c.Header.Tag
	}
	return l.writeHead()
}

// once puts what can be only one thing, wherever it comes from. Below a base
// something may be there, which the checkpoint has vouched for.
func (l *Log) once(b *Bucket, key, value []byte, id commitlog.CommitID) error {
	if l.past {
		if there := b.Get(key); there != nil && !bytes.Equal(there, value) {
			return &commitlog.CommitError{ID: id, Err: commitlog.ErrFork, Reason: "the checkpoint that this device began with is of another history"}
		}
	}
	return b.Put(key, value)
}

// came reports whether a change is there already: below a base those are that the
// checkpoint has vouched for. Their commit's header, which names the whole list, says
// nothing of one entry, so it is compared.
func (l *Log) came(id commitlog.ChangeID, ch *commitlog.Change) (bool, error) {
	if !l.past {
		return false, nil
	}
	there := l.changes.Get(changeKey(id))
	if there != nil && !bytes.HasPrefix(there, ch.Entry) {
		return false, &commitlog.CommitError{ID: id.Commit, Err: commitlog.ErrCheckpoint, Reason: fmt.Sprintf("change %d is not the one that came with the checkpoint", id.Index)}
	}
	return there != nil, nil
}

// Commit returns a commit with its change list and the blobs that are here.
func (l *Log) Commit(id commitlog.CommitID) (*commitlog.Bundle, error) {
	header, err := l.Header(id)
	if err != nil {
		return nil, err
	}
	n := int(be.Uint16(header[118:]))
	blobs := make([][]byte, 0, n)
	list := make([]byte, 0, 40*n)
	err = l.changes.ScanPrefix(commitKey(id), nil, func(k, v []byte) (bool, error) {
		ch, blob, err := splitChange(parseChangeID(k), v)
		list = append(list, ch.Entry...)
		blobs = append(blobs, blob)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	c, err := commitlog.ParseCommit(header, list)
	if err != nil {
		return nil, fmt.Errorf("%w: commit %d: %v", ErrDamaged, id, err)
	}
	return &commitlog.Bundle{ID: id, Commit: c, Blobs: blobs}, nil
}

// Namespaces calls fn for each namespace with live changes, tags ascending,
// until it returns an error.
func (l *Log) Namespaces(fn func(tag keys.Tag) error) error {
	from := []byte{}
	for from != nil {
		var tag *keys.Tag
		err := l.live.Scan(from, func(k, _ []byte) (bool, error) {
			t := keys.Tag(k[:16])
			tag = &t
			return false, nil
		})
		if err != nil || tag == nil {
			return err
		}
		if err := fn(*tag); err != nil {
			return err
		}
		from = after(tag[:])
	}
	return nil
}

// EachLive calls fn for the live changes of a namespace in log order, until it
// returns an error.
func (l *Log) EachLive(tag keys.Tag, fn func(id commitlog.ChangeID) error) error {
	return l.live.ScanPrefix(tag[:], nil, func(k, _ []byte) (bool, error) {
		return true, fn(parseChangeID(k[16:]))
	})
}

// EachLiveAfter calls fn for the live changes that come after one of a namespace,
// those of the namespaces behind it too, tags ascending, until it returns false or an
// error.
func (l *Log) EachLiveAfter(tag keys.Tag, after commitlog.ChangeID, fn func(tag keys.Tag, id commitlog.ChangeID) (bool, error)) error {
	after.Index++ // below the 65536th: a commit has no more
	return l.live.Scan(liveKey(tag, after), func(k, _ []byte) (bool, error) {
		return fn(keys.Tag(k), parseChangeID(k[16:]))
	})
}

// StateHash returns count and hash of the live changes of a namespace.
func (l *Log) StateHash(tag keys.Tag) (*commitlog.StateHash, error) {
	s := commitlog.NewStateHash()
	add := l.hasher(s)
	return s, l.EachLive(tag, func(id commitlog.ChangeID) error {
		_, err := add(id)
		return err
	})
}

// Digest returns one hash over the live changes of all namespaces but the
// control log.
func (l *Log) Digest() (commitlog.Hash, error) {
	d := commitlog.NewDigest()
	err := l.Namespaces(func(tag keys.Tag) error {
		if tag == l.control {
			return nil
		}
		s, err := l.StateHash(tag)
		if err == nil {
			d.Add(tag, s)
		}
		return err
	})
	return d.Sum(), err
}
