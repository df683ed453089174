package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Compaction goes through what commits have ended, in the order of those commits,
// and drops blobs: each transaction some of them, with the place where the next one
// goes on. The objects of these changes are noted in the same transaction and
// removed after it, each if no change that has a blob names it: what is live has
// one, and so has what was ended not long ago. While it goes on no change
// gets its blob back (see Refill), so a second look at the commits that came meanwhile is enough, in the
// transaction that removes the file, when no commit can come in between.

const (
	compactBatch = 2048    // changes in a transaction
	compactFiles = 256     // files removed in one
	compactLook  = 1 << 16 // objects looked for in one pass over a log
)

var compactPlace = []byte("place")

// Compact implements [engine.Engine].
func (e *Engine) Compact(ctx context.Context, before time.Time) (engine.Compacted, error) {
	var done engine.Compacted
	unlock, err := e.keeping.lock(ctx, keys.VaultID{}) // one at a time, for what asked promises
	if err != nil {
		return done, err
	}
	defer unlock()
	e.asked.next()
	vaults, err := e.vaults(func(r *tenant) bool { return r.state != engine.StateRemoved })
	if err == nil {
		err = each(vaults, func(vault keys.VaultID) error {
			return e.compactVault(ctx, vault, millis(before), &done)
		})
	}
	return done, err
}

// compactVault is Compact of one vault. One that has gone meanwhile has nothing to drop.
func (e *Engine) compactVault(ctx context.Context, vault keys.VaultID, before uint64, done *engine.Compacted) error {
	unlock, err := e.keeping.lock(ctx, vault)
	if err != nil {
		return err
	}
	defer unlock()
	if err = e.compactBlobs(ctx, vault, before, done); err == nil {
		err = e.compactObjects(ctx, vault, done)
	}
	if errors.Is(err, wire.ErrNotFound) {
		return nil
	}
	return err
}

// compacted returns the bucket of a vault's compaction, nil if there is none.
func compacted(tx *store.Tx, vault keys.VaultID) *store.Bucket {
	if all := tx.Bucket(bucketCompacted); all != nil {
		return all.Bucket(vault.String())
	}
	return nil
}

func createCompacted(tx *store.Tx, vault keys.VaultID) (*store.Bucket, error) {
	all, err := tx.CreateBucket(bucketCompacted)
	if err != nil {
		return nil, err
	}
	return all.CreateBucket(vault.String())
}

// compactBlobs drops the blobs of what was ended at or before a time in Unix ms.
func (e *Engine) compactBlobs(ctx context.Context, vault keys.VaultID, before uint64, done *engine.Compacted) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var step engine.Compacted
		err := e.db.Update(func(tx *store.Tx) (err error) {
			step = engine.Compacted{}
			more, err = compactStep(tx, vault, before, &step)
			return err
		})
		if err != nil {
			return err
		}
		done.Blobs += step.Blobs
		done.Bytes += step.Bytes
	}
	return nil
}

func compactStep(tx *store.Tx, vault keys.VaultID, before uint64, step *engine.Compacted) (more bool, err error) {
	l, err := vaultLog(tx, vault)
	if err != nil {
		return false, err
	}
	var place []byte
	b := compacted(tx, vault)
	if b != nil {
		place = b.Get(compactPlace)
	}
	var over []store.Retirement
	err = l.EachRetired(place, func(r store.Retirement) (bool, error) {
		if more = len(over) == compactBatch; more || r.At > before {
			return false, nil
		}
		over = append(over, r)
		return true, nil
	})
	if err != nil || len(over) == 0 {
		return false, err
	}
	if b, err = createCompacted(tx, vault); err != nil {
		return false, err
	}
	for _, r := range over {
		info, _, err := l.Change(r.ID)
		if err != nil {
			return false, err
		}
		if control, _ := l.ControlTag(); info.Tag == control || info.Live {
			continue // which the log's own rules rule out
		}
		ch, blob, err := l.Entry(r.ID)
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("%w: ended, and %w", store.ErrDamaged, err)
		}
		if err != nil {
			return false, err
		}
		if blob == nil {
			continue
		}
		step.Blobs++
		step.Bytes += uint64(len(blob))
		if ch.HasObject() {
			if err := b.Put(bytes.Clone(ch.ObjectHash[:]), []byte{}); err != nil {
				return false, err
			}
		}
		if err := l.DropBlob(r.ID); err != nil {
			return false, err
		}
	}
	if err := addDropped(tx, vault, int64(step.Bytes)); err != nil {
		return false, err
	}
	return more, b.Put(compactPlace, over[len(over)-1].Place())
}

