package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

func (e *Engine) objectDir(vault keys.VaultID) string {
	return filepath.Join(e.objects, vault.String())
}

// noPath takes the path of a file out of an error, as it names the vault: what goes wrong
// is logged.
func noPath(err error) error {
	if err == nil || wire.CodeOf(err) != 0 {
		return err
	}
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return fmt.Errorf("file of an object: %s: %w", path.Op, path.Err)
	case errors.As(err, &link):
		return fmt.Errorf("file of an object: %s: %w", link.Op, link.Err)
	}
	return err
}

// vaultObjects returns the vault's objects. Each vault has a directory of its
// own: one never learns what another has.
func (e *Engine) vaultObjects(vault keys.VaultID) (*store.Objects, error) {
	dir := e.objectDir(vault)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, noPath(err)
	}
	o, err := store.OpenObjects(dir)
	return o, noPath(err)
}

func (e *Engine) haveObject(vault keys.VaultID, hash commitlog.Hash) (uint64, bool, error) {
	o, err := e.vaultObjects(vault)
	if err != nil {
		return 0, false, err
	}
	have, whole, err := o.Have(hash)
	return uint64(have), whole, noPath(err)
}

// leastObject is what an object, whole or not, counts at least: its file takes a block
// of the disk and an inode, however few its bytes are.
const leastObject = 4 << 10

// counts returns what an object of which there are so many bytes counts.
func counts(bytes int64) int64 {
	if bytes == 0 {
		return 0
	}
	return max(bytes, leastObject)
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
	count, err := e.objectCount(vault)
	if err != nil {
		return 0, err
	}
	o, err := e.vaultObjects(vault)
	if err != nil {
		return 0, err
	}
	unlock, err := e.writing.lock(ctx, objectKey{vault, hash})
	if err != nil {
		return 0, err
	}
	defer unlock()
	before, whole, err := o.Have(hash)
	if err != nil {
		return 0, noPath(err)
	}
	// What is about to be written counts before it is, so that two writers do not
	// both take the same room. Who only asks is told now whether all of it fits.
	n, rest := int64(0), uint64(0)
	switch {
	case whole:
	case len(data) > 0:
		n = counts(before+int64(len(data))) - counts(before)
	case size > uint64(before):
		rest = uint64(counts(int64(size)) - counts(before))
	}
	count.bytes.Add(n)
	err = e.objectFits(vault, count, rest)
	if err != nil && !(whole && errors.Is(err, wire.ErrQuota)) {
		count.bytes.Add(-n)
		return uint64(before), err
	}
	have, err := o.Write(hash, int64(size), int64(offset), data)
	after := have
	if err != nil {
		var herr error
		if after, _, herr = o.Have(hash); herr != nil {
			after = before
		}
	}
	count.bytes.Add(counts(after) - counts(before) - n)
	if len(data) == 0 && have > 0 {
		e.asked.add(objectKey{vault, hash})
	}
	if errors.Is(err, commitlog.ErrBlob) {
		have = 0
	}
	return uint64(have), noPath(err)
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
		return nil, noPath(err)
	}
	return object{f}, nil
}

type object struct{ *store.Object }

func (o object) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Object.ReadAt(p, off)
	return n, noPath(err)
}

func (o object) Size() uint64 { return uint64(o.Object.Size) }
