package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// seenStep is how exact it is known when a device was here: a write for every
// sign-in would be too many.
const seenStep = time.Hour

// tenant is a vault's record in the bucket vaults: see the package comment.
type tenant struct {
	created, seen uint64 // Unix ms
	state         engine.State
	since         uint64        // Unix ms
	own           *engine.Quota // nil: none
}

const tenantSize = 8 + 8 + 1 + 8 + quotaSize

func (r *tenant) encode() []byte {
	b := be.AppendUint64(make([]byte, 0, tenantSize), r.created)
	b = be.AppendUint64(b, r.seen)
	b = append(b, byte(r.state))
	return appendQuota(be.AppendUint64(b, r.since), r.own)
}

func parseTenant(b []byte) (*tenant, error) {
	if len(b) != tenantSize || b[16] < byte(engine.StateActive) || b[16] > byte(engine.StateRemoved) {
		return nil, fmt.Errorf("%w: record of a vault, of %d bytes", store.ErrDamaged, len(b))
	}
	return &tenant{created: be.Uint64(b), seen: be.Uint64(b[8:]), state: engine.State(b[16]), since: be.Uint64(b[17:]), own: parseQuota(b[25:])}, nil
}

// getTenant returns a vault's record, wire.ErrNotFound if there is none.
func getTenant(tx *store.Tx, vault keys.VaultID) (*tenant, error) {
	if b := tx.Bucket(bucketVaults); b != nil {
		if v := b.Get(vault[:]); v != nil {
			return parseTenant(v)
		}
	}
	return nil, fmt.Errorf("vault: %w", wire.ErrNotFound)
}

func putTenant(tx *store.Tx, vault keys.VaultID, r *tenant) error {
	b, err := tx.CreateBucket(bucketVaults)
	if err != nil {
		return err
	}
	return b.Put(append([]byte(nil), vault[:]...), r.encode())
}

// changeTenant changes a vault's record, unless it is being removed. change reports
// whether there is anything to store.
func (e *Engine) changeTenant(ctx context.Context, vault keys.VaultID, change func(r *tenant) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.Update(func(tx *store.Tx) error {
		r, err := getTenant(tx, vault)
		if err == nil && r.state == engine.StateRemoved {
			err = fmt.Errorf("vault: %w", wire.ErrNotFound)
		}
		if err != nil || !change(r) {
			return err
		}
		return putTenant(tx, vault, r)
	})
}

// State implements [engine.Tenants].
func (e *Engine) State(ctx context.Context, vault keys.VaultID) (s engine.State, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = e.db.View(func(tx *store.Tx) error {
		r, err := getTenant(tx, vault)
		if err == nil {
			s = r.state
		}
		return err
	})
	return s, err
}

// Tenant implements [engine.Tenants].
func (e *Engine) Tenant(ctx context.Context, vault keys.VaultID) (t *engine.Tenant, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	read := func(with func(tx *store.Tx, t *engine.Tenant) error) error {
		return e.db.View(func(tx *store.Tx) (err error) {
			if t, err = e.tenant(tx, vault); err == nil && t.State < engine.StateRemoved {
				err = with(tx, t)
			}
			return err
		})
	}
	if err = read(measure); errors.Is(err, store.ErrDamaged) {
		fault := err
		err = read(func(_ *store.Tx, t *engine.Tenant) error {
			t.Fault = fault
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	t.Used.Objects, err = e.objectBytes(vault)
	return t, err
}

// tenant returns what a vault's record says.
func (e *Engine) tenant(tx *store.Tx, vault keys.VaultID) (*engine.Tenant, error) {
	r, err := getTenant(tx, vault)
	if err != nil {
		return nil, err
	}
	t := &engine.Tenant{
		Vault: vault, Created: fromMillis(r.created), Seen: fromMillis(r.seen), State: r.state, Since: fromMillis(r.since),
		Quota: e.quota(r), Own: r.own != nil,
	}
	if r.state == engine.StateRemoved && e.coming.has(vault) {
		t.State = engine.StateComing
	}
	return t, nil
}

// measure adds what a vault's log takes.
func measure(tx *store.Tx, t *engine.Tenant) error {
	l, err := vaultLog(tx, t.Vault)
	if err != nil {
		return err
	}
	t.Used.Commits = l.Size()
	t.Moved = movedAt(tx, t.Vault)
	if t.Used.Log, err = logBytes(tx, t.Vault, l); err != nil {
		return err
	}
	return l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			t.Used.Devices++
		}
		return nil
	})
}

