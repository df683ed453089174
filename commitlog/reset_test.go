package commitlog_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/kistvault/kist/commitlog"
)

// growing is a tree in memory.
type growing []commitlog.Hash

func (g *growing) ReadHash(i int64) (commitlog.Hash, error) {
	if i >= int64(len(*g)) {
		return commitlog.Hash{}, errors.New("no such hash")
	}
	return (*g)[i], nil
}

func (g *growing) grow(t *testing.T, size uint64, leaf commitlog.Hash) {
	t.Helper()
	hashes, err := commitlog.GrowTree(g, size, leaf)
	fatal(t, err)
	*g = append(*g, hashes...)
}

// TestLostLog compares the roots of a lost log with those of the log itself.
func TestLostLog(t *testing.T) {
	leaf := func(branch, n uint64) (h commitlog.Hash) {
		binary.BigEndian.PutUint64(h[:], branch)
		binary.BigEndian.PutUint64(h[8:], n)
		return h
	}
	const kept, lost = 37, 150
	var own, other growing
	l := commitlog.LostLog{Kept: kept}
	for n := range uint64(lost) {
		branch := uint64(1)
		if n >= kept {
			branch = 2
			l.Leaves = append(l.Leaves, leaf(1, n))
		}
		own.grow(t, n, leaf(1, n))
		other.grow(t, n, leaf(branch, n))
	}
	if l.Size() != lost {
		t.Fatalf("size %d", l.Size())
	}
	var sizes []uint64
	for n := uint64(kept); n <= lost; n++ {
		sizes = append(sizes, n, n)
	}
	roots, err := l.RootsAt(&other, sizes...)
	fatal(t, err)
	for i, n := range sizes {
		want, err := commitlog.TreeRoot(&own, n)
		fatal(t, err)
		if roots[i] != want {
			t.Errorf("root at %d", n)
		}
	}
	for _, sizes := range [][]uint64{{kept - 1}, {lost + 1}, {kept + 2, kept + 1}} {
		if _, err := l.RootsAt(&other, sizes...); err == nil {
			t.Errorf("roots at %v", sizes)
		}
	}
}

// TestResetInParts takes the reset of a long log apart and puts it together.
func TestResetInParts(t *testing.T) {
	l := commitlog.LostLog{Kept: 5, Leaves: make([]commitlog.Hash, 2*commitlog.MaxResetLeaves+1)}
	for i := range l.Leaves {
		binary.BigEndian.PutUint64(l.Leaves[i][:], uint64(i))
	}
	parts := l.Statements()
	if len(parts) != 3 || parts[2].More || !parts[0].More || !parts[1].More {
		t.Fatalf("%d parts", len(parts))
	}
	var again commitlog.LostLog
	for _, p := range parts {
		b, err := (&commitlog.Statement{Number: 7, Reset: p}).AppendBinary(nil)
		fatal(t, err)
		if len(b) > commitlog.MaxStatement {
			t.Errorf("statement of %d bytes", len(b))
		}
		s, err := commitlog.ParseStatement(b)
		fatal(t, err)
		fatal(t, again.Add(s.Reset))
	}
	if again.Size() != l.Size() || again.Leaves[40000-7233] != l.Leaves[40000-7233] {
		t.Errorf("%d commits", again.Size())
	}
	if err := again.Add(parts[0]); !errors.Is(err, commitlog.ErrControlFork) {
		t.Errorf("a part twice: %v", err)
	}
	if _, err := (&commitlog.Statement{Number: 7, Reset: &commitlog.Reset{Kept: 1, Leaves: make([]commitlog.Hash, commitlog.MaxResetLeaves+1)}}).AppendBinary(nil); !errors.Is(err, commitlog.ErrLimit) {
		t.Errorf("too many leaves: %v", err)
	}
	for name, r := range map[string]*commitlog.Reset{
		"nothing kept": {Leaves: l.Leaves[:1]},
		"no leaves":    {Kept: 1},
		"beyond logs":  {Kept: commitlog.MaxLog, Leaves: l.Leaves[:1]},
	} {
		b, err := (&commitlog.Statement{Number: 7, Reset: r}).AppendBinary(nil)
		fatal(t, err)
		if _, err := commitlog.ParseStatement(b); !errors.Is(err, commitlog.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
