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
	"github.com/kistvault/kist/secondary/wire"
)

// inviteKey returns the key that an invite is kept under. From it the token
// cannot be found: a copy of the file lets nobody in.
func inviteKey(token wire.Token) []byte {
	h := sha256.Sum256(token[:])
	return h[:]
}

// inviteFixed is the length of an invite's value before the vaults made with it.
const inviteFixed = 8 + 4

// Invite implements [engine.Engine].
func (e *Engine) Invite(ctx context.Context, token wire.Token, uses uint32, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.Update(func(tx *store.Tx) error {
		b, err := tx.CreateBucket(bucketInvites)
		if err != nil {
			return err
		}
		v := be.AppendUint64(nil, uint64(expires.UnixMilli()))
		return b.Put(inviteKey(token), be.AppendUint32(v, uses))
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
		var invite []byte
		invites := tx.Bucket(bucketInvites)
		if invites != nil {
			invite = invites.Get(inviteKey(token))
		}
		if len(invite) < inviteFixed || (len(invite)-inviteFixed)%len(vault) != 0 {
			return wire.ErrInvite
		}
		for made := invite[inviteFixed:]; len(made) > 0; made = made[len(vault):] {
			if bytes.Equal(made[:len(vault)], vault[:]) {
				return nil
			}
		}
		expires, uses := int64(be.Uint64(invite)), be.Uint32(invite[8:])
		if uses == 0 || now.UnixMilli() >= expires {
			return wire.ErrInvite
		}
		switch _, err := tx.Log(logName(vault)); {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrNotFound):
			return err
		}

		left := bytes.Clone(invite)
		be.PutUint32(left[8:], uses-1)
		if err := invites.Put(inviteKey(token), append(left, vault[:]...)); err != nil {
			return err
		}
		if _, err := tx.CreateLog(logName(vault), vault, authority); err != nil {
			return fmt.Errorf("creating vault: %w", err)
		}
		vaults, err := tx.CreateBucket(bucketVaults)
		if err != nil {
			return err
		}
		if err := vaults.Put(vault[:], be.AppendUint64(nil, uint64(now.UnixMilli()))); err != nil {
			return err
		}
		sizes, err := tx.CreateBucket(bucketSizes)
		if err != nil {
			return err
		}
		_, err = sizes.CreateBucket(vault.String())
		return err
	})
}