// millis returns a time in Unix ms, 0 for one before 1970: days are subtracted that
// somebody has set, and may be more than there were.
func millis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }

// EachTenant implements [engine.Tenants]. Each vault has a transaction of its own.
func (e *Engine) EachTenant(ctx context.Context, fn func(*engine.Tenant) error) error {
	all, err := e.vaults(nil)
	if err != nil {
		return err
	}
	for _, vault := range all {
		t, err := e.Tenant(ctx, vault)
		if errors.Is(err, wire.ErrNotFound) {
			continue // it has gone meanwhile
		}
		if err == nil {
			err = fn(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// vaults returns the ids of the vaults that want takes; nil: of all.
func (e *Engine) vaults(want func(r *tenant) bool) (all []keys.VaultID, err error) {
	err = e.db.View(func(tx *store.Tx) error {
		b := tx.Bucket(bucketVaults)
		if b == nil {
			return nil
		}
		return b.Scan(nil, func(k, v []byte) (bool, error) {
			if len(k) != len(keys.VaultID{}) {
				return false, fmt.Errorf("%w: id of a vault", store.ErrDamaged)
			}
			r, err := parseTenant(v)
			if err == nil && (want == nil || want(r)) {
				all = append(all, keys.VaultID(k))
			}
			return true, err
		})
	})
	return all, err
}

// each calls fn for vaults, one after the other, until it returns an error. That one is
// damaged keeps no other from its turn, and is the error at the end, the first if there
// are several.
func each(vaults []keys.VaultID, fn func(vault keys.VaultID) error) (damaged error) {
	for _, vault := range vaults {
		switch err := fn(vault); {
		case err == nil:
		case !errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrReadOnly):
			return err
		case damaged == nil:
			damaged = err
		}
	}
	return damaged
}

// Seen implements [engine.Tenants].
func (e *Engine) Seen(ctx context.Context, vault keys.VaultID, now time.Time) error {
	at := millis(now)
	return e.changeTenant(ctx, vault, func(r *tenant) bool {
		if at < r.seen+uint64(seenStep.Milliseconds()) {
			return false
		}
		r.seen = at
		return true
	})
}

// DefaultQuota implements [engine.Tenants].
func (e *Engine) DefaultQuota(q engine.Quota) { e.defaultQuota.Store(&q) }

// quota returns the quota that is in force for a vault.
func (e *Engine) quota(r *tenant) engine.Quota {
	if r.own != nil {
		return *r.own
	}
	if q := e.defaultQuota.Load(); q != nil {
		return *q
	}
	return engine.Quota{}
}

// SetQuota implements [engine.Tenants].
func (e *Engine) SetQuota(ctx context.Context, vault keys.VaultID, q *engine.Quota) error {
	return e.changeTenant(ctx, vault, func(r *tenant) bool {
		r.own = q
		return true
	})
}

// SetState implements [engine.Tenants].
func (e *Engine) SetState(ctx context.Context, vault keys.VaultID, s engine.State, now time.Time) error {
	refused := fmt.Errorf("a vault cannot be made %v", s)
	if s < engine.StateActive || s > engine.StateRemoved {
		return refused
	}
	var wrong error
	err := e.changeTenant(ctx, vault, func(r *tenant) bool {
		wrong = nil
		if s == engine.StateRemoved && r.state != engine.StateDeleted {
			wrong = refused
		}
		if r.state == s || wrong != nil {
			return false
		}
		r.state, r.since = s, millis(now)
		return true
	})
	return errors.Join(err, wrong)
}

// active returns the record of a vault that may be written to.
func active(tx *store.Tx, vault keys.VaultID) (*tenant, error) {
	r, err := getTenant(tx, vault)
	switch {
	case err != nil:
		return nil, err
	case r.state == engine.StateRemoved:
		return nil, fmt.Errorf("vault: %w", wire.ErrNotFound)
	case r.state != engine.StateActive:
		return nil, wire.ErrSuspended
	}
	return r, nil
}
