package embedded

import (
	"context"
	"io"
	"path/filepath"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// Snapshot implements [engine.Keeper].
func (e *Engine) Snapshot(ctx context.Context, begin func(size int64) (io.Writer, error)) error {
	return e.db.View(func(tx *store.Tx) error {
		w, err := begin(tx.Size())
		if err != nil {
			return err
		}
		_, err = tx.WriteTo(contextWriter{ctx, w})
		return err
	})
}

// contextWriter is a writer that ends with a context.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// Hold implements [engine.Keeper].
func (e *Engine) Hold() (release func()) {
	e.holdMu.RLock()
	return e.holdMu.RUnlock
}

// A NamedObject is the object of a change whose blob is here.
type NamedObject struct {
	Vault keys.VaultID
	Hash  commitlog.Hash
	Size  uint64
}

// EachNamed calls fn for the objects that the changes name whose blobs are here, one
// more than once where several do, until it returns an error. fn may use the engine.
func (e *Engine) EachNamed(ctx context.Context, fn func(NamedObject) error) error {
	all, err := e.vaults(func(r *tenant) bool { return r.state != engine.StateRemoved })
	for _, vault := range all {
		if err != nil {
			return err
		}
		var named []NamedObject
		err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
			return l.EachChange(0, func(_ commitlog.ChangeID, ch *commitlog.Change, blob []byte) error {
				if blob != nil && ch.HasObject() {
					named = append(named, NamedObject{vault, ch.ObjectHash, ch.ObjectSize})
				}
				return nil
			})
		})
		for i := 0; i < len(named) && err == nil; i++ {
			err = fn(named[i])
		}
	}
	return err
}

// ObjectFile returns the path of a whole object's file in an engine's directory.
func ObjectFile(dir string, vault keys.VaultID, hash commitlog.Hash) string {
	return store.ObjectFile(filepath.Join(dir, "objects", vault.String()), hash)
}
