// Package engine is what a secondary needs of a store. Package embedded keeps
// everything in one file; enginetest is the suite that every engine passes.
package engine

import (
	"context"
	"io"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Engine stores vaults: their logs, their objects, and the invites that make
// them. It is safe for concurrent use, and what a call did is durable when it
// returns nil. Commit IDs become visible in their order.
//
// A refusal is an error of package commitlog or one that wraps
// wire.ErrNotFound, ErrInvite, ErrCondition, ErrObjectMissing, ErrQuota,
// ErrSuspended, ErrRegistration or ErrMoved. Any other error means that the outcome is unknown; every
// call may be repeated.
type Engine interface {
	// Vaults returns how many vaults there are.
	Vaults(ctx context.Context) (int, error)
	Tenants
	Carrying

	// Invite stores an invite for so many vaults (Unlimited: any number), in the
	// place of one with the same token. The token itself is not stored. The vaults
	// have the quota for their own; nil: none.
	Invite(ctx context.Context, token wire.Token, uses uint32, expires time.Time, quota *Quota) error
	// Create makes the authority's vault and takes one use of the invite, in
	// one step. It returns nil and changes nothing where this invite made this
	// vault before, and where it is valid and the vault exists; otherwise
	// ErrInvite for an invite that is unknown, used up, or expired at now, and
	// ErrSuspended where the vault is being removed.
	Create(ctx context.Context, token wire.Token, authority keys.AuthorityKeys, now time.Time) error

	// Author returns what is known of a device of the vault, or of its
	// authority (the zero id): ErrNotFound for either unknown.
	Author(ctx context.Context, vault keys.VaultID, id keys.DeviceID) (commitlog.Author, error)
	// LastHeader returns the header of the author's newest commit, nil for none.
	LastHeader(ctx context.Context, vault keys.VaultID, id keys.DeviceID) ([]byte, error)
	// Head describes the log and its first commits up to at.
	Head(ctx context.Context, vault keys.VaultID, at uint64) (Head, error)

	// Proof returns the proof that the log of the first from commits, from 1, is
	// the beginning of that of the first to: ErrNotFound where there are fewer.
	Proof(ctx context.Context, vault keys.VaultID, from, to uint64) ([]commitlog.Hash, error)

	// Append appends commits. It returns one outcome a bundle, and the log's
	// size after it. Commits are decided one after another, each as
	// [commitlog.Check] decides, with all blobs there and all objects durable.
	// A commit that is in the log already has its ID for an outcome, before
	// any condition; another with its sequence number is ErrEquivocation,
	// after the condition. Behind a control commit that says so (wire.MovedAway) every
	// new one is ErrMoved, before the condition, but for one that says the contrary.
	// ErrQuota refuses what is more than the vault's quota;
	// control commits, and those of deletes alone, may go somewhat beyond it, but
	// for devices. ErrSuspended, for all, says that the vault is not active.
	Append(ctx context.Context, r AppendRequest) (outcomes []Outcome, size uint64, err error)
	// Refill puts commits into the log at the places of their IDs, one after the
	// other, and returns the log's size after those that are in it: those that
	// were there before, with the same leaf, and those that Check accepts next.
	// ErrFork says that another commit is there, ErrOmission that one between is
	// missing. Blobs and objects may be absent; one that comes for a commit that
	// is there without it is kept. Neither the condition is looked at, nor whether the
	// vault was moved away.
	Refill(ctx context.Context, r AppendRequest) (size uint64, err error)
	// Read calls fn for the commits after r.After, in order, until it does not
	// take one. What fn is given is valid until it returns.
	Read(ctx context.Context, r ReadRequest, fn func(*Entry) (taken bool, err error)) (Progress, error)
	// Change returns a change and its blob, nil where that is no longer kept.
	Change(ctx context.Context, vault keys.VaultID, id commitlog.ChangeID) (commitlog.Change, []byte, error)

	// PutCheckpoint keeps a checkpoint as its device's newest. It is refused with
	// wire.ErrProtocol where the log does not come to it, or size or time are below
	// those of the one that is there, and with commitlog.ErrUnknownSigner or
	// commitlog.ErrRevoked where the device is not one of the vault's. It reads every
	// live change.
	PutCheckpoint(ctx context.Context, c *commitlog.Checkpoint) error
	// Checkpoint returns the last of the checkpoints kept, ordered by size and
	// then device, that comes before the given ones; size 0: the last of all. It
	// returns ErrNotFound where there is none. Those of revoked devices are not
	// kept.
	Checkpoint(ctx context.Context, vault keys.VaultID, size uint64, device keys.DeviceID) (*commitlog.Checkpoint, error)
	// OpenState returns a reader of what was live when the log had size commits:
	// ErrNotFound where it has fewer.
	OpenState(ctx context.Context, vault keys.VaultID, size uint64) (StateReader, error)

	// Compact drops, in all vaults, the blobs of changes that a commit ended which
	// was appended at or before a time, and the objects that no change with a blob
	// names any more. What is live stays, and so do control commits, and headers and
	// change lists of all. It works in bounded steps, each durable, while everything
	// else goes on; where it is cut off, what it counts is done, and the next call
	// goes on there. An object that a device has asked about since the last Compact
	// began stays until a later one: its commit may be under way. A vault that is
	// damaged holds up no other, and is the error at the end.
	Compact(ctx context.Context, before time.Time) (Compacted, error)

	// HaveObject returns how many bytes of an object are there, and whether
	// that is all.
	HaveObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash) (have uint64, whole bool, err error)
	// WriteObject adds bytes to an object of size bytes, and returns how many
	// are there then. Bytes that do not continue what is there are dropped.
	// The object is durable when have is size; commitlog.ErrBlob says that its
	// hash was another, and none of it is there any more, ErrQuota that the rest of
	// it is more than the vault's quota, and have is what is there.
	WriteObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash, size, offset uint64, data []byte) (have uint64, err error)
	// OpenObject opens a whole object.
	OpenObject(ctx context.Context, vault keys.VaultID, hash commitlog.Hash) (Object, error)

	// Close ends all use, after the calls under way.
	Close() error
}

