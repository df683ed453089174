package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// coming holds the vaults that are being imported by this process.
type coming struct {
	mu     sync.Mutex
	vaults map[keys.VaultID]bool
}

// enter reports whether the vault was not there.
func (c *coming) enter(vault keys.VaultID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vaults[vault] {
		return false
	}
	if c.vaults == nil {
		c.vaults = make(map[keys.VaultID]bool)
	}
	c.vaults[vault] = true
	return true
}

func (c *coming) leave(vault keys.VaultID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.vaults, vault)
}

func (c *coming) has(vault keys.VaultID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vaults[vault]
}

// sweep removes what is left of a vault that goes, or came and was cut off.
func (e *Engine) sweep(ctx context.Context, vault keys.VaultID) error {
	err := e.removeGoing(ctx, vault, true)
	if errors.Is(err, wire.ErrNotFound) {
		return nil
	}
	return err
}

var errHeld = errors.New("what is left of the vault cannot be removed while a backup or an export is made")

// checkWhole refuses what no vault can be.
func checkWhole(w *engine.Whole) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: vault: %s", wire.ErrProtocol, fmt.Sprintf(format, args...))
	}
	switch {
	case w.Authority.VaultID() != w.Vault:
		return commitlog.ErrVaultIDMismatch
	case w.State != engine.StateActive && w.State != engine.StateSuspended && w.State != engine.StateDeleted:
		return refuse("it is %v", w.State)
	case w.Size >= commitlog.MaxLog || uint64(w.Moved) > w.Size:
		return refuse("%d commits, moved with commit %d", w.Size, w.Moved)
	}
	active := 0
	for _, d := range w.Devices {
		if d.ID.IsZero() || uint64(d.Revoked) > w.Size {
			return refuse("device %s", d.ID)
		}
		if d.Revoked == 0 {
			active++
		}
	}
	if active > commitlog.MaxDevices {
		return &commitlog.CommitError{Err: commitlog.ErrLimit, Reason: fmt.Sprintf("%d active devices", active)}
	}
	return nil
}

func newTenant(w *engine.Whole) *tenant {
	return &tenant{
		created: uint64(w.Created.UnixMilli()), seen: uint64(w.Seen.UnixMilli()),
		state: w.State, since: uint64(w.Since.UnixMilli()), own: w.Own,
	}
}

func activeDevices(w *engine.Whole) (n int) {
	for _, d := range w.Devices {
		if d.Revoked == 0 {
			n++
		}
	}
	return n
}

// author returns a device as it was before it was revoked.
func author(d engine.Device) *commitlog.Author {
	a := &commitlog.Author{Sign: d.Sign, Auth: d.Auth}
	if d.Tags != nil {
		a.Scope = make([]keys.ScopeEntry, 0, len(d.Tags))
	}
	for _, t := range d.Tags {
		a.Scope = append(a.Scope, keys.ScopeEntry{Tag: t, Write: true})
	}
	return a
}
