package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A log may begin at a checkpoint, its base (SPEC.md, "Starting from a
// checkpoint"). Then it holds the live changes of the log below, the tree's peaks
// and its authors' newest commits, and goes on as any other. The log below comes
// later, see [Tx.Past].

// Base returns the size at which the log began, 0 where it is whole.
func (l *Log) Base() uint64 {
	if v := l.head.Get([]byte("base")); len(v) == 8 {
		return be.Uint64(v)
	}
	return 0
}

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
	if there := l.commits.Get(commitKey(x.ID)); there != nil && !bytes.Equal(there, x.Raw) {
		return refuse("two headers came for one commit")
	}
	if there := l.sequences.Get(sequenceKey(x.Header.Device, x.Header.Seq)); there != nil && !bytes.Equal(there, commitKey(x.ID)) {
		return refuse("two commits came for one sequence number")
	}
	if err := l.commits.Put(commitKey(x.ID), x.Raw); err != nil {
		return err
	}
	for i := range x.Changes {
		c := &x.Changes[i]
		id := commitlog.ChangeID{Commit: x.ID, Index: c.Index}
		v := append(append(make([]byte, 0, len(c.Change.Entry)+len(c.Blob)), c.Change.Entry...), c.Blob...)
		if err := l.changes.Put(changeKey(id), v); err != nil {
			return err
		}
		if err := l.live.Put(liveKey(x.Header.Tag, id), present); err != nil {
			return err
		}
		if c.Change.Op != commitlog.OpRestate {
			continue
		}
		for _, r := range c.Change.Refs { // all by commit ID
			named := commitlog.ChangeID{Commit: commitlog.CommitID(r.At), Index: r.Index}
			if err := l.restates.Put(appendChangeID(changeKey(named), id), present); err != nil {
				return err
			}
		}
	}
	if err := l.sequences.Put(sequenceKey(x.Header.Device, x.Header.Seq), commitKey(x.ID)); err != nil {
		return err
	}
	return l.leaves.Put(leafKey(x.Header.Device, commitlog.LeafHash(x.Raw)), present)
}

// Begin has the log begin at a checkpoint whose live changes are all here. Each
// of its authors must be known.
func (l *Log) Begin(c *commitlog.Checkpoint) error {
	for i, index := range commitlog.Peaks(c.Size) {
		if err := l.tree.Put(be.AppendUint64(nil, uint64(index)), bytes.Clone(c.Peaks[i][:])); err != nil {
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
		if err := l.head.Put(baseSeqKey(a.Device), be.AppendUint64(nil, a.Seq)); err != nil {
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
	if err := l.head.Put([]byte("base"), be.AppendUint64(nil, c.Size)); err != nil {
		return err
	}
	return l.writeHead()
}

func baseSeqKey(id keys.DeviceID) []byte { return append([]byte("base/"), id[:]...) }

// BaseSeq returns the author's last sequence number at the base, 0 for none.
func (l *Log) BaseSeq(id keys.DeviceID) uint64 {
	if v := l.head.Get(baseSeqKey(id)); len(v) == 8 {
		return be.Uint64(v)
	}
	return 0
}

func provenKey(size uint64) []byte { return be.AppendUint64([]byte("proven/"), size) }

// Prove records the root of the log at a size below the base, which was proven.
func (l *Log) Prove(size uint64, root commitlog.Hash) error {
	return l.head.Put(provenKey(size), bytes.Clone(root[:]))
}

// rootBelow returns a root below the base, ErrNotFound where none was proven.
func (l *Log) rootBelow(size uint64) (commitlog.Hash, error) {
	v := l.head.Get(provenKey(size))
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

const pastName = "past"

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
		for _, own := range []string{"head", "live", "restates", "authors"} {
			if _, err := b.CreateBucket(own); err != nil {
				return nil, err
			}
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
	l := &Log{head: b.Lazy("head"), live: b.Lazy("live"), restates: b.Lazy("restates"), authors: b.Lazy("authors"), past: true}
	l.commits, l.changes, l.tree = p.above.commits, p.above.changes, p.above.tree
	l.retired, l.sequences, l.leaves = p.above.retired, p.above.sequences, p.above.leaves
	l.prepare(tx, "")
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
	for _, prefix := range []string{"base", "proven/"} {
		err := p.above.head.ScanPrefix([]byte(prefix), nil, func(k, _ []byte) (bool, error) {
			old = append(old, bytes.Clone(k))
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	for _, k := range old {
		if err := p.above.head.Delete(k); err != nil {
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
	err := above.retired.Scan(commitKey(commitlog.CommitID(base+1)), func(k, _ []byte) (bool, error) {
		if id := parseChangeID(k[8:]); uint64(id.Commit) <= base {
			ended[id] = true
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	type item struct {
		b   *Bucket
		key []byte
	}
	var drop []item
	below := func(b *Bucket, end []byte, fn func(k, v []byte) error) error {
		return b.Scan(nil, func(k, v []byte) (bool, error) {
			if bytes.Compare(k, end) >= 0 {
				return false, nil
			}
			return true, fn(k, v)
		})
	}
	end := commitKey(commitlog.CommitID(base + 1))
	err = below(above.commits, end, func(k, raw []byte) error {
		h, err := commitlog.ParseHeader(raw)
		if err != nil {
			return fmt.Errorf("%w: header of commit %d", ErrDamaged, be.Uint64(k))
		}
		kept := false
		err = above.changes.ScanPrefix(k, nil, func(ck, _ []byte) (bool, error) {
			if id := parseChangeID(ck); above.Live(h.Tag, id) || ended[id] {
				kept = true
			} else {
				drop = append(drop, item{above.changes, bytes.Clone(ck)})
			}
			return true, nil
		})
		if !kept {
			drop = append(drop, item{above.commits, bytes.Clone(k)},
				item{above.sequences, sequenceKey(h.Device, h.Seq)}, item{above.leaves, leafKey(h.Device, commitlog.LeafHash(raw))})
		}
		return err
	})
	if err != nil {
		return err
	}
	err = below(above.retired, end, func(k, _ []byte) error {
		drop = append(drop, item{above.retired, bytes.Clone(k)})
		return nil
	})
	if err != nil {
		return err
	}
	peaks := commitlog.Peaks(base)
	err = below(above.tree, be.AppendUint64(nil, uint64(commitlog.TreeIndex(base))), func(k, _ []byte) error {
		if !slices.Contains(peaks, int64(be.Uint64(k))) {
			drop = append(drop, item{above.tree, bytes.Clone(k)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range drop {
		if err := d.b.Delete(d.key); err != nil {
			return err
		}
	}
	delete(p.b.tx.pasts, p.name)
	return p.b.DeleteBucket(pastName)
}
