package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// inviteKey returns the key that an invite is kept under. From it the token
// cannot be found: a copy of the file lets nobody in.
func inviteKey(token wire.Token) []byte {
	h := sha256.Sum256(token[:])
	return h[:]
}

// invite is what is kept of one. It is stored as expires u64 ‖ uses u32 ‖ quota ‖
// n × vault. Those of the first version have no quota, and other lengths.
type invite struct {
	expires uint64 // Unix ms
	uses    uint32 // left
	quota   *engine.Quota
	made    []byte // vaults, one after the other
}

func (i *invite) encode() []byte {
	b := be.AppendUint32(be.AppendUint64(nil, i.expires), i.uses)
	return append(appendQuota(b, i.quota), i.made...)
}

// parseInvite returns nil for nil.
func parseInvite(b []byte) (*invite, error) {
	const old, fixed = 8 + 4, 8 + 4 + quotaSize
	switch {
	case b == nil:
		return nil, nil
	case len(b) >= fixed && (len(b)-fixed)%len(keys.VaultID{}) == 0:
		return &invite{be.Uint64(b), be.Uint32(b[8:]), parseQuota(b[old:]), bytes.Clone(b[fixed:])}, nil
	case len(b) >= old && (len(b)-old)%len(keys.VaultID{}) == 0:
		return &invite{be.Uint64(b), be.Uint32(b[8:]), nil, bytes.Clone(b[old:])}, nil
	}
	return nil, fmt.Errorf("%w: an invite of %d bytes", store.ErrDamaged, len(b))
}

// has reports whether a vault was made with the invite.
func (i *invite) has(vault keys.VaultID) bool {
	for made := i.made; len(made) > 0; made = made[len(vault):] {
		if bytes.Equal(made[:len(vault)], vault[:]) {
			return true
		}
	}
	return false
}

// quotaSize is the length of a quota, or of none.
const quotaSize = 1 + 8 + 8 + 4

func appendQuota(b []byte, q *engine.Quota) []byte {
	own := byte(1)
	if q == nil {
		own, q = 0, &engine.Quota{}
	}
	b = be.AppendUint64(append(b, own), q.Bytes)
	return be.AppendUint32(be.AppendUint64(b, q.Commits), q.Devices)
}

// parseQuota reads what appendQuota has written.
func parseQuota(b []byte) *engine.Quota {
	if b[0] == 0 {
		return nil
	}
	return &engine.Quota{Bytes: be.Uint64(b[1:]), Commits: be.Uint64(b[9:]), Devices: be.Uint32(b[17:])}
}

// Invite implements [engine.Engine].
func (e *Engine) Invite(ctx context.Context, token wire.Token, uses uint32, expires time.Time, quota *engine.Quota) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.Update(func(tx *store.Tx) error {
		if uses == 0 { // what is not there, or used up, need not be written: a disk may be full
			var old *invite
			var err error
			if b := tx.Bucket(bucketInvites); b != nil {
				old, err = parseInvite(b.Get(inviteKey(token)))
			}
			if err != nil || old == nil || old.uses == 0 {
				return err
			}
		}
		b, err := tx.CreateBucket(bucketInvites)
		if err != nil {
			return err
		}
		n := invite{expires: uint64(expires.UnixMilli()), uses: uses, quota: quota}
		return b.Put(inviteKey(token), n.encode())
	})
}

// Vaults implements [engine.Engine].
func (e *Engine) Vaults(ctx context.Context) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = e.db.View(func(tx *store.Tx) error {
		b := tx.Bucket(bucketVaults)
		if b == nil {
			return nil
		}
		return b.Scan(nil, func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		})
	})
	return n, err
}

// Create implements [engine.Engine].
func (e *Engine) Create(ctx context.Context, token wire.Token, authority keys.AuthorityKeys, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	vault := authority.VaultID()
	return e.db.Update(func(tx *store.Tx) error {
		invites := tx.Bucket(bucketInvites)
		if invites == nil {
			return wire.ErrInvite
		}
		i, err := parseInvite(invites.Get(inviteKey(token)))
		if err != nil {
			return err
		}
		if i == nil {
			return wire.ErrInvite
		}
		there, err := getTenant(tx, vault)
		if err != nil && !errors.Is(err, wire.ErrNotFound) {
			return err
		}
		if there != nil && there.state == engine.StateRemoved {
			return wire.ErrSuspended
		}
		switch {
		case there != nil && i.has(vault):
			return nil
		case i.uses == 0 || now.UnixMilli() >= int64(i.expires):
			return wire.ErrInvite
		case there != nil:
			return nil
		}

		if i.uses != engine.Unlimited {
			i.uses, i.made = i.uses-1, append(i.made, vault[:]...)
			if err := invites.Put(inviteKey(token), i.encode()); err != nil {
				return err
			}
		}
		if _, err := tx.CreateLog(logName(vault), vault, authority); err != nil {
			return fmt.Errorf("creating vault: %w", err)
		}
		ms := uint64(now.UnixMilli())
		t := &tenant{created: ms, seen: ms, state: engine.StateActive, since: ms, own: i.quota}
		return putTenant(tx, vault, t)
	})
}

// EachInvite implements [engine.Carrying].
func (e *Engine) EachInvite(ctx context.Context, fn func(*engine.StoredInvite) error) error {
	var all []*engine.StoredInvite
	err := e.db.View(func(tx *store.Tx) error {
		b := tx.Bucket(bucketInvites)
		if b == nil {
			return nil
		}
		return b.Scan(nil, func(k, v []byte) (bool, error) {
			i, err := parseInvite(v)
			if err == nil && len(k) != sha256.Size {
				err = fmt.Errorf("%w: key of an invite", store.ErrDamaged)
			}
			if err != nil {
				return false, err
			}
			s := &engine.StoredInvite{Key: [32]byte(k), Expires: fromMillis(i.expires), Uses: i.uses, Quota: i.quota}
			for made := i.made; len(made) > 0; made = made[len(keys.VaultID{}):] {
				s.Made = append(s.Made, keys.VaultID(made[:len(keys.VaultID{})]))
			}
			all = append(all, s)
			return true, nil
		})
	})
	for n := 0; n < len(all) && err == nil; n++ {
		if err = ctx.Err(); err == nil {
			err = fn(all[n])
		}
	}
	return err
}

// PutInvite implements [engine.Carrying].
func (e *Engine) PutInvite(ctx context.Context, i *engine.StoredInvite) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := invite{expires: uint64(i.Expires.UnixMilli()), uses: i.Uses, quota: i.Quota}
	for _, vault := range i.Made {
		n.made = append(n.made, vault[:]...)
	}
	return e.db.Update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket(bucketInvites)
		if err == nil {
			err = b.Put(bytes.Clone(i.Key[:]), n.encode())
		}
		return err
	})
}
