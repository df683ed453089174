package commitlog

import (
	"encoding/binary"
	"fmt"
)

// A Reset says that the log in which it stands goes on, and that another one, which
// begins alike, has ended (SPEC.md, "Resets"). It is all of the statement, or a part:
//
//	kept size u64 ‖ more u8 ‖ n u16 ‖ n × leaf 32
type Reset struct {
	Kept   uint64 // commits that both logs have, from 1
	More   bool   // the next statement of the commit goes on with the leaves
	Leaves []Hash // of the lost log's commits after that, from 1 to MaxResetLeaves
}

// MaxResetLeaves is the number of leaves in one statement: half of what one may hold.
const MaxResetLeaves = 1 << 14

func (r *Reset) append(dst []byte) ([]byte, error) {
	if len(r.Leaves) > MaxResetLeaves {
		return nil, fmt.Errorf("%w: a reset with %d leaves", ErrLimit, len(r.Leaves))
	}
	dst = binary.BigEndian.AppendUint64(dst, r.Kept)
	more := byte(0)
	if r.More {
		more = 1
	}
	dst = binary.BigEndian.AppendUint16(append(dst, more), uint16(len(r.Leaves)))
	for _, l := range r.Leaves {
		dst = append(dst, l[:]...)
	}
	return dst, nil
}

func parseReset(r *reader) (*Reset, error) {
	s := &Reset{Kept: r.u64()}
	more, n := r.u8(), int(r.u16())
	switch {
	case r.err != nil:
		return nil, r.err
	case n > MaxResetLeaves:
		return nil, fmt.Errorf("%w: a reset with %d leaves", ErrLimit, n)
	case s.Kept == 0 || s.Kept >= MaxLog || more > 1 || n == 0:
		return nil, fmt.Errorf("%w: a reset at %d, with %d leaves", ErrMalformed, s.Kept, n)
	}
	s.More = more == 1
	for range n {
		s.Leaves = append(s.Leaves, r.hash())
	}
	return s, r.err
}

// A LostLog is a log that a reset has ended: the first Kept commits of the log in
// which the reset stands, and then these.
type LostLog struct {
	Kept   uint64
	Leaves []Hash
}

// Size returns the number of its commits.
func (l *LostLog) Size() uint64 { return l.Kept + uint64(len(l.Leaves)) }

// Statements returns the reset of the log, in as many parts as it takes.
func (l *LostLog) Statements() (out []*Reset) {
	kept := l.Kept
	for rest := l.Leaves; len(rest) > 0; {
		n := min(len(rest), MaxResetLeaves)
		out = append(out, &Reset{Kept: kept, More: n < len(rest), Leaves: rest[:n]})
		kept, rest = kept+uint64(n), rest[n:]
	}
	return out
}

// Add takes the next part of a reset, from the zero value on. It returns
// [ErrControlFork] for one that does not go on where the part before ended.
func (l *LostLog) Add(r *Reset) error {
	if len(l.Leaves) == 0 {
		l.Kept = r.Kept
	}
	if r.Kept != l.Size() {
		return fmt.Errorf("%w: a reset goes on at %d, after %d", ErrControlFork, r.Kept, l.Size())
	}
	l.Leaves = append(l.Leaves, r.Leaves...)
	return nil
}

// RootsAt returns the roots of the lost log at sizes from Kept to its own, which
// ascend. h holds the tree of the log in which the reset stands, at least up to Kept.
func (l *LostLog) RootsAt(h Hashes, sizes ...uint64) (roots []Hash, err error) {
	t := lostTree{h: h, from: TreeIndex(l.Kept)}
	size := l.Kept
	for _, want := range sizes {
		if want < size || want > l.Size() {
			return nil, fmt.Errorf("root at %d of a lost log from %d to %d", want, size, l.Size())
		}
		for ; size < want; size++ {
			grown, err := GrowTree(&t, size, l.Leaves[size-l.Kept])
			if err != nil {
				return nil, err
			}
			t.hashes = append(t.hashes, grown...)
		}
		root, err := TreeRoot(&t, size)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// lostTree is the tree of a lost log: another one up to an index, and what was added.
type lostTree struct {
	h      Hashes
	from   int64
	hashes []Hash
}

func (t *lostTree) ReadHash(index int64) (Hash, error) {
	if index < t.from {
		return t.h.ReadHash(index)
	}
	if i := index - t.from; i < int64(len(t.hashes)) {
		return t.hashes[i], nil
	}
	return Hash{}, fmt.Errorf("hash %d of a lost log is not there yet", index)
}
