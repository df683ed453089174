package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// ErrExists: the vault is here already, or on its way.
var ErrExists = errors.New("the vault is here already")

// Carrying is the part of an [Engine] by which what it has comes to another one: vault
// by vault, each as a whole, and the invites.
type Carrying interface {
	// Export gives all that is kept of a vault to a taker, as it is at one moment,
	// while everything else goes on; what is not as its hash says it leaves out, and it
	// may leave out what a Compact drops meanwhile. wire.ErrNotFound where there is no
	// such vault. Errors of the taker end it. The taker may use the engine.
	Export(ctx context.Context, vault keys.VaultID, to Taker) (Exported, error)
	// Import returns a taker of a vault that is not here yet. Until its End has
	// returned nil, nobody reaches the vault: it is StateComing. It is durable then,
	// and as if it had always been here. Everything is checked as [Engine.Append]
	// and [Engine.PutCheckpoint] check it, but that content may be absent, and that
	// what control statements say of devices is believed. Its errors are those of
	// these two, [ErrExists], and commitlog.ErrBlob for an object whose bytes are not
	// those of its hash.
	Import(o ImportOptions) Importing

	// EachInvite calls fn for each invite, in the order of their keys, until it
	// returns an error. fn may call the engine.
	EachInvite(ctx context.Context, fn func(*StoredInvite) error) error
	// PutInvite stores an invite as EachInvite gives it, in the place of one with the
	// same key.
	PutInvite(ctx context.Context, i *StoredInvite) error
}

// A Taker takes all of one vault: Begin first; its commits in the order of the log, each
// after the objects that it is the first to name; its checkpoints; and End. What it is
// given does not change until the one that gives it is done.
type Taker interface {
	Begin(ctx context.Context, w *Whole) error
	// Object takes the bytes of an object, of which r has exactly size.
	Object(ctx context.Context, hash commitlog.Hash, size uint64, r io.Reader) error
	Commit(ctx context.Context, c *WholeCommit) error
	Checkpoint(ctx context.Context, c *commitlog.Checkpoint) error
	End(ctx context.Context) error
}

// Importing is a vault on its way in.
type Importing interface {
	Taker
	// Close removes what has come where End has not returned nil. Where that is cut
	// off, or not possible now, [Tenants].Remove does it, or the next Import of the
	// vault. Afterwards it does nothing.
	Close(ctx context.Context) error
}

// ImportOptions say how to import. The zero value takes everything.
type ImportOptions struct {
	Bounded bool // wire.ErrQuota refuses what is more than the vault's quota here
}

// A Whole is a vault but for its commits, objects and checkpoints.
type Whole struct {
	Vault     keys.VaultID
	Authority keys.AuthorityKeys
	Size      uint64             // of the log, in commits
	Root      commitlog.Hash     // … of it
	Moved     commitlog.CommitID // the move to another secondary that has closed it; 0: it is open

	Created time.Time
	Seen    time.Time // when a device was here last
	State   State     // active, suspended or deleted
	Since   time.Time // … of the state
	Own     *Quota    // nil: none of its own

	Devices []Device // all that ever were, ids ascending
}

// A Device is what is known of one without reading control statements.
type Device struct {
	ID      keys.DeviceID
	Sign    keys.VerifyKey
	Auth    keys.VerifyKey
	Revoked commitlog.CommitID // by this one; 0: it is active
	Tags    []keys.Tag         // that it may write to; nil: all
}

// A WholeCommit is a commit with what the engine knows of it.
type WholeCommit struct {
	Bundle *commitlog.Bundle // with its ID. A blob that is nil is not kept any more
	At     uint64            // when it was appended, Unix ms; 0: it has ended nothing, and nobody asks

	// Of a control commit; otherwise 0.
	Epoch  uint32 // in force after it
	Resets uint16 // reset statements in it
}

// Exported counts what Export has given.
type Exported struct {
	Commits     uint64 `json:"commits"`
	Log         uint64 `json:"bytes_log"` // of commits and blobs
	Objects     uint64 `json:"objects"`
	ObjectBytes uint64 `json:"bytes_objects"`
	Checkpoints int    `json:"checkpoints"`
	// Missing counts what should be here and is not, contents of live changes and
	// objects, and what is here and is not what it was.
	Missing uint64 `json:"missing"`
}

// A StoredInvite is an invite without its token.
type StoredInvite struct {
	Key     [32]byte // SHA-256 of the token
	Expires time.Time
	Uses    uint32 // left; Unlimited: any number
	Quota   *Quota // of the vaults; nil: none
	Made    []keys.VaultID
}
