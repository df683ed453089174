package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A Replay goes through a stored log from its first commit on, as if each commit
// came in now, and believes nothing of what is stored beside them: who may sign,
// the tree, what is live, the numbers of the authors. All of that is worked out
// anew and compared. It is the [commitlog.State] that the next commit is checked
// against.
//
// It holds one bit a change and eight bytes a commit, and what grows with neither:
// the rest is read from the log, but only what was compared before. It may go
// through a log in several transactions, as long as that only grows.
//
// What differs is [ErrDamaged].
type Replay struct {
	l         *Log // of the present transaction
	vault     keys.VaultID
	authority keys.AuthorityKeys
	size      uint64
	control   keys.Tag
	resets    []byte // as in the log's head
	epochs    []byte // as in the log's head
	authors   map[keys.DeviceID]*commitlog.Author

	first   []uint64 // for each commit: changes before it
	changes uint64
	live    []uint64 // bits, by number of the change
	alive   uint64   // of these, set
	ended   uint64   // changes that a commit has ended, or that never were live

	trusts   bool                                        // see Trust
	restates map[commitlog.ChangeID][]commitlog.ChangeID // by what they name
	roots    [2]rootAt
	nextRt   int
}

var _ commitlog.State = (*Replay)(nil)

// NewReplay returns the replay of a log of this vault, before its first commit.
func NewReplay(vault keys.VaultID, authority keys.AuthorityKeys) *Replay {
	r := &Replay{
		vault: vault, authority: authority,
		authors:  map[keys.DeviceID]*commitlog.Author{{}: {Sign: authority.Sign, Auth: authority.Auth}},
		restates: make(map[commitlog.ChangeID][]commitlog.ChangeID),
	}
	r.addEpoch(0, 1)
	return r
}

// In says in which transaction the replay goes on.
func (r *Replay) In(l *Log) { r.l = l }

func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Vault returns the vault whose log this is.
func (r *Replay) Vault() keys.VaultID { return r.vault }

// Authority returns the vault's authority keys.
func (r *Replay) Authority() keys.AuthorityKeys { return r.authority }

// Size returns the number of commits so far.
func (r *Replay) Size() uint64 { return r.size }

// ControlTag returns the tag of the control log, zero before commit 1.
func (r *Replay) ControlTag() (keys.Tag, error) { return r.control, nil }

// NewestReset returns the newest commit with a reset statement, 0 for none.
func (r *Replay) NewestReset() (commitlog.CommitID, error) { return newestReset(r.resets), nil }

// AddReset records a reset statement in the commit, which is the newest one.
func (r *Replay) AddReset(id commitlog.CommitID) error {
	r.resets = be.AppendUint64(r.resets, uint64(id))
	return nil
}

// Base returns 0: a replay begins with the first commit.
func (r *Replay) Base() uint64 { return 0 }

// BaseSeq returns 0.
func (r *Replay) BaseSeq(keys.DeviceID) uint64 { return 0 }

// RootAt returns the Merkle root of the first size commits.
func (r *Replay) RootAt(size uint64) (commitlog.Hash, error) {
	if size > r.size {
		return commitlog.Hash{}, differs("root at %d of a log of %d", size, r.size)
	}
	for _, x := range r.roots {
		if x.valid && x.size == size {
			return x.root, nil
		}
	}
	root, err := commitlog.TreeRoot(r.l, size)
	if err == nil {
		r.roots[r.nextRt] = rootAt{size, root, true}
		r.nextRt ^= 1
	}
	return root, err
}

func (r *Replay) addEpoch(from uint64, epoch uint32) {
	r.epochs = be.AppendUint32(be.AppendUint64(r.epochs, from), epoch)
}

// EpochAt returns the epoch in force after the first size commits.
func (r *Replay) EpochAt(size uint64) (epoch uint32, err error) {
	for b := r.epochs; len(b) >= 12; b = b[12:] {
		if be.Uint64(b) <= size {
			epoch = be.Uint32(b[8:])
		}
	}
	return epoch, nil
}

// SetEpoch records that the epoch is in force after the first from commits.
func (r *Replay) SetEpoch(from uint64, epoch uint32) error {
	r.addEpoch(from, epoch)
	return nil
}

