package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// A Vault is what an operator sees of a vault.
type Vault struct {
	ID       string       `json:"id"`
	State    string       `json:"state"` // active, suspended, deleted, or removed while it goes
	Since    time.Time    `json:"since"` // … of the state
	Created  time.Time    `json:"created"`
	Seen     time.Time    `json:"seen"`     // when a device was here last, to the hour
	Sessions int          `json:"sessions"` // devices that are here now
	Commits  uint64       `json:"commits"`
	Bytes    uint64       `json:"bytes"`             // of commits and objects
	Objects  uint64       `json:"bytes_objects"`     // of these, of objects
	Devices  uint32       `json:"devices"`           // that are admitted and not revoked
	Quota    engine.Quota `json:"quota"`             // in force; zeros are no limits
	Own      bool         `json:"own_quota"`         // it is the vault's own
	Moved    uint64       `json:"moved,omitempty"`   // commit with which its owner moved it to another secondary
	Gone     *time.Time   `json:"gone,omitempty"`    // of a deleted one: when it goes
	Damaged  string       `json:"damaged,omitempty"` // how its log is, of which nothing is known then; it may be where this is empty
}

// A VaultsQuestion asks what vaults there are.
type VaultsQuestion struct{}

// Vaults is the answer, in the order of the ids.
type Vaults struct {
	Vaults []Vault `json:"vaults"`
}

func (o *Operator) vaults(ctx context.Context, _ VaultsQuestion) (a Vaults, err error) {
	a.Vaults = []Vault{}
	err = o.Engine.EachTenant(ctx, func(t *engine.Tenant) error {
		a.Vaults = append(a.Vaults, o.vault(t))
		return nil
	})
	return a, err
}

func (o *Operator) vault(t *engine.Tenant) Vault {
	v := Vault{
		ID: t.Vault.String(), State: t.State.String(), Since: t.Since, Created: t.Created, Seen: t.Seen,
		Commits: t.Used.Commits, Bytes: t.Used.Bytes(), Objects: t.Used.Objects, Devices: t.Used.Devices, Quota: t.Quota, Own: t.Own, Moved: uint64(t.Moved),
	}
	if o.Server != nil {
		v.Sessions = o.Server.Sessions(t.Vault)
	}
	if t.Fault != nil {
		v.Damaged = t.Fault.Error()
	}
	if t.State == engine.StateDeleted {
		gone := t.Since.AddDate(0, 0, int(o.DeletedDays))
		v.Gone = &gone
	}
	return v
}

// Vaults lists the vaults.
func (c *Client) Vaults(ctx context.Context) ([]Vault, error) {
	a, err := ask[Vaults](ctx, c, "vaults", VaultsQuestion{})
	return a.Vaults, err
}

// errAmbiguous: several vaults begin like that.
var errAmbiguous = errors.New("several vaults have ids that begin like that: give more of it")

// find returns the vault whose id is, or begins with, a text. Devices show ids in
// groups, as in 7KQ2-M0ZD.
func (o *Operator) find(ctx context.Context, text string) (keys.VaultID, error) {
	var found []keys.VaultID
	if begin := strings.ToUpper(strings.ReplaceAll(text, "-", "")); begin != "" {
		err := o.Engine.EachTenant(ctx, func(t *engine.Tenant) error {
			if strings.HasPrefix(t.Vault.String(), begin) {
				found = append(found, t.Vault)
			}
			return nil
		})
		if err != nil {
			return keys.VaultID{}, err
		}
	}
	switch len(found) {
	case 0:
		return keys.VaultID{}, fmt.Errorf("vault %q: %w", text, wire.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return keys.VaultID{}, fmt.Errorf("vault %q: %w", text, errAmbiguous)
}

// A QuotaQuestion asks to change what a vault may take.
type QuotaQuestion struct {
	Vault string        `json:"vault"` // id, or as much of it as names one
	Quota *engine.Quota `json:"quota"` // nil: that of vaults without one of their own
}

func (o *Operator) setQuota(ctx context.Context, q QuotaQuestion) (v Vault, err error) {
	id, err := o.find(ctx, q.Vault)
	if err == nil {
		err = o.Engine.SetQuota(ctx, id, q.Quota)
	}
	if err != nil {
		return v, err
	}
	if o.Server != nil {
		o.Server.MadeRoom()
	}
	return o.tenant(ctx, id)
}

func (o *Operator) tenant(ctx context.Context, id keys.VaultID) (v Vault, err error) {
	t, err := o.Engine.Tenant(ctx, id)
	if err != nil {
		return v, err
	}
	return o.vault(t), nil
}

// SetQuota changes what a vault may take, and returns the vault.
func (c *Client) SetQuota(ctx context.Context, q QuotaQuestion) (Vault, error) {
	return ask[Vault](ctx, c, "quota", q)
}

// A StateQuestion asks to change what may be done with a vault.
type StateQuestion struct {
	Vault string `json:"vault"` // id, or as much of it as names one
	State string `json:"state"` // active, suspended or deleted
}

func (o *Operator) setState(ctx context.Context, q StateQuestion) (v Vault, err error) {
	var state engine.State
	for _, s := range []engine.State{engine.StateActive, engine.StateSuspended, engine.StateDeleted} {
		if s.String() == q.State {
			state = s
		}
	}
	if state == 0 {
		return v, fmt.Errorf("a vault cannot be made %q", q.State)
	}
	id, err := o.find(ctx, q.Vault)
	if err != nil {
		return v, err
	}
	if v, err = o.tenant(ctx, id); err != nil {
		return v, err
	}
	if state == engine.StateSuspended && v.State == engine.StateDeleted.String() {
		return v, errors.New("the vault is deleted, and lets no device in: kistd vaults resume has it back")
	}
	if err = o.Engine.SetState(ctx, id, state, o.now()); err != nil {
		return v, err
	}
	if o.Server != nil && state != engine.StateActive {
		o.Server.EndSessions(id, wire.ErrSuspended)
	}
	return o.tenant(ctx, id)
}

// SetState changes what may be done with a vault, and returns the vault. Sessions of
// one that is not active any more have ended.
func (c *Client) SetState(ctx context.Context, q StateQuestion) (Vault, error) {
	return ask[Vault](ctx, c, "state", q)
}

// A RemoveQuestion asks to give the space of deleted vaults back whose time is over.
type RemoveQuestion struct {
	Vault string `json:"vault,omitempty"` // one that is deleted, and is not to wait for that
}

// Removed is the answer.
type Removed struct {
	Vaults int `json:"vaults"`
}

func (o *Operator) remove(ctx context.Context, q RemoveQuestion) (a Removed, err error) {
	if q.Vault != "" {
		id, err := o.find(ctx, q.Vault)
		if err == nil {
			err = o.Engine.SetState(ctx, id, engine.StateRemoved, o.now())
		}
		if err != nil {
			return a, err
		}
	}
	a.Vaults, err = o.Engine.Remove(ctx, o.now().UTC().AddDate(0, 0, -int(o.DeletedDays)))
	return a, err
}

// Remove gives the space of deleted vaults back.
func (c *Client) Remove(ctx context.Context, q RemoveQuestion) (Removed, error) {
	return ask[Removed](ctx, c, "remove", q)
}
