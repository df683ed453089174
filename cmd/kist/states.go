package main

import (
	"sync"

	"github.com/kistvault/kist/vault"
)

// states passes on where a sync is: from the sync, which never waits for it, to
// any number of listeners, each of which may be slow. The zero value is ready.
type states struct {
	mu        sync.Mutex
	last      *vault.Progress // nil: nothing was told
	ended     bool
	listeners map[*listener]bool
}

// maxUnheard bounds how many changes of the state wait for a listener.
const maxUnheard = 64

// A listener gets each change of the state, in order. Of those that it is too
// slow for, the oldest are lost.
type listener struct {
	of   *states
	wake chan struct{} // holds one; closed when nothing more comes
	wait []vault.Progress
}

// tell tells everybody.
func (s *states) tell(p vault.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.last = &p
	for l := range s.listeners {
		l.put(p)
	}
}

// put keeps the newest of each run of one state.
func (l *listener) put(p vault.Progress) {
	if n := len(l.wait); n > 0 && sameState(l.wait[n-1], p) {
		l.wait[n-1] = p
	} else if l.wait = append(l.wait, p); len(l.wait) > maxUnheard {
		l.wait = l.wait[1:]
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func sameState(a, b vault.Progress) bool {
	return a.State == b.State && errorText(a.Err) == errorText(b.Err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// listen adds a listener, which is told the present state first.
func (s *states) listen() *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &listener{of: s, wake: make(chan struct{}, 1)}
	if s.last != nil {
		l.put(*s.last)
	}
	if s.ended {
		close(l.wake)
		return l
	}
	if s.listeners == nil {
		s.listeners = make(map[*listener]bool)
	}
	s.listeners[l] = true
	return l
}

// take returns what has come since the last call.
func (l *listener) take() []vault.Progress {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	list := l.wait
	l.wait = nil
	return list
}

// close ends a listener. It may be called again, and after end.
func (l *listener) close() {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.listeners[l] {
		delete(l.of.listeners, l)
		close(l.wake)
	}
}

// end ends all listeners, which hear first what waits for them.
func (s *states) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for l := range s.listeners {
		delete(s.listeners, l)
		close(l.wake)
	}
}
