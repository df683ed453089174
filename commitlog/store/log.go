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

	all *Bucket // what is said once and for all: commits, changes, tree, sequence numbers
	own *Bucket // head, authors, what is live; another one than all only below a base

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
	if !b.Empty() {
		return nil, fmt.Errorf("a log is here already")
	}
	l := &Log{vault: vault, authority: authority}
	l.prepare(tx, name, b)
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
	l.prepare(tx, name, b)
	if err := l.readHead(); err != nil {
		delete(tx.logs, name)
		return nil, err
	}
	return l, nil
}

// prepare readies a log in its bucket for use and keeps it for the transaction: what
// several calls of one transaction append, they append to the same Log.
func (l *Log) prepare(tx *Tx, name string, b *Bucket) {
	b.name = name
	l.all, l.own = b, b
	l.ready(b)
	if tx.logs == nil {
		tx.logs = make(map[string]*Log)
	}
	tx.logs[name] = l
}

// ready readies a bucket. What comes in most, comes in order.
func (l *Log) ready(b *Bucket) {
	b.Append().shapedBy(logShape)
	l.known = make(map[keys.DeviceID]*commitlog.Author)
}

func (l *Log) readHead() error {
	h := l.own.Get(headKey(""))
	if len(h) != sizeHead {
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
	h := make([]byte, 0, sizeHead)
	h = append(h, l.vault[:]...)
	h = append(h, l.authority.Sign[:]...)
	h = append(h, l.authority.Auth[:]...)
	h = be.AppendUint64(h, l.size)
	h = append(h, l.control[:]...)
	return l.own.Put(headKey(""), h)
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
	return newestReset(l.own.Get(keyResets)), nil
}

// Resets returns the number of reset statements in the first size commits.
func (l *Log) Resets(size uint64) uint64 { return countResets(l.own.Get(keyResets), size) }

// AddReset records a reset statement in the commit, which is the newest one.
func (l *Log) AddReset(id commitlog.CommitID) error {
	return l.own.Put(keyResets, be.AppendUint64(bytes.Clone(l.own.Get(keyResets)), uint64(id)))
}

var (
	keyResets = headKey("resets")
	keyEpochs = headKey("epochs")
)

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
	v := l.all.Get(hashKey(index))
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
	for b := l.own.Get(keyEpochs); len(b) >= 12; b = b[12:] {
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
	b := bytes.Clone(l.own.Get(keyEpochs))
	b = be.AppendUint64(b, from)
	return l.own.Put(keyEpochs, be.AppendUint32(b, epoch))
}

// Header returns the encoded header of a commit, [ErrNotFound] if the log does
// not reach that far.
func (l *Log) Header(id commitlog.CommitID) ([]byte, error) {
	v := l.all.Get(headerKey(id))
	if v == nil {
		return nil, fmt.Errorf("commit %d: %w", id, ErrNotFound)
	}
	return v, nil
}

// Change reports what the log knows of a change, and whether it holds it.
func (l *Log) Change(id commitlog.ChangeID) (info commitlog.ChangeInfo, ok bool, err error) {
	v := l.all.Get(changeKey(id))
	if v == nil || l.past && uint64(id.Commit) > l.size {
		return info, false, nil
	}
	header, err := l.Header(id.Commit)
	if err != nil {
		return info, false, err
	}
	info.Tag = keys.Tag(header[6:22])
	info.Op = commitlog.Op(v[0])
	info.Live = l.own.Get(liveKey(info.Tag, id)) != nil
	return info, true, nil
}

// ChangeFrom returns the first change at a place of the log or after it, false if
// there is none.
func (l *Log) ChangeFrom(at commitlog.ChangeID) (first commitlog.ChangeID, ok bool) {
	_ = l.all.ScanPrefix([]byte{kindCommit}, changeKey(at), func(k, _ []byte) (bool, error) {
		if k := commitKey(k); k.part() == partChange {
			first, ok = k.change(), true
		}
		return !ok, nil
	})
	return first, ok
}

// Live reports whether the change, of that namespace, is live.
func (l *Log) Live(tag keys.Tag, id commitlog.ChangeID) bool {
	return l.own.Get(liveKey(tag, id)) != nil
}

// Entry returns the decoded change and its blob, nil where that is absent.
func (l *Log) Entry(id commitlog.ChangeID) (commitlog.Change, []byte, error) {
	v, err := l.all.Only(changeKey(id))
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
	return l.all.Put(changeKey(id), append(bytes.Clone(ch.Entry), blob...))
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
	err = l.own.ScanPrefix(restatePrefix(named), nil, func(k, _ []byte) (bool, error) {
		id := parseRestate(k)
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
	err = l.own.ScanPrefix([]byte{kindRestate}, nil, func(k, _ []byte) (bool, error) {
		any = l.Live(tag, parseRestate(k))
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
	if err := l.once(headerKey(e.ID), c.Raw, e.ID); err != nil {
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
			if err := l.all.Put(changeKey(id), v); err != nil {
				return err
			}
		}
		if ch.Op == commitlog.OpDelete || ch.Op == commitlog.OpRestate && e.IsVoid(i) {
			err = l.all.Put(retiredKey(e.ID, id), stamp)
		} else {
			err = l.own.Put(liveKey(c.Header.Tag, id), present)
		}
		if err != nil {
			return err
		}
		if ch.Op == commitlog.OpRestate && !e.IsVoid(i) {
			for _, n := range e.Named[i] {
				if err := l.own.Put(restateKey(n, id), present); err != nil {
					return err
				}
			}
		}
	}
	for _, gone := range e.Superseded {
		if err := l.own.Delete(liveKey(c.Header.Tag, gone)); err != nil {
			return err
		}
		if err := l.all.Put(retiredKey(e.ID, gone), stamp); err != nil {
			return err
		}
	}
	at := commitlog.TreeIndex(l.size)
	for i := range hashes {
		if err := l.once(hashKey(at+int64(i)), hashes[i][:], e.ID); err != nil {
			return err
		}
	}
	if err := l.once(sequenceKey(c.Header.Device, c.Header.Seq), be.AppendUint64(nil, uint64(e.ID)), e.ID); err != nil {
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
func (l *Log) once(key, value []byte, id commitlog.CommitID) error {
	if l.past {
		if there := l.all.Get(key); there != nil && !bytes.Equal(there, value) {
			return &commitlog.CommitError{ID: id, Err: commitlog.ErrFork, Reason: "the checkpoint that this device began with is of another history"}
		}
	}
	return l.all.Put(key, value)
}

// came reports whether a change is there already: below a base those are that the
// checkpoint has vouched for. Their commit's header, which names the whole list, says
// nothing of one entry, so it is compared.
func (l *Log) came(id commitlog.ChangeID, ch *commitlog.Change) (bool, error) {
	if !l.past {
		return false, nil
	}
	there := l.all.Get(changeKey(id))
	if there != nil && !bytes.HasPrefix(there, ch.Entry) {
		return false, &commitlog.CommitError{ID: id.Commit, Err: commitlog.ErrCheckpoint, Reason: fmt.Sprintf("change %d is not the one that came with the checkpoint", id.Index)}
	}
	return there != nil, nil
}

// SetSum records what all commits up to one take, in bytes. How that is counted is the
// caller's.
func (l *Log) SetSum(id commitlog.CommitID, bytes uint64) error {
	return l.all.Put(sumKey(id), be.AppendUint64(nil, bytes))
}

// Sum returns what was recorded by SetSum, 0 for no commit; [ErrDamaged] where nothing
// was.
func (l *Log) Sum(id commitlog.CommitID) (uint64, error) {
	if id == 0 {
		return 0, nil
	}
	v := l.all.Get(sumKey(id))
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: no size at commit %d", ErrDamaged, id)
	}
	return be.Uint64(v), nil
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
	err = l.all.ScanPrefix(append(commitPrefix(id), partChange), nil, func(k, v []byte) (bool, error) {
		ch, blob, err := splitChange(commitKey(k).change(), v)
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
