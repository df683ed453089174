package embedded

import (
	"context"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// SetImportBatch has an import store what comes after so many commits, until restore is
// called.
func SetImportBatch(commits int) (restore func()) {
	before := importCommits
	importCommits = commits
	return func() { importCommits = before }
}

// Keep takes the lock of what is done to a vault's blobs and objects.
func (e *Engine) Keep(ctx context.Context, vault keys.VaultID) (release func(), err error) {
	return e.keeping.lock(ctx, vault)
}

// WriteLock takes the lock of whoever writes an object.
func (e *Engine) WriteLock(ctx context.Context, vault keys.VaultID, hash commitlog.Hash) (release func(), err error) {
	return e.writing.lock(ctx, objectKey{vault, hash})
}

// Locks returns how many locks there are.
func (e *Engine) Locks() int { return len(e.keeping.inUse) + len(e.writing.inUse) }
