package secondary

import (
	"sync"

	"github.com/kistvault/kist/keys"
)

// who is a device of a vault, or its owner (the zero device).
type who struct {
	vault  keys.VaultID
	device keys.DeviceID
}

// registry knows the session of each device that is signed in: there is one.
type registry struct {
	mu       sync.Mutex
	sessions map[who]*Session
}

// enter makes s the session of w and ends the one before. When it returns, the
// older session has done the last that it will do. A session enters once, so
// that no two can wait for each other.
//
// A session that began before the one that is there is not let in: its
// connection broke while it signed in, and its device has come back since.
func (r *registry) enter(w who, s *Session, reason error) error {
	r.mu.Lock()
	other := r.sessions[w]
	if other != nil && other.number > s.number {
		r.mu.Unlock()
		return reason
	}
	if r.sessions == nil {
		r.sessions = make(map[who]*Session)
	}
	r.sessions[w] = s
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
	if r.sessions[w] == s {
		delete(r.sessions, w)
	}
}

// of returns the session of w, nil if there is none.
func (r *registry) of(w who) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[w]
}
