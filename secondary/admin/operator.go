package admin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
)

// An Operator has what is to be administrated. It is not changed after [Listen].
type Operator struct {
	Data   *secondary.DataDir
	Engine engine.Engine
	Server *secondary.Server // nil: none runs
	Now    func() time.Time  // nil: time.Now

	// DeletedDays is how long a deleted vault can be had back.
	DeletedDays uint32

	// Metrics is what Prometheus is answered; nil: nothing is measured.
	Metrics *Metrics
	// Level is from which on the server logs; nil: it cannot be changed.
	Level *slog.LevelVar
}

var errNeverServed = errors.New("the server has never run, so its address is not known: run kistd serve first")

func (o *Operator) handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	on(mux, log, "invite", o.invite)
	on(mux, log, "compact", o.compact)
	on(mux, log, "verify", o.verify)
	on(mux, log, "tidy", o.tidy)
	mux.HandleFunc("GET /hold", o.hold)
	mux.HandleFunc("GET /store", o.store)
	on(mux, log, "vaults", o.vaults)
	on(mux, log, "quota", o.setQuota)
	on(mux, log, "state", o.setState)
	on(mux, log, "remove", o.remove)
	mux.HandleFunc("GET /export", o.export)
	mux.HandleFunc("POST /import", o.importVault)
	on(mux, log, "log-level", o.logLevel)
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	return mux
}

func (o *Operator) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// An InviteQuestion asks for an invite.
type InviteQuestion struct {
	Uses  uint32        `json:"uses"`  // vaults that can be made with it; 0: one
	Days  uint32        `json:"days"`  // that it is good for; 0: a week
	Quota *engine.Quota `json:"quota"` // of these vaults; nil: none of their own
}

// An Invite is the answer.
type Invite struct {
	Invite string `json:"invite"` // a secret
}

func (o *Operator) invite(ctx context.Context, q InviteQuestion) (a Invite, err error) {
	address, err := o.Data.Address()
	if errors.Is(err, fs.ErrNotExist) {
		err = errNeverServed
	}
	if err != nil {
		return a, err
	}
	i, err := secondary.NewInviteFor(ctx, o.Engine, o.Data.Key().Public(), address, o.now(), secondary.InviteTerms{
		Uses: q.Uses, Time: time.Duration(q.Days) * 24 * time.Hour, Quota: q.Quota,
	})
	return Invite{i.String()}, err
}

// Invite makes an invite. It is durable when it is returned.
func (c *Client) Invite(ctx context.Context, q InviteQuestion) (Invite, error) {
	return ask[Invite](ctx, c, "invite", q)
}

// A CompactQuestion asks to drop what was superseded.
type CompactQuestion struct {
	Days uint32 `json:"days"` // so long ago
}

func (o *Operator) compact(ctx context.Context, q CompactQuestion) (engine.Compacted, error) {
	before := o.now().UTC().AddDate(0, 0, -int(q.Days))
	if o.Server != nil {
		return o.Server.Compact(ctx, before)
	}
	return o.Engine.Compact(ctx, before)
}

// Compact drops the content of what was superseded; see engine.Engine.
func (c *Client) Compact(ctx context.Context, q CompactQuestion) (engine.Compacted, error) {
	return ask[engine.Compacted](ctx, c, "compact", q)
}
