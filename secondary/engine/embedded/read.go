package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Read implements [engine.Engine].
func (e *Engine) Read(ctx context.Context, r engine.ReadRequest, fn func(*engine.Entry) (bool, error)) (p engine.Progress, err error) {
	err = e.view(ctx, r.Vault, func(tx *store.Tx, l *store.Log) error {
		p = engine.Progress{Next: r.After, Size: l.Size()}
		for p.Next < commitlog.CommitID(p.Size) {
			entry, err := readEntry(l, p.Next+1, &r)
			if err != nil {
				return err
			}
			taken, err := fn(entry)
			if err != nil {
				return err
			}
			if !taken {
				break
			}
			p.Next++
		}
		upTo, err := l.Sum(p.Next)
		if err != nil {
			return err
		}
		all, err := l.Sum(commitlog.CommitID(p.Size))
		p.Left = all - upTo
		return err
	})
	return p, err
}

func readEntry(l *store.Log, id commitlog.CommitID, r *engine.ReadRequest) (*engine.Entry, error) {
	if r.Stubs != nil {
		raw, err := l.Header(id)
		if err != nil {
			return nil, err
		}
		h, err := commitlog.ParseHeader(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: header of commit %d", store.ErrDamaged, id)
		}
		if h.Device == *r.Stubs {
			return &engine.Entry{ID: id, Seq: h.Seq}, nil
		}
	}
	b, err := l.Commit(id)
	if err != nil {
		return nil, err
	}
	h := &b.Commit.Header
	if r.Tags != nil && h.Kind != commitlog.KindControl && !r.Tags[h.Tag] {
		clear(b.Blobs)
	}
	for i := range b.Blobs {
		if r.Dead && h.Kind != commitlog.KindControl && l.Live(h.Tag, commitlog.ChangeID{Commit: id, Index: uint16(i)}) {
			b.Blobs[i] = nil
		}
	}
	return &engine.Entry{ID: id, Seq: h.Seq, Bundle: b}, nil
}

// Change implements [engine.Engine].
func (e *Engine) Change(ctx context.Context, vault keys.VaultID, id commitlog.ChangeID) (ch commitlog.Change, blob []byte, err error) {
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		ch, blob, err = l.Entry(id)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("change %v: %w", id, wire.ErrNotFound)
		}
		ch.Entry, blob = bytes.Clone(ch.Entry), bytes.Clone(blob) // outlive the transaction
		return err
	})
	return ch, blob, err
}