// compactObjects removes, of the objects that are noted, those that nothing names
// any more. The others are noted again when the next change that names them loses
// its blob.
func (e *Engine) compactObjects(ctx context.Context, vault keys.VaultID, done *engine.Compacted) error {
	var from []byte
	for {
		var noted []commitlog.Hash
		needed := make(map[commitlog.Hash]bool)
		size := commitlog.CommitID(0)
		err := e.view(ctx, vault, func(tx *store.Tx, l *store.Log) error {
			b := compacted(tx, vault)
			if b == nil {
				return nil
			}
			err := b.Scan(from, func(k, _ []byte) (bool, error) {
				if len(k) == len(commitlog.Hash{}) {
					h := commitlog.Hash(k)
					noted, needed[h] = append(noted, h), false
				}
				return len(noted) < compactLook, nil
			})
			if err != nil || len(noted) == 0 {
				return err
			}
			size = commitlog.CommitID(l.Size())
			return eachObject(ctx, l, 0, need(needed))
		})
		if err != nil || len(noted) == 0 {
			return err
		}
		last := noted[len(noted)-1]
		from = append(last[:], 0)
		for len(noted) > 0 {
			n := min(len(noted), compactFiles)
			if err := e.removeObjects(ctx, vault, noted[:n], needed, size, done); err != nil {
				return err
			}
			noted = noted[n:]
		}
	}
}

// need notes which of some objects a log needs.
func need(needed map[commitlog.Hash]bool) func(commitlog.Hash) {
	return func(h commitlog.Hash) {
		if _, ok := needed[h]; ok {
			needed[h] = true
		}
	}
}

// eachObject is the log's EachObject, until ctx ends: it looks at every change.
func eachObject(ctx context.Context, l *store.Log, after commitlog.CommitID, fn func(commitlog.Hash)) error {
	n := 0
	return l.EachChange(after, func(_ commitlog.ChangeID, ch *commitlog.Change, blob []byte) error {
		if blob != nil && ch.HasObject() {
			fn(ch.ObjectHash)
		}
		if n++; n%(1<<14) == 0 {
			return ctx.Err()
		}
		return nil
	})
}

// removeObjects removes the files of objects and their notes: not those that the
// log of size commits needs, or a commit after it.
func (e *Engine) removeObjects(ctx context.Context, vault keys.VaultID, hashes []commitlog.Hash, needed map[commitlog.Hash]bool, size commitlog.CommitID, done *engine.Compacted) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !e.holdMu.TryLock() {
		return nil // the next compaction finds their notes
	}
	defer e.holdMu.Unlock()
	o, err := e.vaultObjects(vault)
	if err != nil {
		return err
	}
	if err := e.countFirst(vault); err != nil {
		return err
	}
	var step engine.Compacted
	err = e.db.Update(func(tx *store.Tx) error {
		l, err := vaultLog(tx, vault)
		if err != nil {
			return err
		}
		if err := eachObject(ctx, l, size, need(needed)); err != nil {
			return err
		}
		b := compacted(tx, vault)
		for _, h := range hashes {
			if !needed[h] {
				if gone, err := e.removeObject(o, objectKey{vault, h}, &step); err != nil {
					return err
				} else if !gone {
					continue
				}
			}
			if err := b.Delete(bytes.Clone(h[:])); err != nil {
				return err
			}
		}
		return nil
	})
	done.Objects += step.Objects
	done.Bytes += step.Bytes
	return err
}

// removeObject removes an object's file, unless a device was told of late that it
// is here, or one is being written: nobody who writes to the store is to wait for that.
func (e *Engine) removeObject(o *store.Objects, k objectKey, step *engine.Compacted) (gone bool, err error) {
	unlock, ok := e.writing.try(k)
	if !ok {
		return false, nil
	}
	defer unlock()
	if e.asked.has(k) {
		return false, nil
	}
	count, err := e.objectCount(k.vault)
	if err != nil {
		return false, err
	}
	have, _, err := o.Have(k.hash)
	if err == nil {
		err = o.Remove(k.hash)
	}
	if err == nil {
		count.bytes.Add(-counts(have))
	}
	if err == nil && have > 0 {
		step.Objects++
		step.Bytes += uint64(have)
	}
	return err == nil, noPath(err)
}

// asked holds the objects that devices have asked about since the last Compact but
// one began. Who is told that one is here sends no bytes, but the commit that names
// it. It is memory: sessions do not outlive the process either.
type asked struct {
	mu       sync.Mutex
	now, old map[objectKey]struct{}
}

type objectKey struct {
	vault keys.VaultID
	hash  commitlog.Hash
}

func (a *asked) add(k objectKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = make(map[objectKey]struct{})
	}
	a.now[k] = struct{}{}
}

func (a *asked) has(k objectKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, now := a.now[k]
	_, old := a.old[k]
	return now || old
}

// next begins a new span.
func (a *asked) next() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now, a.old = nil, a.now
}