// Compacted says what Compact has dropped.
type Compacted struct {
	Blobs   int
	Objects int
	Bytes   uint64 // of both
}

// Head describes a log.
type Head struct {
	Size  uint64             // commits
	Root  commitlog.Hash     // at the smaller of Size and what was asked for
	Reset commitlog.CommitID // the newest commit with a reset; 0: none
}

// AppendRequest is what one author wants to append. With a condition or a
// control commit there is one bundle.
type AppendRequest struct {
	Vault     keys.VaultID
	Bundles   []*commitlog.Bundle // as [commitlog.ParseBundle] returns them, which has compared the blobs with their hashes
	Condition *uint64             // only if the log has this size; nil: unconditional
	Control   *wire.Control       // with a control commit, and with no other
	Now       time.Time           // of the append
}

// Outcome says what became of one bundle.
type Outcome struct {
	ID  commitlog.CommitID // in the log, now or before; 0: refused
	Err error              // why it was refused
}

// ReadRequest says what to read.
type ReadRequest struct {
	Vault keys.VaultID
	After commitlog.CommitID
	Tags  map[keys.Tag]bool // namespaces whose blobs are wanted; nil: all. Those of control commits always are
	Stubs *keys.DeviceID    // whose commits are wanted as stubs; nil: nobody's
	Dead  bool              // of what is live now, other than control statements, no blobs are wanted
}

// Entry is one commit that is read.
type Entry struct {
	ID     commitlog.CommitID
	Seq    uint64            // its author's sequence number
	Bundle *commitlog.Bundle // nil: a stub
}

// Progress says how far a read came.
type Progress struct {
	Next commitlog.CommitID // the last commit that was taken; r.After if none was
	Size uint64             // of the log
	Left uint64             // bytes of the bundles between Next and Size, with all blobs
}

// A StateReader reads what was live at one size of a log, whatever is appended
// meanwhile. It is used by one goroutine at a time and holds no resources.
type StateReader interface {
	// Next calls fn for the live changes after a place, in the order of wire's
	// SNAPSHOT, until it does not take one. What fn is given is valid until it
	// returns.
	Next(ctx context.Context, after Place, fn func(*LiveChange) (taken bool, err error)) error
}

// A Place is a live change in the order of wire's SNAPSHOT. Zeros come before all.
type Place struct {
	Tag keys.Tag
	ID  commitlog.ChangeID
}

// A LiveChange is a change with the header of its commit.
type LiveChange struct {
	Place  Place
	Header []byte
	Entry  []byte
	Blob   []byte // nil: no longer kept
}

// Object is an open object, to be read and closed.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() uint64
}
