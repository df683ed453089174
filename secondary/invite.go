package secondary

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// InviteTime is how long an invite is good for.
const InviteTime = 7 * 24 * time.Hour

// InviteTerms say what an invite is good for. The zero value is usual.
type InviteTerms struct {
	Uses  uint32        // vaults that can be made with it; 0: one
	Time  time.Duration // 0: InviteTime
	Quota *engine.Quota // of these vaults; nil: none of their own
}

// NewInvite makes an invite for one vault at the server with this identity and
// address. It is durable when it is returned.
func NewInvite(ctx context.Context, e engine.Engine, server keys.VerifyKey, a Address, now time.Time) (wire.Invite, error) {
	return NewInviteFor(ctx, e, server, a, now, InviteTerms{})
}

// NewInviteFor is NewInvite with terms.
func NewInviteFor(ctx context.Context, e engine.Engine, server keys.VerifyKey, a Address, now time.Time, t InviteTerms) (wire.Invite, error) {
	setDefault(&t.Uses, 1)
	setDefault(&t.Time, InviteTime)
	i := wire.Invite{Server: server, Expires: now.Add(t.Time).Truncate(time.Millisecond).UTC(), Binding: a.Binding, URL: a.URL}
	rand.Read(i.Token[:])
	return i, e.Invite(ctx, i.Token, t.Uses, i.Expires, t.Quota)
}

// openTime is how long the invite of an open server says that it is good for. Who
// kept one of years ago is in need of a newer address, too.
const openTime = 10 * 365 * 24 * time.Hour

// OpenInvite lets everybody create vaults at the server, or nobody any more who was
// not invited, and returns the invite for everybody. Its token is no secret: it is
// zero. It is durable when it is returned.
func OpenInvite(ctx context.Context, e engine.Engine, server keys.VerifyKey, a Address, now time.Time, open bool) (wire.Invite, error) {
	i := wire.Invite{Server: server, Expires: now.Add(openTime).Truncate(time.Millisecond).UTC(), Binding: a.Binding, URL: a.URL}
	uses := uint32(0)
	if open {
		uses = engine.Unlimited
	}
	return i, e.Invite(ctx, i.Token, uses, i.Expires, nil)
}
