package onboarding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/vault"
)

// A Moved says what Move did.
type Moved struct {
	From   string // address of the secondary that the vault was at
	To     string
	Sent   uint64 // commits that the new one did not have
	Report *vault.Report
}

// Move moves the vault to the secondary that the invite is of; see [vault.Vault.Move].
// All devices follow by themselves, since the secondary that has the vault now tells
// them, with the authority's signature: it must be reachable, and in order. The key
// file names the new one then, where its passphrase is at hand. It may be run again,
// and goes on where it was interrupted.
func Move(ctx context.Context, c Config) (r *Moved, err error) {
	if c.Invite == nil {
		return nil, ErrNeedInvite
	}
	f, v, err := c.openOwn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	to := fromInvite(c.Invite)
	if err := c.probe(ctx, to); err != nil {
		return nil, err
	}
	r = &Moved{To: to.URL}
	if servers := v.Servers(); len(servers) > 0 {
		r.From = servers[0].URL
	}
	if r.Sent, r.Report, err = v.Move(ctx, f.Root.Authority(), to, &c.Invite.Token, c.Sync); err != nil {
		return nil, err
	}
	return r, c.remember(ctx, v, f, v.Servers())
}

// openOwn opens the key file and the vault that it belongs to. The caller closes the
// vault.
func (c *Config) openOwn(ctx context.Context) (*keyfile.File, *vault.Vault, error) {
	f, err := c.openKey()
	if err != nil {
		return nil, nil, err
	}
	if f == nil {
		return nil, nil, fmt.Errorf("key file %s: %w", c.KeyFile, fs.ErrNotExist)
	}
	v, err := vault.Open(ctx, c.Dir, c.Vault)
	if err != nil {
		return nil, nil, err
	}
	if v.ID() != f.Vault {
		err := fmt.Errorf("%w: the key file opens vault %s, and %s holds vault %s", commitlog.ErrVaultIDMismatch, f.Vault.Short(), c.Dir, v.ID().Short())
		return nil, nil, errors.Join(err, v.Close())
	}
	return f, v, nil
}

// maxServers is how many secondaries a key file names.
const maxServers = 16

// first returns the secondaries of a key file with one before all others.
func first(s keyfile.Server, known []keyfile.Server) []keyfile.Server {
	out := []keyfile.Server{s}
	for _, k := range known {
		if k.Key != s.Key && len(out) < maxServers {
			out = append(out, k)
		}
	}
	if slices.Equal(out, known) {
		return known
	}
	return out
}
