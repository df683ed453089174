package engine

import (
	"context"
	"io"
	"time"

	"github.com/kistvault/kist/keys"
)

// A Keeper is an [Engine] that keeps all in files of its own: a store, and a file for
// each object. What has to be cared for there, it can do while it is in use.
type Keeper interface {
	// Snapshot writes the store as it is at one time, ready to be opened. begin is
	// told its size in bytes first, and returns where it goes. Everything else goes
	// on.
	Snapshot(ctx context.Context, begin func(size int64) (io.Writer, error)) error
	// Hold keeps the files of objects from being removed until release: those that
	// a Snapshot taken in that time names are all there. Removals are made up for
	// later.
	Hold() (release func())
	// Verify goes through all that is stored and calls found for each fault; fn
	// may not use the engine. Everything goes on meanwhile, unless o.Pages. An error says that it could not come to its end.
	Verify(ctx context.Context, o VerifyOptions, found func(Fault)) (Verified, error)
	// Tidy counts what nobody will ask for any more and was there before a time:
	// invites that had expired by then, and objects, whole or not, that no commit
	// names. With remove they go, but for objects that a device was told of lately. A
	// vault that is damaged holds up no other, and is the error at the end.
	Tidy(ctx context.Context, before time.Time, remove bool) (Tidied, error)
}

// Tidied counts what Tidy has found.
type Tidied struct {
	Invites int    `json:"invites"`
	Objects int    `json:"objects"`
	Bytes   uint64 `json:"bytes"` // of objects
}

// VerifyOptions say how much to verify. The zero value is everything that can be
// verified while others write.
type VerifyOptions struct {
	Pages bool // every page of the store, too: nothing can be written meanwhile
}

// A Fault is something that is not as it was written.
type Fault struct {
	Vault keys.VaultID // zero: of none, but of the store
	Text  string
}

func (f Fault) String() string {
	if f.Vault.IsZero() {
		return f.Text
	}
	return "vault " + f.Vault.String() + ": " + f.Text
}

// Verified counts what Verify has looked at.
type Verified struct {
	Vaults  int    `json:"vaults"`
	Commits uint64 `json:"commits"`
	Blobs   uint64 `json:"blobs"`
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"` // of commits, blobs and objects
}
