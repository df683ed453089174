package admin

import (
	"context"
	"errors"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
)

// A TidyQuestion asks what nobody needs any more.
type TidyQuestion struct {
	Remove bool `json:"remove"` // … and to remove it
}

// State is the answer, with what else the server knows of itself.
type State struct {
	engine.Tidied
	Serving bool      `json:"serving"` // a server answers, and not the command itself
	Newest  time.Time `json:"newest"`  // time of the newest thing that is stored; zero: there is none
	Damaged string    `json:"damaged"` // what was found to be; empty: nothing was
}

func (o *Operator) tidy(ctx context.Context, q TidyQuestion) (a State, err error) {
	k, err := o.keeper()
	if err != nil {
		return a, err
	}
	a.Serving = o.Server != nil
	a.Tidied, err = k.Tidy(ctx, o.now().Add(-secondary.TidyAfter), q.Remove)
	if errors.Is(err, store.ErrDamaged) { // of one vault, and the rest was looked at
		a.Damaged, err = err.Error(), nil
	}
	if err != nil {
		return a, err
	}
	return a, o.Engine.EachTenant(ctx, func(t *engine.Tenant) error {
		if t.Fault != nil {
			a.Damaged = t.Fault.Error()
		}
		if t.Seen.After(a.Newest) {
			a.Newest = t.Seen
		}
		return nil
	})
}

// Tidy finds what nobody needs any more, and says how the server is.
func (c *Client) Tidy(ctx context.Context, q TidyQuestion) (State, error) {
	return ask[State](ctx, c, "tidy", q)
}
