package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/commitlog"
)

// Convert brings a store whose logs are in the first layout to the present one: it
// writes the store anew, as [Rewrite] does, with the same promises. Then a log was a
// bucket with a bucket for each kind of thing. Where there is no such log nothing is
// changed.
//
// sums is the name of the bucket, "" for none, in which a secondary had what the
// commits of its logs take: in it, a bucket for each log, named by what follows the
// first slash of the log's name, commit ID u64: bytes u64. It becomes part of the logs.
//
// mark, if not nil, changes the new store before it takes the place of the old one, so
// that the store can say which layout it has.
func Convert(path string, o Options, sums string, mark func(*Tx) error) error {
	_, _, err := rewrite(path, o, func(dst *bbolt.DB, src *DB) error {
		return src.bolt.View(func(from *bbolt.Tx) error {
			root := from.Cursor().Bucket()
			if !anyOldLog(root) {
				return errAsItIs
			}
			c := &conversion{dst: dst, sums: root.Bucket([]byte(sums))}
			defer c.abort() // where an error, or damage, ends it
			if err := c.bucket(root, sums); err != nil {
				return err
			}
			if err := c.commit(); err != nil || mark == nil {
				return err
			}
			return dst.Update(func(b *bbolt.Tx) error { return mark(&Tx{bolt: b}) })
		})
	})
	return err
}

// Names of the buckets of a log in the first layout.
const (
	oldHead      = "head"
	oldCommits   = "commits"
	oldChanges   = "changes"
	oldLive      = "live"
	oldRetired   = "retired"
	oldRestates  = "restates"
	oldSequences = "sequences"
	oldAuthors   = "authors"
	oldTree      = "tree"
	oldLeaves    = "leaves" // device 16 ‖ leaf 32: —
	oldPast      = "past"

	oldLog = "log" // the key of the log's head in the bucket head
)

func isOldLog(b *bbolt.Bucket) bool {
	head := b.Bucket([]byte(oldHead))
	return head != nil && head.Get([]byte(oldLog)) != nil
}

// anyOldLog looks for a log in a bucket and those within it.
func anyOldLog(b *bbolt.Bucket) (any bool) {
	_ = b.ForEachBucket(func(name []byte) error {
		in := b.Bucket(name)
		any = any || isOldLog(in) || anyOldLog(in)
		return nil
	})
	return any
}

// A conversion writes a new store in the order of its keys, in transactions of some
// megabytes.
type conversion struct {
	dst  *bbolt.DB
	sums *bbolt.Bucket // nil: there are none

	tx    *bbolt.Tx
	wrote int // bytes in tx
	path  [][]byte
	at    *bbolt.Bucket // at path, in tx; nil: not looked up
}

// bucket copies what is in a bucket to the one at path, but for a bucket of one name.
func (c *conversion) bucket(src *bbolt.Bucket, but string) error {
	var last []byte
	return src.ForEach(func(k, v []byte) error {
		if last != nil && bytes.Compare(k, last) <= 0 {
			return fmt.Errorf("%w: bucket %q is out of order", ErrDamaged, bytes.Join(c.path, []byte("/")))
		}
		last = k
		if v != nil {
			return c.put(k, v)
		}
		in := src.Bucket(k)
		if but != "" && string(k) == but {
			return nil
		}
		if err := c.enter(k, in.Sequence()); err != nil {
			return err
		}
		var err error
		if isOldLog(in) {
			if err = c.log(in, c.sumsOf(string(k))); err != nil {
				err = fmt.Errorf("%s: %w", k, err)
			}
		} else {
			err = c.bucket(in, "")
		}
		c.leave()
		return err
	})
}

// sumsOf returns the sums of a log, nil if there are none.
func (c *conversion) sumsOf(log string) *bbolt.Bucket {
	if c.sums == nil || len(c.path) != 1 {
		return nil
	}
	_, name, _ := strings.Cut(log, "/")
	return c.sums.Bucket([]byte(name))
}

