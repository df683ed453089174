package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// vaultObjects returns the vault's objects. Each vault has a directory of its
// own: one never learns what another has.
func (e *Engine) vaultObjects(vault keys.VaultID) (*store.Objects, error) {
	dir := filepath.Join(e.objects, vault.String())
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return store.OpenObjects(dir)
}

func (e *Engine) haveObject(vault keys.VaultID, hash commitlog.Hash) (uint64, bool, error) {
	o, err := e.vaultObjects(vault)
	if err != nil {
		return 0, false, err
	}
	have, whole, err := o.Have(hash)
	return uint64(have), whole, err
}

func (e *Engine) objectLock(hash commitlog.Hash) *sync.Mutex {
	return &e.objectMu[int(hash[0])%len(e.objectMu)]
}

// HaveObject implements [engine.Engine].
func (e *Engine) HaveObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash) (uint64, bool, error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	return e.haveObject(vault, hash)
}

// WriteObject implements [engine.Engine].
func (e *Engine) WriteObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash, size, offset uint64, data []byte) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	o, err := e.vaultObjects(vault)
	if err != nil {
		return 0, err
	}
	mu := e.objectLock(hash)
	mu.Lock()
	defer mu.Unlock()
	have, err := o.Write(hash, int64(size), int64(offset), data)
	if len(data) == 0 && have > 0 {
		e.asked.add(objectKey{vault, hash})
	}
	if errors.Is(err, commitlog.ErrBlob) {
		have = 0
	}
	return uint64(have), err
}

// OpenObject implements [engine.Engine].
func (e *Engine) OpenObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash) (engine.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o, err := e.vaultObjects(vault)
	if err != nil {
		return nil, err
	}
	f, err := o.Open(hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("object: %w", wire.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return object{f}, nil
}

type object struct{ *store.Object }

func (o object) Size() uint64 { return uint64(o.Object.Size) }
