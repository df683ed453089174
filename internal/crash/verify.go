package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
)

// serverLog is what the server's files hold of the vault.
type serverLog struct {
	size             uint64
	root             commitlog.Hash // computed from the headers
	changes, objects int
}

// readServer reads the data directory of a server that does not run, and checks
// it: each bundle is what its hashes say, each author's commits follow one
// another by sequence number and by hash, objects are whole, and the stored tree
// is that of the headers.
func readServer(ctx context.Context, dir string, vault keys.VaultID, c *checks) (l serverLog, err error) {
	d, err := secondary.OpenDataDir(dir)
	if err != nil {
		return l, err
	}
	defer d.Close()
	e, err := d.OpenEngine()
	if err != nil {
		return l, err
	}
	defer e.Close()
	n, err := e.Vaults(ctx)
	if err != nil {
		return l, err
	}
	c.that(n == 1, "the server has %d vaults", n)
	head, err := e.Head(ctx, vault, math.MaxUint64)
	if err != nil {
		return l, err
	}

	type author struct {
		seq  uint64
		leaf commitlog.Hash
	}
	authors := make(map[keys.DeviceID]author)
	var tree tree
	_, err = e.Read(ctx, engine.ReadRequest{Vault: vault}, func(entry *engine.Entry) (bool, error) {
		l.size++
		data, err := entry.Bundle.AppendBinary(nil)
		if err != nil {
			return false, err
		}
		b, err := commitlog.ParseBundle(data)
		if !c.that(err == nil && uint64(b.ID) == l.size, "the server's commit %d: %v", l.size, err) {
			return true, nil
		}
		whole := true
		for _, blob := range b.Blobs {
			whole = whole && blob != nil
		}
		h := &b.Commit.Header
		before := authors[h.Device]
		c.that(whole, "the server's commit %d: a blob is not there", l.size)
		c.that(h.Seq > before.seq && h.PrevLeaf == before.leaf, "the server's commit %d: number %d of its author after %d, or it follows another", l.size, h.Seq, before.seq)
		authors[h.Device] = author{h.Seq, b.Commit.Leaf()}
		tree.add(b.Commit.Raw)
		l.changes += len(b.Commit.Changes)
		for i := range b.Commit.Changes {
			if ch := &b.Commit.Changes[i]; ch.HasObject() {
				l.objects++
				err := checkObject(ctx, e, vault, ch)
				c.that(err == nil, "the server's commit %d: change %d: %v", l.size, i, err)
			}
		}
		return true, nil
	})
	if err != nil {
		return l, err
	}
	l.root = tree.root()
	c.that(head.Size == l.size && head.Root == l.root, "the server's tree of %d commits is not that of its %d headers", head.Size, l.size)
	return l, nil
}

func checkObject(ctx context.Context, e engine.Engine, vault keys.VaultID, ch *commitlog.Change) error {
	o, err := e.OpenObject(ctx, vault, ch.ObjectHash)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(o, 0, math.MaxInt64))
	if err = errors.Join(err, o.Close()); err != nil {
		return err
	}
	if o.Size() != ch.ObjectSize || !bytes.Equal(h.Sum(nil), ch.ObjectHash[:]) {
		return fmt.Errorf("its object of %d bytes is another", o.Size())
	}
	return nil
}

// tree computes a Merkle root (RFC 6962, section 2.1), by itself, so that it
// shares no mistake with package commitlog.
type tree struct {
	peaks []peak // of full subtrees, largest first
}

type peak struct {
	leaves uint64
	hash   commitlog.Hash
}

func (t *tree) add(leaf []byte) {
	p := peak{1, sha256.Sum256(append([]byte{0}, leaf...))}
	for n := len(t.peaks); n > 0 && t.peaks[n-1].leaves == p.leaves; n-- {
		p = peak{2 * p.leaves, node(t.peaks[n-1].hash, p.hash)}
		t.peaks = t.peaks[:n-1]
	}
	t.peaks = append(t.peaks, p)
}

func (t *tree) root() commitlog.Hash {
	if len(t.peaks) == 0 {
		return sha256.Sum256(nil)
	}
	h := t.peaks[len(t.peaks)-1].hash
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = node(t.peaks[i].hash, h)
	}
	return h
}

func node(left, right commitlog.Hash) commitlog.Hash {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}
