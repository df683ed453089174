package embedded

import (
	"context"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Refill implements [engine.Engine].
func (e *Engine) Refill(ctx context.Context, r engine.AppendRequest) (size uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if r.Control != nil && len(r.Bundles) != 1 {
		return 0, fmt.Errorf("%w: a control commit beside others", wire.ErrProtocol)
	}
	if err := e.verify(ctx, &r); err != nil {
		return 0, err
	}
	if err := e.countFirst(r.Vault); err != nil {
		return 0, err
	}
	unlock, err := e.keeping.lock(ctx, r.Vault) // a change may have its blob again, with the object that it names
	if err != nil {
		return 0, err
	}
	defer unlock()
	var refused error
	err = e.db.Update(func(tx *store.Tx) error {
		refused = nil
		if _, err := active(tx, r.Vault); err != nil {
			return err
		}
		l, err := vaultLog(tx, r.Vault)
		if err != nil {
			return err
		}
		for _, b := range r.Bundles {
			if refused, err = e.refill(tx, l, &r, b); err != nil || refused != nil {
				break
			}
		}
		size = l.Size()
		return err
	})
	if err == nil {
		err = refused
	}
	return size, err
}

// verify verifies the signatures of commits whose author is known, before the
// transaction in which one after the other is decided on: it takes longer than all else.
// What it finds [commitlog.Check] asks for.
func (e *Engine) verify(ctx context.Context, r *engine.AppendRequest) error {
	authors := make([]*commitlog.Author, len(r.Bundles))
	err := e.peek(ctx, r.Vault, func(_ *store.Tx, l *store.Log) (err error) {
		for i, b := range r.Bundles {
			if authors[i], err = l.Author(b.Commit.Header.Device); err != nil {
				return err
			}
		}
		return nil
	})
	for i, b := range r.Bundles {
		if err == nil && authors[i] != nil {
			b.Commit.Verify(r.Vault, authors[i].Sign)
		}
	}
	return err
}

// refill puts one commit into its place. What is refused has written nothing.
func (e *Engine) refill(tx *store.Tx, l *store.Log, r *engine.AppendRequest, b *commitlog.Bundle) (refused, err error) {
	refuse := func(err error, reason string) (error, error) {
		return &commitlog.CommitError{ID: b.ID, Err: err, Reason: reason}, nil
	}
	if uint64(b.ID) > l.Size() {
		if b.ID != commitlog.CommitID(l.Size()+1) {
			return refuse(commitlog.ErrOmission, fmt.Sprintf("the log has %d commits", l.Size()))
		}
		if _, err := e.add(tx, l, r, b, true); err != nil && wire.CodeOf(err) == 0 {
			return nil, err
		} else if err != nil {
			return err, nil
		}
		return nil, nil
	}
	header, err := l.Header(b.ID)
	if err != nil {
		return nil, err
	}
	if commitlog.LeafHash(header) != b.Commit.Leaf() {
		return refuse(commitlog.ErrFork, "another commit is there")
	}
	at := func(i int) commitlog.ChangeID { return commitlog.ChangeID{Commit: b.ID, Index: uint16(i)} }
	came := int64(0)
	for i, blob := range b.Blobs {
		if blob == nil {
			continue
		}
		if _, there, err := l.Entry(at(i)); err != nil {
			return nil, err
		} else if there == nil {
			came += int64(len(blob))
		}
	}
	if err := e.blobsFit(tx, l, r.Vault, b.Commit, uint64(came)); err != nil && wire.CodeOf(err) == 0 {
		return nil, err
	} else if err != nil {
		return err, nil
	}
	for i, blob := range b.Blobs {
		if blob == nil {
			continue
		}
		if err := l.SetBlob(at(i), blob); err != nil {
			return nil, err
		}
	}
	if err := addDropped(tx, r.Vault, -came); err != nil {
		return nil, err
	}
	if c := compacted(tx, r.Vault); c != nil { // which looks at it once more
		return nil, c.Delete(compactPlace)
	}
	return nil, nil
}
