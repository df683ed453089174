package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A log may begin at a checkpoint, its base (SPEC.md, "Starting from a
// checkpoint"). Then it holds the live changes of the log below, the tree's peaks
// and its authors' newest commits, and goes on as any other. The log below comes
// later, see [Tx.Past].

// Base returns the size at which the log began, 0 where it is whole.
func (l *Log) Base() uint64 {
	if v := l.own.Get(keyBase); len(v) == 8 {
		return be.Uint64(v)
	}
	return 0
}

var keyBase = headKey("base")

// PutExcerpt adds live changes of a log that begins at a checkpoint, before
// [Log.Begin]. Those of one namespace come in the order of the log. It returns
// [commitlog.ErrCheckpoint] where commit ID or sequence number are another commit's.
func (l *Log) PutExcerpt(x *commitlog.Excerpt) error {
	if l.size != 0 {
		panic("store: internal error: excerpt of a log that has begun")
	}
	refuse := func(reason string) error {
		return &commitlog.CommitError{ID: x.ID, Err: commitlog.ErrCheckpoint, Reason: reason}
	}
	if there := l.all.Get(headerKey(x.ID)); there != nil && !bytes.Equal(there, x.Raw) {
		return refuse("two headers came for one commit")
	}
	if there := l.all.Get(sequenceKey(x.Header.Device, x.Header.Seq)); there != nil && be.Uint64(there) != uint64(x.ID) {
		return refuse("two commits came for one sequence number")
	}
	if err := l.all.Put(headerKey(x.ID), x.Raw); err != nil {
		return err
	}
	for i := range x.Changes {
		c := &x.Changes[i]
		id := commitlog.ChangeID{Commit: x.ID, Index: c.Index}
		v := append(append(make([]byte, 0, len(c.Change.Entry)+len(c.Blob)), c.Change.Entry...), c.Blob...)
		if err := l.all.Put(changeKey(id), v); err != nil {
			return err
		}
		if err := l.own.Put(liveKey(x.Header.Tag, id), present); err != nil {
			return err
		}
		if c.Change.Op != commitlog.OpRestate {
			continue
		}
		for _, r := range c.Change.Refs { // all by commit ID
			named := commitlog.ChangeID{Commit: commitlog.CommitID(r.At), Index: r.Index}
			if err := l.own.Put(restateKey(named, id), present); err != nil {
				return err
			}
		}
	}
	leaf := commitlog.LeafHash(x.Raw)
	if err := l.all.Put(hashKey(commitlog.TreeIndex(uint64(x.ID)-1)), leaf[:]); err != nil {
		return err
	}
	return l.all.Put(sequenceKey(x.Header.Device, x.Header.Seq), be.AppendUint64(nil, uint64(x.ID)))
}

// Begin has the log begin at a checkpoint whose live changes are all here. Each
// of its authors must be known.
func (l *Log) Begin(c *commitlog.Checkpoint) error {
	for i, index := range commitlog.Peaks(c.Size) {
		if err := l.all.Put(hashKey(index), bytes.Clone(c.Peaks[i][:])); err != nil {
			return err
		}
	}
	for _, a := range c.Authors {
		known, err := l.Author(a.Device)
		if err != nil {
			return err
		}
		if known == nil {
			return &commitlog.CommitError{ID: commitlog.CommitID(c.Size), Err: commitlog.ErrCheckpoint, Reason: fmt.Sprintf("device %s is not in the control log", a.Device)}
		}
		if err := l.own.Put(baseSeqKey(a.Device), be.AppendUint64(nil, a.Seq)); err != nil {
			return err
		}
		grown := *known
		grown.LastSeq, grown.LastLeaf, grown.LastSeen = a.Seq, a.Leaf, a.Seen
		if err := l.SetAuthor(a.Device, &grown); err != nil {
			return err
		}
	}
	header, err := l.Header(1)
	if err != nil {
		return err
	}
	copy(l.control[:], header[6:])
	l.size = c.Size
	if err := l.own.Put(keyBase, be.AppendUint64(nil, c.Size)); err != nil {
		return err
	}
	return l.writeHead()
}

func baseSeqKey(id keys.DeviceID) []byte { return append(headKey("base/"), id[:]...) }

// BaseSeq returns the author's last sequence number at the base, 0 for none.
func (l *Log) BaseSeq(id keys.DeviceID) uint64 {
	if v := l.own.Get(baseSeqKey(id)); len(v) == 8 {
		return be.Uint64(v)
	}
	return 0
}

func provenKey(size uint64) []byte { return be.AppendUint64(headKey("proven/"), size) }

// Prove records the root of the log at a size below the base, which was proven.
func (l *Log) Prove(size uint64, root commitlog.Hash) error {
	return l.own.Put(provenKey(size), bytes.Clone(root[:]))
}

// rootBelow returns a root below the base, ErrNotFound where none was proven.
func (l *Log) rootBelow(size uint64) (commitlog.Hash, error) {
	v := l.own.Get(provenKey(size))
	if len(v) != len(commitlog.Hash{}) {
		return commitlog.Hash{}, fmt.Errorf("root at %d, below the base: %w", size, ErrNotFound)
	}
	return commitlog.Hash(v), nil
}

// below returns nil for the error that something is not here, if it stands below
// the base, where only what is live is.
func (l *Log) below(id commitlog.CommitID, err error) error {
	if errors.Is(err, ErrNotFound) && uint64(id) <= l.Base() {
		return nil
	}
	return err
}

// A Past is the log below a base while it is verified, from its first commit on.
// What is said once and for all, commits, changes, tree, it shares with the log
// above; what is live, authors and epochs are its own, until it has come to the
// base.
type Past struct {
	*Log
	above *Log
	name  string  // of the log above
	b     *Bucket // … and its bucket
}

// pastName sorts behind all that is stored of a log itself: see walk.tree.
const pastName = "~past"

// Past returns the log below the base of the log in the bucket of that name, and
// makes it, empty, if begin is set. It returns [ErrNotFound] if there is none.
func (tx *Tx) Past(name string, begin bool) (*Past, error) {
	if p := tx.pasts[name]; p != nil {
		return p, nil
	}
	above, err := tx.Log(name)
	if err != nil {
		return nil, err
	}
	p := &Past{above: above, name: name, b: tx.Bucket(name)}
	b := p.b.Bucket(pastName)
	if b == nil && !begin {
		return nil, ErrNotFound
	}
	if b == nil {
		if b, err = p.b.CreateBucket(pastName); err != nil {
			return nil, err
		}
		p.Log = p.open(tx, b)
		p.vault, p.authority = above.vault, above.authority
		if err := p.SetEpoch(0, 1); err != nil {
			return nil, err
		}
		if err := p.SetAuthor(keys.DeviceID{}, &commitlog.Author{Sign: above.authority.Sign, Auth: above.authority.Auth}); err != nil {
			return nil, err
		}
		return p, p.writeHead()
	}
	p.Log = p.open(tx, b)
	return p, p.readHead()
}

func (p *Past) open(tx *Tx, b *Bucket) *Log {
	b.name = p.name + "/" + pastName
	l := &Log{all: p.above.all, own: b, past: true}
	l.ready(b)
	if tx.pasts == nil {
		tx.pasts = make(map[string]*Past)
	}
	tx.pasts[p.name] = p
	return l
}

// Done ends the past: the log above is whole.
func (p *Past) Done() error {
	delete(p.b.tx.pasts, p.name)
	if err := p.b.DeleteBucket(pastName); err != nil {
		return err
	}
	var old [][]byte
	for _, name := range []string{"base", "proven/"} {
		err := p.above.own.ScanPrefix(headKey(name), nil, func(k, _ []byte) (bool, error) {
			old = append(old, bytes.Clone(k))
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	for _, k := range old {
		if err := p.above.own.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Drop forgets what was stored of the log below the base: the log above is as it was
// before any of it came, with what was live at the base. It is for what has turned
// out to be false, and takes the memory of all keys of it.
func (p *Past) Drop() error {
	above, base := p.above, p.above.Base()
	ended := make(map[commitlog.ChangeID]bool) // live at the base, and not any more
	err := above.all.ScanPrefix([]byte{kindRetired}, retiredPrefix(commitlog.CommitID(base+1)), func(k, _ []byte) (bool, error) {
		if _, id := parseRetired(k); uint64(id.Commit) <= base {
			ended[id] = true
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	drop, err := p.falseCommits(ended)
	if err != nil {
		return err
	}
	err = above.all.ScanPrefix([]byte{kindRetired}, nil, func(k, _ []byte) (bool, error) {
		if by, _ := parseRetired(k); uint64(by) > base {
			return false, nil
		}
		drop = append(drop, bytes.Clone(k))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range drop {
		if err := above.all.Delete(k); err != nil {
			return err
		}
	}
	delete(p.b.tx.pasts, p.name)
	return p.b.DeleteBucket(pastName)
}

// falseCommits returns the keys of what came of commits below the base: all but what
// was live there, and the tree's peaks. ended is what was, and is no more.
func (p *Past) falseCommits(ended map[commitlog.ChangeID]bool) (drop [][]byte, err error) {
	above, base := p.above, p.above.Base()
	peaks := make(map[string]bool)
	for _, index := range commitlog.Peaks(base) {
		peaks[string(hashKey(index))] = true
	}
	var (
		at   commitlog.CommitID // that is looked at
		h    *commitlog.Header  // its header, where that is here
		kept bool               // something of it stays
	)
	err = above.all.ScanPrefix([]byte{kindCommit}, nil, func(key, v []byte) (bool, error) {
		k := commitKey(key)
		if uint64(k.id()) > base {
			return false, nil
		}
		if k.id() != at {
			at, h, kept = k.id(), nil, false
		}
		switch k.part() {
		case partHeader:
			parsed, err := commitlog.ParseHeader(v)
			if err != nil {
				return false, fmt.Errorf("%w: header of commit %d", ErrDamaged, at)
			}
			h = &parsed
			// What else there is of the commit says whether the header stays.
			err = above.all.ScanPrefix(append(commitPrefix(at), partChange), nil, func(key, _ []byte) (bool, error) {
				id := commitKey(key).change()
				kept = kept || above.Live(h.Tag, id) || ended[id]
				return !kept, nil
			})
			if !kept {
				drop = append(drop, bytes.Clone(key), sequenceKey(h.Device, h.Seq))
			}
			return true, err
		case partChange:
			if id := k.change(); h == nil || !above.Live(h.Tag, id) && !ended[id] {
				drop = append(drop, bytes.Clone(key))
			}
		case partHash:
			if leaf := key[len(key)-1] == 0; !peaks[string(key)] && !(leaf && kept) {
				drop = append(drop, bytes.Clone(key))
			}
		}
		return true, nil
	})
	return drop, err
}
