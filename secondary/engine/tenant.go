package engine

import (
	"context"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// Tenants is the part of an [Engine] that says who has a vault here, and how much
// of one.
type Tenants interface {
	// State returns the state of a vault: wire.ErrNotFound for none.
	State(ctx context.Context, vault keys.VaultID) (State, error)
	// Tenant returns what is known of a vault: wire.ErrNotFound for none. That its log
	// is damaged is not an error, but Tenant.Fault.
	Tenant(ctx context.Context, vault keys.VaultID) (*Tenant, error)
	// EachTenant calls fn for each vault, in the order of their ids, until it
	// returns an error. fn may call the engine.
	EachTenant(ctx context.Context, fn func(*Tenant) error) error
	// Seen notes that a device of the vault was here. Times within an hour of the
	// one that is noted cost nothing.
	Seen(ctx context.Context, vault keys.VaultID, now time.Time) error

	// DefaultQuota sets the quota of vaults that have none of their own. It is not
	// stored; at first there is no limit.
	DefaultQuota(q Quota)
	// SetQuota gives a vault a quota of its own, or none (nil).
	SetQuota(ctx context.Context, vault keys.VaultID, q *Quota) error
	// SetState suspends a vault, or marks it as deleted, or makes it active again; one
	// that is deleted it can leave to the next Remove, whatever is left of its time
	// (StateRemoved).
	// Whatever writes to a vault that is not active gets ErrSuspended from then on;
	// reading goes on, and is for the server to refuse. In StateRemoved nothing can
	// be changed: ErrNotFound.
	SetState(ctx context.Context, vault keys.VaultID, s State, now time.Time) error
	// Remove gives the space of the vaults back that were deleted at or before a
	// time, in bounded steps beside everything else, and returns how many are gone.
	// Where it is cut off, the next call goes on there; the vault is out of reach
	// (ErrNotFound) from its first step on. One that is damaged keeps no other here, and
	// is the error at the end.
	Remove(ctx context.Context, before time.Time) (int, error)
}

// A Tenant is a vault as whoever runs the server sees it.
type Tenant struct {
	Vault   keys.VaultID
	Created time.Time
	Seen    time.Time // when a device was here last, to the hour
	State   State
	Since   time.Time          // … of the state
	Moved   commitlog.CommitID // which moved it to another secondary, and closed it here; 0: it was not
	Used    Usage
	Quota   Quota // in force
	Own     bool  // … and it is the vault's own

	// Fault says how the log is damaged, of which nothing is known then (Moved, Used).
	// It may be damaged where it is nil.
	Fault error
}

// Usage is what a vault takes.
type Usage struct {
	Commits uint64
	Log     uint64 // bytes of commits and blobs
	Objects uint64 // bytes of objects, whole or not, each 4 KiB at least
	Devices uint32 // that are admitted and not revoked
}

// Bytes returns what counts against a quota of bytes.
func (u Usage) Bytes() uint64 { return u.Log + u.Objects }

// A Quota bounds what a vault takes. Zeros are no limits.
type Quota struct {
	Bytes   uint64 `json:"bytes"`   // of commits, blobs and objects
	Commits uint64 `json:"commits"` // that the log has
	Devices uint32 `json:"devices"` // that are admitted and not revoked
}

// A State says what may be done with a vault. The numbers are stored.
type State uint8

const (
	StateActive    State = 1
	StateSuspended State = 2 // nothing is taken or given out
	StateDeleted   State = 3 // as suspended; what is there goes after a time
	StateRemoved   State = 4 // it is going
	StateComing    State = 5 // it is on its way in. Stored as StateRemoved: cut off, it goes
)

func (s State) String() string {
	switch s {
	case StateActive:
		return "active"
	case StateSuspended:
		return "suspended"
	case StateDeleted:
		return "deleted"
	case StateRemoved:
		return "removed"
	case StateComing:
		return "coming"
	}
	return "unknown"
}

// Unlimited is the number of uses of an invite that is not used up.
const Unlimited = 1<<32 - 1
