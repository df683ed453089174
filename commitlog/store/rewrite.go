package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/internal/durable"
)

// rewriteBatch is how many bytes are copied in one transaction of a rewrite.
const rewriteBatch = 4 << 20

// Rewrite gives the space of what was deleted back to the system: it writes the
// store anew, beside the old file, and puts the new one in its place in one step.
// A store that is not rewritten keeps its size and reuses the space. It returns the
// file's size before and after. [ErrInUse] where the store is open. Cut off
// anywhere, the old file is there, or the new one; what is left of a new one that
// was not finished the next Rewrite removes.
func Rewrite(path string, o Options) (before, after int64, err error) {
	return rewrite(path, o, func(dst *bbolt.DB, src *DB) error { return bbolt.Compact(dst, src.bolt, rewriteBatch) })
}

// rewrite puts a copy that fn makes in the place of a store, as Rewrite says. Where fn
// returns errAsItIs the store stays.
func rewrite(path string, o Options, fn func(dst *bbolt.DB, src *DB) error) (before, after int64, err error) {
	o.MustExist = true
	src, err := Open(path, o)
	if err != nil {
		return 0, 0, err
	}
	// The lock on the old file is held until the new one has its name.
	defer func() { err = errors.Join(err, src.Close()) }()
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	if err := copyStore(fresh, src, fn); errors.Is(err, errAsItIs) {
		return 0, 0, remove(fresh)
	} else if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("rewriting store: %w", err), remove(fresh))
	}
	old, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	now, err := os.Stat(fresh)
	if err != nil {
		return 0, 0, err
	}
	return old.Size(), now.Size(), durable.Rename(fresh, path)
}

var errAsItIs = errors.New("store stays as it is")

// copyStore has fn copy a store into a new file, which is durable but for its name.
func copyStore(path string, src *DB, fn func(dst *bbolt.DB, src *DB) error) (err error) {
	defer catchDamage(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	dst, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := fn(dst, src); err != nil {
		return err
	}
	return dst.Sync()
}
