package embedded

import (
	"context"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// stateReader is an [engine.StateReader]: each Next is a transaction of its own.
type stateReader struct {
	e     *Engine
	vault keys.VaultID
	at    *store.LiveAt
}

// OpenState implements [engine.Engine].
func (e *Engine) OpenState(ctx context.Context, vault keys.VaultID, size uint64) (engine.StateReader, error) {
	err := e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		if size > l.Size() {
			return fmt.Errorf("%w: the log has %d commits, not %d", wire.ErrNotFound, l.Size(), size)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &stateReader{e: e, vault: vault, at: store.NewLiveAt(size)}, nil
}

// Next implements [engine.StateReader].
func (r *stateReader) Next(ctx context.Context, after engine.Place, fn func(*engine.LiveChange) (bool, error)) error {
	return r.e.view(ctx, r.vault, func(_ *store.Tx, l *store.Log) error {
		tags, err := r.at.Tags(l)
		if err != nil {
			return err
		}
		first := slices.Index(tags, after.Tag)
		if first < 0 {
			if after != (engine.Place{}) {
				return fmt.Errorf("%w: nothing was live in that namespace", wire.ErrProtocol)
			}
			first = 0
		}
		var c engine.LiveChange
		more := true
		for _, tag := range tags[first:] {
			if tag != after.Tag {
				after = engine.Place{Tag: tag}
			}
			err := r.at.Each(l, tag, after.ID, func(id commitlog.ChangeID) (bool, error) {
				if c.Header == nil || c.Place.ID.Commit != id.Commit {
					if c.Header, err = l.Header(id.Commit); err != nil {
						return false, err
					}
				}
				c.Place = engine.Place{Tag: tag, ID: id}
				ch, blob, err := l.Entry(id)
				if err != nil {
					return false, err
				}
				c.Entry, c.Blob = ch.Entry, blob
				more, err = fn(&c)
				return more, err
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
}