// Author returns what is known of an author, nil if nothing is.
func (r *Replay) Author(id keys.DeviceID) (*commitlog.Author, error) { return r.authors[id], nil }

// SetAuthor records what is known of an author.
func (r *Replay) SetAuthor(id keys.DeviceID, a *commitlog.Author) error {
	r.authors[id] = a
	return nil
}

// Authors calls fn for each author, until it returns an error.
func (r *Replay) Authors(fn func(id keys.DeviceID, a *commitlog.Author) error) error {
	for id, a := range r.authors {
		if err := fn(id, a); err != nil {
			return err
		}
	}
	return nil
}

// OwnCommit returns the commit with the author's sequence number, 0 for none.
func (r *Replay) OwnCommit(id keys.DeviceID, seq uint64) (commitlog.CommitID, error) {
	at, err := r.l.OwnCommit(id, seq)
	if err != nil || at == 0 || uint64(at) > r.size {
		return 0, err
	}
	header, err := r.l.Header(at)
	if err == nil && (keys.DeviceID(header[22:38]) != id || be.Uint64(header[38:]) != seq) {
		err = differs("commit %d is not number %d of its author", at, seq)
	}
	return at, err
}

// OwnLeaf reports whether a commit of the author has the leaf, as [Log.OwnLeaf] does.
func (r *Replay) OwnLeaf(id keys.DeviceID, leaf commitlog.Hash) (bool, error) {
	a := r.authors[id]
	if a == nil {
		return false, nil
	}
	return ownLeaf(r.l, id, a.LastSeq, leaf)
}

// number returns the number of a change among all, from 0.
func (r *Replay) number(id commitlog.ChangeID) (n uint64, ok bool) {
	if id.Commit == 0 || uint64(id.Commit) > r.size {
		return 0, false
	}
	end := r.changes
	if uint64(id.Commit) < r.size {
		end = r.first[id.Commit]
	}
	n = r.first[id.Commit-1] + uint64(id.Index)
	return n, n < end
}

func (r *Replay) isLive(n uint64) bool { return r.live[n/64]&(1<<(n%64)) != 0 }

// Change reports what the log knows of a change, and whether it holds it.
func (r *Replay) Change(id commitlog.ChangeID) (info commitlog.ChangeInfo, ok bool, err error) {
	n, ok := r.number(id)
	if !ok {
		return info, false, nil
	}
	v, err := r.l.all.Only(changeKey(id))
	if err == nil && v == nil {
		err = differs("change %v is gone", id)
	}
	if err != nil {
		return info, false, err
	}
	header, err := r.l.Header(id.Commit)
	if err != nil {
		return info, false, err
	}
	return commitlog.ChangeInfo{Tag: keys.Tag(header[6:22]), Op: commitlog.Op(v[0]), Live: r.isLive(n)}, true, nil
}

// Restates returns the live restates that name the change.
func (r *Replay) Restates(named commitlog.ChangeID) (out []commitlog.ChangeID, err error) {
	for _, id := range r.restates[named] {
		if n, _ := r.number(id); r.isLive(n) {
			out = append(out, id)
		}
	}
	return out, nil
}

// AnyRestate reports whether the namespace has a live restate. Only over a base is
// it asked for.
func (r *Replay) AnyRestate(keys.Tag) (bool, error) { return len(r.restates) > 0, nil }

// Named returns the changes that a change names, by commit ID.
func (r *Replay) Named(id commitlog.ChangeID) ([]commitlog.ChangeID, error) { return r.l.Named(id) }

