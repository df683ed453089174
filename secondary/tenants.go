package secondary

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// barred returns why a client that has proved itself is not let in, 0 if it is.
func (s *Session) barred(ctx context.Context, w who) (wire.Code, error) {
	e := s.server.config.Engine
	author, err := e.Author(ctx, w.vault, w.device)
	if err != nil {
		return 0, err
	}
	if author.Revoked != 0 {
		return wire.CodeRevoked, nil
	}
	state, err := e.State(ctx, w.vault)
	if err != nil {
		return 0, err
	}
	if state != engine.StateActive {
		return wire.CodeSuspended, nil
	}
	return 0, nil
}

// noteSeen notes now and then that a device of the vault is here. handleMu is held.
func (s *Session) noteSeen(ctx context.Context) error {
	now := s.server.config.Now()
	if since := now.Sub(s.seen); since >= 0 && since < time.Hour {
		return nil
	}
	s.seen = now
	err := s.server.config.Engine.Seen(ctx, s.vault(), now)
	if err != nil && trouble(err).Code == wire.CodeReadOnly {
		s.server.noteTrouble(err)
		return nil // whoever comes to read needs nothing written
	}
	return err
}

// EndSessions ends all sessions of a vault, for a reason that their devices are
// told. When it returns they have done the last that they will do.
func (s *Server) EndSessions(vault keys.VaultID, reason error) {
	for _, session := range s.sessions.all(vault) {
		session.End(reason)
	}
}

// Sessions returns how many devices of a vault are signed in.
func (s *Server) Sessions(vault keys.VaultID) int {
	_, n := s.sessions.counts(vault)
	return n
}

// full holds the vaults that something was refused for their quota.
type full struct {
	mu     sync.Mutex
	vaults map[keys.VaultID]struct{}
}

func (f *full) add(vault keys.VaultID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.vaults == nil {
		f.vaults = make(map[keys.VaultID]struct{})
	}
	f.vaults[vault] = struct{}{}
}

// noteQuota notes that something was refused, if it was for the vault's quota.
func (s *Session) noteQuota(code wire.Code) {
	if code == wire.CodeQuota {
		s.server.counts.quota.Add(1)
		s.server.full.add(s.vault())
	}
}

// MadeRoom tells the server that vaults may have more room than before: after a
// compaction, or with another quota. Sessions of vaults that were refused something
// end, so that their devices come back and try again.
func (s *Server) MadeRoom() {
	s.full.mu.Lock()
	waiting := s.full.vaults
	s.full.vaults = nil
	s.full.mu.Unlock()
	for vault := range waiting {
		s.EndSessions(vault, again("there may be more room for this vault now"))
	}
}

// again returns what sends devices away for some seconds, not all for the same.
func again(why string) *wire.Error {
	return busy(time.Duration(500+rand.IntN(4500))*time.Millisecond, why)
}

// tooMuch is why somebody is sent away whom there is no memory for.
const tooMuch = "too much is under way there at the moment"

// busy returns what sends a device away for a time, and why.
func busy(wait time.Duration, why string) *wire.Error {
	e := wire.NewError(wire.CodeBusy, why)
	e.RetryAfter = uint64(max(wait, time.Millisecond).Milliseconds())
	return e
}
