package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// Export implements [engine.Carrying]. What a log has up to its present end stays as it
// is, and the rest is read at once: so it is of one moment, without a transaction that
// is as long as the taker takes. Files of objects stay until it is done; of blobs
// compaction drops such as were superseded days ago.
func (e *Engine) Export(ctx context.Context, vault keys.VaultID, to engine.Taker) (engine.Exported, error) {
	defer e.Hold()()
	x := export{e: e, vault: vault, to: to, seen: make(map[commitlog.Hash]struct{})}
	err := e.view(ctx, vault, func(tx *store.Tx, l *store.Log) (err error) {
		if x.w, err = whole(tx, l); err == nil {
			err = x.readPoints(tx, l)
		}
		return err
	})
	if err == nil {
		err = to.Begin(ctx, x.w)
	}
	for err == nil && x.done.Commits < x.w.Size {
		err = x.commits(ctx)
	}
	for i := 0; i < len(x.points) && err == nil; i++ {
		x.done.Checkpoints++
		err = to.Checkpoint(ctx, x.points[i])
	}
	if err == nil {
		err = to.End(ctx)
	}
	return x.done, err
}

// whole returns what is stored of a vault besides its commits.
func whole(tx *store.Tx, l *store.Log) (*engine.Whole, error) {
	r, err := getTenant(tx, l.Vault())
	if err != nil {
		return nil, err
	}
	w := &engine.Whole{
		Vault: l.Vault(), Authority: l.Authority(), Size: l.Size(), Moved: movedAt(tx, l.Vault()),
		Created: fromMillis(r.created), Seen: fromMillis(r.seen), State: r.state, Since: fromMillis(r.since), Own: r.own,
	}
	if w.Root, err = l.RootAt(w.Size); err != nil {
		return nil, err
	}
	return w, l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if id.IsZero() {
			return nil
		}
		d := engine.Device{ID: id, Sign: a.Sign, Auth: a.Auth, Revoked: a.Revoked}
		if a.Scope != nil {
			d.Tags = make([]keys.Tag, len(a.Scope))
		}
		for i, s := range a.Scope {
			d.Tags[i] = s.Tag
		}
		w.Devices = append(w.Devices, d)
		return nil
	})
}

// export is an Export under way.
type export struct {
	e       *Engine
	vault   keys.VaultID
	to      engine.Taker
	w       *engine.Whole
	points  []*commitlog.Checkpoint
	objects *store.Objects // nil: none was named yet
	seen    map[commitlog.Hash]struct{}
	done    engine.Exported
}

// readPoints reads the checkpoints: there is one an active device.
func (x *export) readPoints(tx *store.Tx, l *store.Log) error {
	b := checkpoints(tx, x.vault)
	if b == nil {
		return nil
	}
	return b.Scan(nil, func(k, raw []byte) (bool, error) {
		c, err := commitlog.ParseCheckpoint(bytes.Clone(raw))
		author, aerr := l.Author(keys.DeviceID(k))
		if aerr != nil {
			return false, aerr
		}
		if err != nil || author == nil || c.Vault != x.vault || c.Device != keys.DeviceID(k) || !c.Verify(author.Sign) {
			x.done.Missing++
			return true, nil
		}
		x.points = append(x.points, c)
		return true, nil
	})
}

// commits gives the next commits, which it has read in one transaction.
func (x *export) commits(ctx context.Context) error {
	var next []*engine.WholeCommit
	err := x.e.view(ctx, x.vault, func(_ *store.Tx, l *store.Log) error {
		for n := 0; n < importBytes && len(next) < importCommits && x.done.Commits+uint64(len(next)) < x.w.Size; {
			c, err := x.read(l, commitlog.CommitID(x.done.Commits+uint64(len(next))+1))
			if err != nil {
				return err
			}
			next = append(next, c)
			n += c.Bundle.EncodedSize()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range next {
		for i, blob := range c.Bundle.Blobs {
			if ch := &c.Bundle.Commit.Changes[i]; blob != nil && ch.HasObject() {
				if err := x.object(ctx, ch); err != nil {
					return err
				}
			}
		}
		x.done.Commits++
		x.done.Log += uint64(c.Bundle.EncodedSize())
		if err := x.to.Commit(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// read reads a commit, which outlives the transaction.
func (x *export) read(l *store.Log, id commitlog.CommitID) (*engine.WholeCommit, error) {
	b, err := l.Commit(id)
	if err != nil {
		return nil, err
	}
	b.Commit.Raw = bytes.Clone(b.Commit.Raw)
	for i, blob := range b.Blobs {
		switch {
		case blob != nil && commitlog.CheckBlob(&b.Commit.Changes[i], blob) != nil:
			b.Blobs[i] = nil
			x.done.Missing++
		case blob == nil && l.Live(b.Commit.Header.Tag, commitlog.ChangeID{Commit: id, Index: uint16(i)}):
			x.done.Missing++
		default:
			b.Blobs[i] = bytes.Clone(blob)
		}
	}
	c := &engine.WholeCommit{Bundle: b}
	if c.At, err = l.AppendedAt(id); err != nil {
		return nil, err
	}
	if b.Commit.Header.Kind == commitlog.KindControl {
		c.Resets = uint16(l.Resets(uint64(id)) - l.Resets(uint64(id)-1))
		if c.Epoch, err = l.EpochAt(uint64(id)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// object gives the object of a change, unless one before has named it. One that is not
// what its hash says is read to its end to find that out, before a byte of it is given.
func (x *export) object(ctx context.Context, ch *commitlog.Change) (err error) {
	if _, known := x.seen[ch.ObjectHash]; known {
		return nil
	}
	x.seen[ch.ObjectHash] = struct{}{}
	if x.objects == nil {
		if x.objects, err = x.e.vaultObjects(x.vault); err != nil {
			return err
		}
	}
	good, err := x.objects.Verify(ch.ObjectHash)
	if err != nil {
		return err
	}
	if !good {
		x.done.Missing++
		return nil
	}
	f, err := x.objects.Open(ch.ObjectHash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size != int64(ch.ObjectSize) {
		return fmt.Errorf("%w: object of %d bytes, not %d", store.ErrDamaged, f.Size, ch.ObjectSize)
	}
	x.done.Objects++
	x.done.ObjectBytes += ch.ObjectSize
	return x.to.Object(ctx, ch.ObjectHash, ch.ObjectSize, contextReader{ctx, f})
}

// contextReader is a reader that ends with a context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
