package embedded_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// runsOut is a context that ends when it has been asked some times.
type runsOut struct {
	context.Context
	left int
}

func (c *runsOut) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Compaction that is cut off anywhere, and after which the file is opened anew, goes
// on where it was, and comes to the same.
func TestCompactCut(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	v := rawvault.New()
	d := v.NewDevice()
	now := time.Now()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(e.Invite(t.Context(), wire.Token{1}, 1, now.Add(time.Hour), nil))
	fatal(e.Create(t.Context(), wire.Token{1}, v.Authority.Public(), now))
	add := func(b *commitlog.Bundle, c *wire.Control) {
		t.Helper()
		out, _, err := e.Append(t.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now})
		if err != nil || out[0].Err != nil {
			t.Fatalf("append: %+v, %v", out, err)
		}
		v.Appended(b.Commit.Leaf())
	}
	add(v.ControlCommit(d.Registration(false)))

	// 2.0 to 2.n with an object each; 3 ends them all.
	const n, objects = 5000, 300
	var changes []commitlog.Change
	var blobs [][]byte
	var ends []commitlog.Change
	for i := range n {
		c, blob := rawvault.Put(commitlog.MinBlob)
		if i < objects {
			c.ObjectHash, c.ObjectSize = rawObject(t, e, v)
		}
		changes, blobs = append(changes, c), append(blobs, blob)
		if i%200 == 0 {
			end, _ := rawvault.Put(commitlog.MinBlob)
			ends = append(ends, end)
		}
		end := &ends[len(ends)-1]
		end.Refs = append(end.Refs, commitlog.Ref{At: 2, Index: uint16(i)})
	}
	second := d.CommitOf(keys.Tag{1}, changes, blobs)
	add(second, nil)
	var endBlobs [][]byte
	for i := range ends {
		c, blob := rawvault.Put(commitlog.MinBlob)
		ends[i].BlobHash, ends[i].BlobSize = c.BlobHash, c.BlobSize
		endBlobs = append(endBlobs, blob)
	}
	add(d.CommitOf(keys.Tag{1}, ends, endBlobs), nil)

	var sum engine.Compacted
	for cut := 1; ; cut++ {
		ctx := &runsOut{t.Context(), cut}
		done, err := e.Compact(ctx, now)
		sum.Blobs += done.Blobs
		sum.Objects += done.Objects
		fatal(e.Close())
		e = open(t, dir)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if sum.Blobs != n || sum.Objects != objects {
		t.Errorf("dropped in all: %+v", sum)
	}
	done, err := e.Compact(t.Context(), now)
	if done != (engine.Compacted{}) || err != nil {
		t.Errorf("once more: %+v, %v", done, err)
	}
	if h, err := e.Head(t.Context(), v.ID(), 3); err != nil || h.Root != v.Root(3) {
		t.Errorf("head: %+v, %v", h, err)
	}

	// What a device has filled in again goes again.
	again := &commitlog.Bundle{ID: 2, Commit: second.Commit, Blobs: blobs}
	if _, err := e.Refill(t.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{again}, Now: now}); err != nil {
		t.Fatal(err)
	}
	if done, err = e.Compact(t.Context(), now); done.Blobs != n || err != nil {
		t.Errorf("after filling in: %+v, %v", done, err)
	}
	fatal(e.Close())
	before, after, err := embedded.Rewrite(dir)
	if err != nil || after >= before {
		t.Errorf("rewritten: %d to %d bytes, %v", before, after, err)
	}
	e = open(t, dir)
	defer e.Close()
	if h, err := e.Head(t.Context(), v.ID(), 3); err != nil || h.Root != v.Root(3) {
		t.Errorf("head: %+v, %v", h, err)
	}
}

func rawObject(t *testing.T, e *embedded.Engine, v *rawvault.Vault) (commitlog.Hash, uint64) {
	t.Helper()
	_, data := rawvault.Put(commitlog.MinBlob)
	hash := commitlog.Hash(sha256.Sum256(data))
	if _, err := e.WriteObject(t.Context(), v.ID(), hash, uint64(len(data)), 0, data); err != nil {
		t.Fatal(err)
	}
	return hash, uint64(len(data))
}
