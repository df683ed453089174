package commitlog

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// EmptyRoot is the root of a log without commits, SHA-256 of nothing
// (RFC 6962, section 2.1).
var EmptyRoot Hash = sha256.Sum256(nil)

func sha256Sum(b []byte) Hash { return sha256.Sum256(b) }

// Hashes holds the stored hashes of a tree: leaves and the roots of complete
// subtrees, by the index that x/mod's tlog gives them.
type Hashes interface {
	ReadHash(index int64) (Hash, error)
}

// hashReader makes a tlog.HashReader of Hashes.
type hashReader struct{ h Hashes }

func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		h, err := r.h.ReadHash(x)
		if err != nil {
			return nil, err
		}
		out[i] = tlog.Hash(h)
	}
	return out, nil
}

// GrowTree returns the hashes to store for the leaf of the commit that follows
// the first size commits. The first belongs at the index [TreeIndex] of size,
// the others directly after it.
func GrowTree(h Hashes, size uint64, leaf Hash) ([]Hash, error) {
	stored, err := tlog.StoredHashesForRecordHash(int64(size), tlog.Hash(leaf), hashReader{h})
	if err != nil {
		return nil, fmt.Errorf("growing tree of %d: %w", size, err)
	}
	out := make([]Hash, len(stored))
	for i, s := range stored {
		out[i] = Hash(s)
	}
	return out, nil
}

// TreeIndex returns the number of hashes that are stored for a tree of size
// leaves, and so the index of the next.
func TreeIndex(size uint64) int64 { return tlog.StoredHashCount(int64(size)) }

// TreePlace returns at which level of the tree the hash with an index stands, and which
// commit completes it: the last below it. The leaves are at level 0.
func TreePlace(index int64) (level int, by CommitID) {
	level, n := tlog.SplitStoredHashIndex(index)
	return level, CommitID(n+1) << level
}

// ProveTree returns the proof that the tree of the first from leaves, from 1, is
// the beginning of that of the first to (RFC 6962, section 2.1.2).
func ProveTree(h Hashes, from, to uint64) ([]Hash, error) {
	proof, err := tlog.ProveTree(int64(to), int64(from), hashReader{h})
	if err != nil {
		return nil, fmt.Errorf("proof from %d to %d: %w", from, to, err)
	}
	out := make([]Hash, len(proof))
	for i, p := range proof {
		out[i] = Hash(p)
	}
	return out, nil
}

// CheckTree checks the proof that the tree of from leaves with one root is the
// beginning of the tree of to leaves with the other. It returns [ErrFork] where
// it does not prove that, and [ErrRollback] where to is below from. The empty
// log is the beginning of every other, without hashes.
func CheckTree(proof []Hash, from uint64, fromRoot Hash, to uint64, toRoot Hash) error {
	switch {
	case to < from:
		return fmt.Errorf("%w: %d after %d", ErrRollback, to, from)
	case to >= MaxLog:
		return fmt.Errorf("%w: log of %d", ErrLimit, to)
	case from == 0:
		if len(proof) > 0 || fromRoot != EmptyRoot || to == 0 && toRoot != EmptyRoot {
			return fmt.Errorf("%w: proof from the empty log", ErrFork)
		}
		return nil
	}
	p := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(p, int64(to), tlog.Hash(toRoot), int64(from), tlog.Hash(fromRoot)); err != nil {
		return fmt.Errorf("%w: the log of %d does not continue that of %d", ErrFork, to, from)
	}
	return nil
}

// TreeRoot returns the root over the first size leaves.
func TreeRoot(h Hashes, size uint64) (Hash, error) {
	if size == 0 {
		return EmptyRoot, nil
	}
	root, err := tlog.TreeHash(int64(size), hashReader{h})
	if err != nil {
		return Hash{}, fmt.Errorf("root at %d: %w", size, err)
	}
	return Hash(root), nil
}
