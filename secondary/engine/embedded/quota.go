package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// What a vault's log takes follows from what is stored anyway: the bytes of all its
// bundles, which the log has, less the blobs that compaction has dropped. So an append
// has nothing more to write. What objects take is counted in memory, beginning with
// a look at their files: nobody else writes them.

var keyDropped = []byte("dropped")

// logBytes returns what the commits and blobs of a vault take.
func logBytes(tx *store.Tx, vault keys.VaultID, l *store.Log) (uint64, error) {
	all, err := l.Sum(commitlog.CommitID(l.Size()))
	if err != nil {
		return 0, err
	}
	return uint64(max(0, int64(all)-dropped(compacted(tx, vault)))), nil
}

// dropped returns the bytes of the blobs that were dropped, less those of blobs that
// came later than their commits.
func dropped(b *store.Bucket) int64 {
	if b == nil {
		return 0
	}
	if v := b.Get(keyDropped); len(v) == 8 {
		return int64(be.Uint64(v))
	}
	return 0
}

func addDropped(tx *store.Tx, vault keys.VaultID, n int64) error {
	if n == 0 {
		return nil
	}
	b, err := createCompacted(tx, vault)
	if err != nil {
		return err
	}
	return b.Put(keyDropped, be.AppendUint64(nil, uint64(dropped(b)+n)))
}

// Beyond its quota a vault may have an eighth of it more, and some, of commits
// that are control statements or delete: without those nobody could revoke a device,
// or make room.
const (
	reserveBytes   = 1 << 20
	reserveCommits = 1000
)

// quotaFor returns the vault's quota as it holds for a commit.
func (e *Engine) quotaFor(tx *store.Tx, vault keys.VaultID, c *commitlog.Commit) (engine.Quota, error) {
	r, err := getTenant(tx, vault)
	if err != nil {
		return engine.Quota{}, err
	}
	q := e.quota(r)
	if frees(c) {
		q.Bytes, q.Commits = more(q.Bytes, reserveBytes), more(q.Commits, reserveCommits)
	}
	return q, nil
}

// fits returns wire.ErrQuota unless a commit fits into the vault's quota, with those
// of its objects that are still to come.
func (e *Engine) fits(tx *store.Tx, l *store.Log, vault keys.VaultID, b *commitlog.Bundle) error {
	q, err := e.quotaFor(tx, vault, b.Commit)
	if err != nil {
		return err
	}
	if q.Commits > 0 && l.Size() >= q.Commits {
		return quotaError("commits")
	}
	if q.Bytes == 0 {
		return nil
	}
	n := uint64(b.EncodedSize())
	for i := range b.Commit.Changes {
		ch := &b.Commit.Changes[i]
		if !ch.HasObject() {
			continue
		}
		have, whole, err := e.haveObject(vault, ch.ObjectHash)
		if err != nil {
			return err
		}
		if !whole && ch.ObjectSize > have {
			n += uint64(counts(int64(ch.ObjectSize)) - counts(int64(have)))
		}
	}
	return e.bytesFit(tx, l, vault, q, n)
}

// blobsFit returns wire.ErrQuota unless n bytes of blobs fit into the vault's quota that
// come later than their commit.
func (e *Engine) blobsFit(tx *store.Tx, l *store.Log, vault keys.VaultID, c *commitlog.Commit, n uint64) error {
	q, err := e.quotaFor(tx, vault, c)
	if err != nil || n == 0 {
		return err
	}
	return e.bytesFit(tx, l, vault, q, n)
}

// bytesFit returns wire.ErrQuota unless n bytes more fit into a quota.
func (e *Engine) bytesFit(tx *store.Tx, l *store.Log, vault keys.VaultID, q engine.Quota, n uint64) error {
	if q.Bytes == 0 {
		return nil
	}
	used, err := logBytes(tx, vault, l)
	if err != nil {
		return err
	}
	objects, err := e.objectBytes(vault)
	if err == nil && used+objects+n > q.Bytes {
		err = quotaError("bytes")
	}
	return err
}

// frees reports whether a commit is one that is needed to come back below a quota.
func frees(c *commitlog.Commit) bool {
	if c.Header.Kind == commitlog.KindControl {
		return true
	}
	for i := range c.Changes {
		if c.Changes[i].Op != commitlog.OpDelete {
			return false
		}
	}
	return true
}

func more(limit, some uint64) uint64 {
	if limit == 0 {
		return 0
	}
	return limit + limit/8 + some
}

// quotaError says what is used up.
func quotaError(what string) error { return fmt.Errorf("%w: no more %s", wire.ErrQuota, what) }

// usage counts the bytes of the objects of each vault.
type usage struct {
	mu     sync.Mutex
	vaults map[keys.VaultID]*objectCount
}

type objectCount struct {
	mu      sync.Mutex // held while they are counted
	counted bool
	bytes   atomic.Int64
}

// objectCount returns the count of a vault's objects.
func (e *Engine) objectCount(vault keys.VaultID) (*objectCount, error) {
	e.usage.mu.Lock()
	c := e.usage.vaults[vault]
	if c == nil {
		if e.usage.vaults == nil {
			e.usage.vaults = make(map[keys.VaultID]*objectCount)
		}
		c = new(objectCount)
		e.usage.vaults[vault] = c
	}
	e.usage.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counted {
		return c, nil
	}
	sum := int64(0)
	err := filepath.WalkDir(e.objectDir(vault), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreNotExist(err)
		}
		info, err := d.Info()
		if err == nil {
			sum += counts(info.Size())
		}
		return ignoreNotExist(err)
	})
	if err != nil {
		return nil, noPath(err)
	}
	c.bytes.Store(sum)
	c.counted = true
	return c, nil
}

// countFirst counts the objects of a vault before a transaction that may ask for it: the
// first time that is a look at each file, for which nobody else is to wait.
func (e *Engine) countFirst(vault keys.VaultID) error {
	_, err := e.objectCount(vault)
	return err
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// objectBytes returns what the objects of a vault take.
func (e *Engine) objectBytes(vault keys.VaultID) (uint64, error) {
	c, err := e.objectCount(vault)
	if err != nil {
		return 0, err
	}
	return uint64(max(0, c.bytes.Load())), nil
}

// forgetUsage has the objects of a vault counted anew.
func (e *Engine) forgetUsage(vault keys.VaultID) {
	e.usage.mu.Lock()
	defer e.usage.mu.Unlock()
	delete(e.usage.vaults, vault)
}

// objectFits returns wire.ErrQuota where the vault's objects, with more bytes to
// come, do not fit into its quota, and ErrSuspended where nothing may be written.
func (e *Engine) objectFits(vault keys.VaultID, c *objectCount, more uint64) error {
	return e.db.View(func(tx *store.Tx) error {
		r, err := active(tx, vault)
		if err != nil {
			return err
		}
		q := e.quota(r)
		if q.Bytes == 0 {
			return nil
		}
		l, err := vaultLog(tx, vault)
		if err != nil {
			return err
		}
		used, err := logBytes(tx, vault, l)
		if err == nil && used+uint64(max(0, c.bytes.Load()))+more > q.Bytes {
			err = quotaError("bytes")
		}
		return err
	})
}