// log converts a log.
func (c *conversion) log(old, sums *bbolt.Bucket) error {
	head := old.Bucket([]byte(oldHead))
	own := head.Get([]byte(oldLog))
	if len(own) != sizeHead {
		return fmt.Errorf("%w: log head of %d bytes", ErrDamaged, len(own))
	}
	size, base := be.Uint64(own[80:]), uint64(0)
	if v := head.Get([]byte("base")); len(v) == 8 {
		base = be.Uint64(v)
	}
	all := append(ownSources(old),
		sourceOf(old, oldSequences, 24, func(k []byte) []byte { return slices.Concat([]byte{kindAuthor}, k) }),
		sourceOf(old, oldCommits, 8, func(k []byte) []byte { return slices.Concat([]byte{kindCommit}, k, []byte{partHeader}) }),
		sourceOf(old, oldChanges, 10, func(k []byte) []byte { return slices.Concat([]byte{kindCommit}, k[:8], []byte{partChange}, k[8:]) }),
		sourceOf(old, oldTree, 8, func(k []byte) []byte { return hashKey(int64(be.Uint64(k))) }),
		sourceOf(old, oldRetired, 18, func(k []byte) []byte { return slices.Concat([]byte{kindRetired}, k) }),
	)
	// The leaves of what came with a checkpoint were not in the tree, but only in a bucket
	// of their own. Until all of that is here, the log has no size.
	index := old.Bucket([]byte(oldLeaves))
	leaves := sourceOf(old, oldCommits, 8, func(k []byte) []byte {
		if id := be.Uint64(k); id != 0 && id <= base || id > size {
			return hashKey(commitlog.TreeIndex(id - 1))
		}
		return nil
	})
	leaves.value = func(header []byte) []byte {
		leaf := commitlog.LeafHash(header)
		if len(header) != commitlog.HeaderSize || index == nil || index.Get(slices.Concat(header[22:38], leaf[:])) == nil {
			return nil // it is not the header that came, and its leaf will be missed
		}
		return leaf[:]
	}
	all = append(all, leaves)
	if sums != nil {
		all = append(all, &source{name: "sums", c: sums.Cursor(), size: 8, key: func(k []byte) []byte { return slices.Concat([]byte{kindCommit}, k, []byte{partSum}) }})
	}
	if err := c.merge(all); err != nil {
		return err
	}
	past := old.Bucket([]byte(oldPast))
	if past == nil {
		return nil
	}
	if err := c.enter([]byte(pastName), 0); err != nil {
		return err
	}
	defer c.leave()
	return c.merge(ownSources(past))
}

// ownSources returns what a log has for itself also below a base.
func ownSources(old *bbolt.Bucket) []*source {
	return []*source{
		sourceOf(old, oldAuthors, 16, func(k []byte) []byte { return slices.Concat([]byte{kindAuthor}, k, []byte{endOfNumbers}) }),
		sourceOf(old, oldHead, Any, func(k []byte) []byte {
			if string(k) == oldLog {
				return headKey("")
			}
			return nil
		}),
		sourceOf(old, oldHead, Any, func(k []byte) []byte {
			if string(k) == oldLog {
				return nil
			}
			return headKey(string(k))
		}),
		sourceOf(old, oldLive, 26, func(k []byte) []byte { return slices.Concat([]byte{kindLive}, k) }),
		sourceOf(old, oldRestates, 20, func(k []byte) []byte { return slices.Concat([]byte{kindRestate}, k) }),
	}
}

// A source gives the elements of an old bucket under their new keys, which ascend.
type source struct {
	name  string
	c     *bbolt.Cursor
	size  int                   // of its keys; Any: they differ
	key   func(k []byte) []byte // nil: it is not one of these
	value func(v []byte) []byte // the same; where there is no such func, it is as it is

	k, v  []byte // the present one; k nil: there is no more
	begun bool
}

