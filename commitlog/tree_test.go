package commitlog_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
)

// hashes is a tree in memory.
type hashes []commitlog.Hash

func (h hashes) ReadHash(i int64) (commitlog.Hash, error) { return h[i], nil }

// growTree returns the tree of n leaves, and its roots at 0 … n. Up to the
// size same it is the same for every seed.
func growTree(t *testing.T, n, same uint64, seed byte) (hashes, []commitlog.Hash) {
	t.Helper()
	var tree hashes
	roots := []commitlog.Hash{commitlog.EmptyRoot}
	for i := range n {
		leaf := commitlog.Hash{byte(i), byte(i >> 8)}
		if i >= same {
			leaf[31] = seed
		}
		stored, err := commitlog.GrowTree(tree, i, leaf)
		fatal(t, err)
		tree = append(tree, stored...)
		root, err := commitlog.TreeRoot(tree, i+1)
		fatal(t, err)
		roots = append(roots, root)
	}
	return tree, roots
}

// A proof is good for the two trees that it was made for, and for no others.
func TestProveTree(t *testing.T) {
	const n = 33
	tree, roots := growTree(t, n, 0, 1)
	for to := uint64(1); to <= n; to++ {
		for from := uint64(1); from <= to; from++ {
			proof, err := commitlog.ProveTree(tree, from, to)
			fatal(t, err)
			if err := commitlog.CheckTree(proof, from, roots[from], to, roots[to]); err != nil {
				t.Fatalf("from %d to %d: %v", from, to, err)
			}
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, commitlog.ErrFork) {
					t.Errorf("from %d to %d, %s: %v, want ErrFork", from, to, what, err)
				}
			}
			refused("another first root", commitlog.CheckTree(proof, from, commitlog.Hash{1}, to, roots[to]))
			refused("another last root", commitlog.CheckTree(proof, from, roots[from], to, commitlog.Hash{1}))
			refused("a hash more", commitlog.CheckTree(append(slices.Clone(proof), commitlog.Hash{}), from, roots[from], to, roots[to]))
			for i := range proof {
				bad := slices.Clone(proof)
				bad[i][0] ^= 1
				refused("a hash changed", commitlog.CheckTree(bad, from, roots[from], to, roots[to]))
				refused("a hash less", commitlog.CheckTree(slices.Delete(slices.Clone(proof), i, i+1), from, roots[from], to, roots[to]))
			}
		}
	}
	if _, err := commitlog.ProveTree(tree, 0, n); err == nil {
		t.Error("proof from nothing")
	}
	if _, err := commitlog.ProveTree(tree, 5, 4); err == nil {
		t.Error("proof backwards")
	}
}

// Two logs that part have no proof between them.
func TestCheckTreeFork(t *testing.T) {
	_, ours := growTree(t, 12, 9, 1)
	theirs, roots := growTree(t, 20, 9, 2)
	for from := uint64(1); from <= 12; from++ {
		proof, err := commitlog.ProveTree(theirs, from, 20)
		fatal(t, err)
		err = commitlog.CheckTree(proof, from, ours[from], 20, roots[20])
		if same := from <= 9; same && err != nil || !same && !errors.Is(err, commitlog.ErrFork) {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

func TestCheckTreeEdges(t *testing.T) {
	tree, roots := growTree(t, 3, 0, 1)
	proof, err := commitlog.ProveTree(tree, 2, 3)
	fatal(t, err)
	for _, tt := range []struct {
		name     string
		proof    []commitlog.Hash
		from, to uint64
		fromRoot commitlog.Hash
		toRoot   commitlog.Hash
		want     error
	}{
		{"from the empty log", nil, 0, 3, roots[0], roots[3], nil},
		{"both empty", nil, 0, 0, roots[0], roots[0], nil},
		{"both empty, with a root", nil, 0, 0, roots[0], roots[3], commitlog.ErrFork},
		{"from the empty log, with a root", nil, 0, 3, roots[1], roots[3], commitlog.ErrFork},
		{"from the empty log, with hashes", proof, 0, 3, roots[0], roots[3], commitlog.ErrFork},
		{"the same", nil, 3, 3, roots[3], roots[3], nil},
		{"one size, two roots", nil, 3, 3, roots[2], roots[3], commitlog.ErrFork},
		{"back", proof, 3, 2, roots[3], roots[2], commitlog.ErrRollback},
		{"too large", proof, 2, commitlog.MaxLog, roots[2], roots[3], commitlog.ErrLimit},
	} {
		if err := commitlog.CheckTree(tt.proof, tt.from, tt.fromRoot, tt.to, tt.toRoot); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
