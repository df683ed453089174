package embedded

import (
	"context"
	"errors"
	"io"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// Export implements [engine.Carrying]. It is one read transaction, so all it gives is of
// one moment; files of objects are not removed meanwhile.
func (e *Engine) Export(ctx context.Context, vault keys.VaultID, to engine.Taker) (engine.Exported, error) {
	defer e.Hold()()
	x := export{e: e, vault: vault, to: to, seen: make(map[commitlog.Hash]struct{})}
	err := e.view(ctx, vault, func(tx *store.Tx, l *store.Log) error {
		w, err := whole(tx, l)
		if err == nil {
			err = to.Begin(ctx, w)
		}
		for id := commitlog.CommitID(1); err == nil && uint64(id) <= w.Size; id++ {
			err = x.commit(ctx, l, id)
		}
		if err == nil {
			err = x.checkpoints(ctx, tx, l)
		}
		if err == nil {
			err = to.End(ctx)
		}
		return err
	})
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
	objects *store.Objects // nil: none was named yet
	seen    map[commitlog.Hash]struct{}
	done    engine.Exported
}

func (x *export) commit(ctx context.Context, l *store.Log, id commitlog.CommitID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := l.Commit(id)
	if err != nil {
		return err
	}
	c := &engine.WholeCommit{Bundle: b}
	if c.At, err = l.AppendedAt(id); err != nil {
		return err
	}
	if b.Commit.Header.Kind == commitlog.KindControl {
		c.Resets = uint16(l.Resets(uint64(id)) - l.Resets(uint64(id)-1))
		if c.Epoch, err = l.EpochAt(uint64(id)); err != nil {
			return err
		}
	}
	for i := range b.Blobs {
		ch := &b.Commit.Changes[i]
		if b.Blobs[i] != nil && commitlog.CheckBlob(ch, b.Blobs[i]) != nil {
			b.Blobs[i] = nil
			x.done.Missing++
		} else if b.Blobs[i] == nil && l.Live(b.Commit.Header.Tag, commitlog.ChangeID{Commit: id, Index: uint16(i)}) {
			x.done.Missing++
		}
		if b.Blobs[i] != nil && ch.HasObject() {
			if err := x.object(ctx, ch); err != nil {
				return err
			}
		}
	}
	x.done.Commits++
	x.done.Log += uint64(b.EncodedSize())
	return x.to.Commit(ctx, c)
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
	if f.Size != int64(ch.ObjectSize) {
		x.done.Missing++
		return f.Close()
	}
	x.done.Objects++
	x.done.ObjectBytes += ch.ObjectSize
	return errors.Join(x.to.Object(ctx, ch.ObjectHash, ch.ObjectSize, contextReader{ctx, f}), f.Close())
}

func (x *export) checkpoints(ctx context.Context, tx *store.Tx, l *store.Log) error {
	b := checkpoints(tx, x.vault)
	if b == nil {
		return nil
	}
	return b.Scan(nil, func(k, raw []byte) (bool, error) {
		c, err := commitlog.ParseCheckpoint(append([]byte(nil), raw...))
		author, aerr := l.Author(keys.DeviceID(k))
		if aerr != nil {
			return false, aerr
		}
		if err != nil || author == nil || c.Vault != x.vault || c.Device != keys.DeviceID(k) || !c.Verify(author.Sign) {
			x.done.Missing++
			return true, nil
		}
		x.done.Checkpoints++
		return true, x.to.Checkpoint(ctx, c)
	})
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