func sourceOf(old *bbolt.Bucket, name string, size int, key func(k []byte) []byte) *source {
	s := &source{name: name, size: size, key: key}
	if b := old.Bucket([]byte(name)); b != nil {
		s.c = b.Cursor()
	}
	return s
}

func (s *source) next() error {
	if s.k = nil; s.c == nil {
		return nil
	}
	for s.k == nil {
		var k []byte
		if s.begun {
			k, s.v = s.c.Next()
		} else {
			k, s.v = s.c.First()
			s.begun = true
		}
		if k == nil {
			return nil
		}
		if s.size != Any && len(k) != s.size {
			return fmt.Errorf("%w: an element of bucket %q", ErrDamaged, s.name)
		}
		if s.k = s.key(k); s.k == nil || s.value == nil {
			continue
		}
		if s.v = s.value(s.v); s.v == nil {
			s.k = nil
		}
	}
	return nil
}

// merge writes what the sources give, in the order of the keys. What two give must be
// the same.
func (c *conversion) merge(sources []*source) error {
	for _, s := range sources {
		if err := s.next(); err != nil {
			return err
		}
	}
	var lastKey, lastValue []byte
	for {
		var first *source
		for _, s := range sources {
			if s.k != nil && (first == nil || bytes.Compare(s.k, first.k) < 0) {
				first = s
			}
		}
		if first == nil {
			return nil
		}
		switch order := bytes.Compare(lastKey, first.k); {
		case order > 0 || order == 0 && !bytes.Equal(lastValue, first.v):
			return fmt.Errorf("%w: bucket %q is out of order, or says what another does not", ErrDamaged, first.name)
		case order < 0:
			if err := c.put(first.k, first.v); err != nil {
				return err
			}
		}
		lastKey, lastValue = first.k, first.v
		if err := first.next(); err != nil {
			return err
		}
	}
}

// enter makes a bucket in the one at path and goes into it.
func (c *conversion) enter(name []byte, sequence uint64) error {
	b, err := c.here(len(name))
	if err != nil {
		return err
	}
	if b == nil {
		b, err = c.tx.CreateBucket(name)
	} else {
		b, err = b.CreateBucket(name)
	}
	if err != nil {
		return err
	}
	c.path, c.at = append(c.path, bytes.Clone(name)), b
	b.FillPercent = fill
	return b.SetSequence(sequence)
}

func (c *conversion) leave() { c.path, c.at = c.path[:len(c.path)-1], nil }

func (c *conversion) put(k, v []byte) error {
	b, err := c.here(len(k) + len(v))
	if err != nil {
		return err
	}
	if b == nil {
		return fmt.Errorf("%w: a value beside the buckets", ErrDamaged)
	}
	return b.Put(k, v)
}

// here returns the bucket at path, nil at the root, with room for n bytes more in the
// transaction.
func (c *conversion) here(n int) (*bbolt.Bucket, error) {
	if c.wrote += n; c.wrote > rewriteBatch {
		if err := c.commit(); err != nil {
			return nil, err
		}
		c.wrote = n
	}
	if c.tx == nil {
		tx, err := c.dst.Begin(true)
		if err != nil {
			return nil, err
		}
		c.tx, c.at = tx, nil
	}
	if c.at != nil || len(c.path) == 0 {
		return c.at, nil
	}
	c.at = c.tx.Bucket(c.path[0])
	for _, name := range c.path[1:] {
		c.at = c.at.Bucket(name)
	}
	c.at.FillPercent = fill
	return c.at, nil
}

func (c *conversion) commit() error {
	if c.tx == nil {
		return nil
	}
	err := c.tx.Commit()
	c.tx, c.at = nil, nil
	return err
}

// abort ends the transaction that is under way, if one is: the file is thrown away.
func (c *conversion) abort() {
	if c.tx != nil {
		_ = c.tx.Rollback()
	}
}
