package secondary

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// who is a device of a vault, or its owner (the zero device).
type who struct {
	vault  keys.VaultID
	device keys.DeviceID
}

// registry knows the session of each device that is signed in: there is one.
type registry struct {
	max int // sessions of a vault; negative: no limit

	mu     sync.Mutex
	vaults map[keys.VaultID]map[keys.DeviceID]*Session
	count  int
}

// enter makes s the session of w and ends the one before. When it returns, the
// older session has done the last that it will do. A session enters once, so
// that no two can wait for each other.
//
// A session that began before the one that is there is not let in: its
// connection broke while it signed in, and its device has come back since.
func (r *registry) enter(w who, s *Session, reason error) error {
	r.mu.Lock()
	of := r.vaults[w.vault]
	other := of[w.device]
	switch {
	case other != nil && other.number > s.number:
		r.mu.Unlock()
		return reason
	case other == nil && r.max >= 0 && len(of) >= r.max:
		r.mu.Unlock()
		return fmt.Errorf("%w: too many devices of this vault are connected", wire.ErrBusy)
	}
	if of == nil {
		if r.vaults == nil {
			r.vaults = make(map[keys.VaultID]map[keys.DeviceID]*Session)
		}
		of = make(map[keys.DeviceID]*Session)
		r.vaults[w.vault] = of
	}
	of[w.device] = s
	if other == nil {
		r.count++
	}
	r.mu.Unlock()
	if other != nil {
		other.End(reason)
	}
	return nil
}

// leave forgets s.
func (r *registry) leave(w who, s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.vaults[w.vault]
	if of[w.device] != s {
		return
	}
	delete(of, w.device)
	r.count--
	if len(of) == 0 {
		delete(r.vaults, w.vault)
	}
}

// of returns the session of w, nil if there is none.
func (r *registry) of(w who) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vaults[w.vault][w.device]
}

// all returns the sessions of a vault.
func (r *registry) all(vault keys.VaultID) []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.vaults[vault]))
}

// counts returns how many sessions there are, and how many of a vault.
func (r *registry) counts(vault keys.VaultID) (all, of int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, len(r.vaults[vault])
}
