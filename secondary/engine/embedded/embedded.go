// Package embedded is the engine of a secondary on one machine: all vaults in
// one file (package commitlog/store), objects in a directory beside it.
//
// # Layout
//
//	DIR/kist.db
//	  vaults            vault 16       created u64 ‖ seen u64 ‖ state u8 ‖ since u64 ‖ quota, Unix ms
//	  log/VAULT         the vault's log (package commitlog/store), with the bytes of the bundles up to each commit
//	  compacted/VAULT   "place"        where compaction goes on, see store.Retirement
//	                    "dropped"      bytes of the blobs that are here no more, i64
//	                    hash 32        an object that may have to go: a change that named it has lost its blob
//	  invites           SHA-256 of the token   expires u64, Unix ms ‖ uses left u32 ‖ quota ‖ n × vault 16 made with it
//	  moved             vault 16       commit ID u64: the move to another secondary that closed it
//	DIR/objects/VAULT/  the vault's objects
//
// A quota is: u8, 1 where there is one ‖ bytes u64 ‖ commits u64 ‖ devices u32, 0 for
// no limit. Uses left of 2³²−1 are not used up.
//
// Calls that write at the same time share one transaction and one fsync. The
// package starts no goroutine.
package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

var be = binary.BigEndian

// Engine is an [engine.Engine] in a directory.
type Engine struct {
	db      *store.DB
	objects string

	writing locks[objectKey] // one writer an object

	// keeping is held while something of a vault is dropped that Refill could bring back,
	// or what of it is needed is found out. Compact has the zero id's for all of its run.
	keeping locks[keys.VaultID]
	asked   asked        // objects that devices take to be here
	coming  coming       // vaults that are being imported
	holdMu  sync.RWMutex // held for writing while files of objects are removed

	usage        usage
	defaultQuota atomic.Pointer[engine.Quota] // nil: no limit
}

var _ engine.Engine = (*Engine)(nil)

// Options of Open. The zero value is right for real data.
type Options = store.Options

// Open opens the engine in a directory that exists, or makes it there. It
// returns store.ErrInUse where another process has it, and store.ErrDamaged
// where its file cannot be one.
func Open(dir string, o Options) (*Engine, error) { return OpenFile(dir, StoreFile, o) }

// OpenFile is Open for a store of another name in the directory, which shares its
// objects.
func OpenFile(dir, file string, o Options) (*Engine, error) {
	o.Ahead = max(o.Ahead, ahead) // a backup that takes long holds up nobody
	db, err := store.Open(filepath.Join(dir, file), o)
	if err != nil {
		return nil, err
	}
	return &Engine{db: db, objects: filepath.Join(dir, "objects")}, nil
}

const ahead = 64 << 30

// StoreFile is the name of the store in an engine's directory.
const StoreFile = "kist.db"

// Rewrite gives the space that is free in an engine's file back to the system; see
// store.Rewrite. The engine must not be open.
func Rewrite(dir string) (before, after int64, err error) {
	return store.Rewrite(filepath.Join(dir, StoreFile), Options{})
}

// Close closes the file.
func (e *Engine) Close() error { return e.db.Close() }

// Buckets of the file.
const (
	bucketVaults  = "vaults"
	bucketInvites = "invites"

	bucketCheckpoints = "checkpoints"
	bucketCompacted   = "compacted"
	bucketMoved       = "moved"
)

func logName(vault keys.VaultID) string { return "log/" + vault.String() }

// vaultLog returns the vault's log, wire.ErrNotFound if there is no such vault, or no more.
func vaultLog(tx *store.Tx, vault keys.VaultID) (*store.Log, error) {
	if t, err := getTenant(tx, vault); err != nil {
		return nil, err
	} else if t.state == engine.StateRemoved {
		return nil, fmt.Errorf("vault: %w", wire.ErrNotFound)
	}
	l, err := tx.Log(logName(vault))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: a vault has no log", store.ErrDamaged)
	}
	return l, err
}

// view runs fn with the vault's log in a read transaction.
func (e *Engine) view(ctx context.Context, vault keys.VaultID, fn func(tx *store.Tx, l *store.Log) error) error {
	return look(ctx, e.db.View, vault, fn)
}

// peek is view of what may not be durable yet; see [store.DB.Peek].
func (e *Engine) peek(ctx context.Context, vault keys.VaultID, fn func(tx *store.Tx, l *store.Log) error) error {
	return look(ctx, e.db.Peek, vault, fn)
}

func look(ctx context.Context, view func(func(*store.Tx) error) error, vault keys.VaultID, fn func(tx *store.Tx, l *store.Log) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return view(func(tx *store.Tx) error {
		l, err := vaultLog(tx, vault)
		if err != nil {
			return err
		}
		return fn(tx, l)
	})
}

// Author implements [engine.Engine].
func (e *Engine) Author(ctx context.Context, vault keys.VaultID, id keys.DeviceID) (author commitlog.Author, err error) {
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		a, err := l.Author(id)
		if err != nil {
			return err
		}
		if a == nil {
			return fmt.Errorf("device: %w", wire.ErrNotFound)
		}
		author = *a
		return nil
	})
	return author, err
}

// LastHeader implements [engine.Engine].
func (e *Engine) LastHeader(ctx context.Context, vault keys.VaultID, id keys.DeviceID) (header []byte, err error) {
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		a, err := l.Author(id)
		if err != nil || a == nil || a.LastSeq == 0 {
			return err
		}
		at, err := l.OwnCommit(id, a.LastSeq)
		if err != nil {
			return err
		}
		h, err := l.Header(at)
		header = append([]byte(nil), h...)
		return err
	})
	return header, err
}

// Head implements [engine.Engine].
func (e *Engine) Head(ctx context.Context, vault keys.VaultID, at uint64) (head engine.Head, err error) {
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		head.Size = l.Size()
		if head.Reset, err = l.NewestReset(); err != nil {
			return err
		}
		head.Root, err = l.RootAt(min(at, head.Size))
		return err
	})
	return head, err
}

// Proof implements [engine.Engine].
func (e *Engine) Proof(ctx context.Context, vault keys.VaultID, from, to uint64) (proof []commitlog.Hash, err error) {
	err = e.view(ctx, vault, func(_ *store.Tx, l *store.Log) error {
		if size := l.Size(); to > size {
			return fmt.Errorf("%w: the log has %d commits, not %d", wire.ErrNotFound, size, to)
		}
		proof, err = commitlog.ProveTree(l, from, to)
		return err
	})
	return proof, err
}