// Append takes the next commit of the log, that [commitlog.Check] has accepted
// against this replay, with the effects it returned, and compares all that the
// log has stored with it. Control statements are the caller's to apply.
func (r *Replay) Append(c *commitlog.Commit, e *commitlog.Effects) error {
	if e.ID != commitlog.CommitID(r.size+1) {
		panic("store: internal error: replay of a commit checked for another place")
	}
	if err := r.compareTree(e.Leaf); err != nil {
		return err
	}
	h := &c.Header
	if at, err := r.l.OwnCommit(h.Device, h.Seq); err != nil || at != e.ID {
		return differs("commit %d is not found by its author's number", e.ID)
	}
	r.size++
	r.first = append(r.first, r.changes)
	r.changes += uint64(len(c.Changes))
	for uint64(len(r.live))*64 < r.changes {
		r.live = append(r.live, 0)
	}
	for i := range c.Changes {
		op, id := c.Changes[i].Op, commitlog.ChangeID{Commit: e.ID, Index: uint16(i)}
		if op == commitlog.OpDelete || op == commitlog.OpRestate && e.IsVoid(i) {
			if err := r.compareEnd(e.ID, id); err != nil {
				return err
			}
			continue
		}
		n, _ := r.number(id)
		r.live[n/64] |= 1 << (n % 64)
		r.alive++
		if op != commitlog.OpRestate {
			continue
		}
		for _, named := range e.Named[i] {
			if r.l.own.Get(restateKey(named, id)) == nil {
				return differs("restate %v is not found by what it names", id)
			}
			r.restates[named] = append(r.restates[named], id)
		}
	}
	for _, gone := range e.Superseded {
		n, _ := r.number(gone)
		r.live[n/64] &^= 1 << (n % 64)
		r.alive--
		if err := r.compareEnd(e.ID, gone); err != nil {
			return err
		}
	}
	grown := *r.authors[h.Device]
	grown.LastSeq, grown.LastLeaf, grown.LastSeen = h.Seq, e.Leaf, h.SeenSize
	r.authors[h.Device] = &grown
	if e.ID == 1 {
		r.control = h.Tag
	}
	if h.Kind == commitlog.KindControl {
		return r.trustAt(e.ID)
	}
	return nil
}

// compareEnd compares what is stored of a change that a commit has ended.
func (r *Replay) compareEnd(by commitlog.CommitID, id commitlog.ChangeID) error {
	r.ended++
	if r.l.all.Get(retiredKey(by, id)) == nil {
		return differs("that commit %d has ended change %v", by, id)
	}
	return nil
}

func (r *Replay) compareTree(leaf commitlog.Hash) error {
	hashes, err := commitlog.GrowTree(r.l, r.size, leaf)
	if err != nil {
		return err
	}
	at := commitlog.TreeIndex(r.size)
	for i, want := range hashes {
		have, err := r.l.ReadHash(at + int64(i))
		if err != nil {
			return err
		}
		if have != want {
			return differs("hash %d of the tree, at commit %d", at+int64(i), r.size+1)
		}
	}
	return nil
}

// Finish compares what is stored of the log as a whole, after its last commit.
func (r *Replay) Finish() error {
	l := r.l
	switch {
	case l.size != r.size:
		return differs("the log has %d commits, %d are there", l.size, r.size)
	case l.vault != r.vault || l.authority != r.authority:
		return differs("the log is of another vault")
	case l.control != r.control || !bytes.Equal(l.own.Get(keyResets), r.resets):
		return differs("the log's head")
	case !bytes.Equal(l.own.Get(keyEpochs), r.epochs):
		return differs("the epochs")
	}
	stored := make(map[keys.DeviceID]bool)
	err := l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		have := r.authors[id]
		if stored[id] = true; have == nil || !bytes.Equal(appendAuthor(nil, a), appendAuthor(nil, have)) {
			return differs("what is known of device %s", id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.authors), func(a, b keys.DeviceID) int { return bytes.Compare(a[:], b[:]) }) {
		if !stored[id] {
			return differs("device %s is gone", id)
		}
	}
	if err := r.compareLive(); err != nil {
		return err
	}
	n := uint64(0)
	err = l.all.ScanPrefix([]byte{kindRetired}, nil, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	if err == nil && n != r.ended {
		err = differs("%d changes have ended, %d are said to", r.ended, n)
	}
	return err
}

func (r *Replay) compareLive() error {
	n := uint64(0)
	err := r.l.own.ScanPrefix([]byte{kindLive}, nil, func(k, _ []byte) (bool, error) {
		tag, id := parseLive(k)
		info, ok, err := r.Change(id)
		if err == nil && (!ok || !info.Live || info.Tag != tag) {
			err = differs("change %v is not live", id)
		}
		n++
		return true, err
	})
	if err == nil && n != r.alive {
		err = differs("%d changes are live, %d are said to be", r.alive, n)
	}
	return err
}

// Live returns how many changes are live.
func (r *Replay) Live() uint64 { return r.alive }
