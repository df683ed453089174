package vault_test

import (
	"context"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// A full sync of a device that began with a checkpoint verifies the history, and
// then compares all of it.
func TestFullSyncAboveCheckpoint(t *testing.T) {
	r := newRestoring(t, 6)
	v := r.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = v.Sync(ctx, vault.SyncOptions{Full: true})
	fatal(t, err)
	r.equal(t, v)
}
