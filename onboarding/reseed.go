package onboarding

import (
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A Reseeded says what Reseed did.
type Reseeded struct {
	Lost    uint64        // commits that the secondary had lost, or never had
	Created bool          // the vault was made there
	Merged  *vault.Merged // not nil: it had another history, and both were brought together
	Report  *vault.Report
}

// Reseed fills the vault's secondary again from this device, where it has lost the
// end of the vault's history or all of it; with an invite, the secondary that it is
// of, which is the vault's from then on. The commits are those that were there, so
// other devices go on by themselves, if they know the secondary.
//
// The secondary must hold the beginning of this device's history, or nothing of it;
// with another one it is [commitlog.ErrFork], and nothing is changed, unless merge says
// to bring the two together, see [vault.Vault.Merge]. An alarm is taken back when all is
// there. It may be run again.
func Reseed(ctx context.Context, c Config, merge bool) (r *Reseeded, err error) {
	f, v, err := c.openOwn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	before := v.Servers()
	if c.Invite != nil {
		s := fromInvite(c.Invite)
		if err := c.probe(ctx, s); err != nil {
			return nil, err
		}
		if err := v.SetServers([]keyfile.Server{s}); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil { // what it had stays its secondary
				err = errors.Join(err, v.SetServers(before))
			}
		}()
	}
	r = &Reseeded{}
	authority := f.Root.Authority()
	r.Lost, err = v.Refill(ctx, authority, nil, c.Sync)
	if errors.Is(err, wire.ErrDenied) {
		if c.Invite == nil {
			return nil, fmt.Errorf("%w: %s says: %w", ErrNotThere, v.Servers()[0].URL, err)
		}
		r.Lost, err = v.Refill(ctx, authority, &c.Invite.Token, c.Sync)
		r.Created = err == nil
	}
	if merge && errors.Is(err, commitlog.ErrFork) {
		r.Merged, err = v.Merge(ctx, authority, c.Sync)
	}
	if err != nil {
		return nil, err
	}
	if err := v.TryAgain(ctx); err != nil {
		return nil, err
	}
	if r.Report, err = v.Sync(ctx, c.Sync); err != nil {
		return nil, err
	}
	return r, c.remember(ctx, v, f, v.Servers())
}
