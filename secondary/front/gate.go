package front

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// A Gate bounds the connections that are no sessions. Where there are more, the oldest is
// closed: whoever opens many and says nothing, asks slowly, or has asked and stays, loses
// them, and who comes to ask gets through. Its ConnState is to be the http.Server's.
type Gate struct {
	max int

	mu      sync.Mutex
	waiting *list.List // of net.Conn, the oldest first
	places  map[net.Conn]*list.Element
}

// NewGate returns a gate for so many connections, at least one.
func NewGate(max int) *Gate {
	return &Gate{max: max, waiting: list.New(), places: make(map[net.Conn]*list.Element)}
}

// ConnState notes what becomes of a connection. A session takes its own over.
func (g *Gate) ConnState(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if oldest := g.enter(c); oldest != nil {
			oldest.Close()
		}
	case http.StateHijacked, http.StateClosed:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leave(c)
	}
}

// enter takes a connection in and returns the one that has to go for it, nil for none.
func (g *Gate) enter(c net.Conn) (oldest net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting.Len() >= g.max {
		oldest = g.waiting.Front().Value.(net.Conn)
		g.leave(oldest)
	}
	g.places[c] = g.waiting.PushBack(c)
	return oldest
}

// leave takes a connection out, if it is here. mu is held.
func (g *Gate) leave(c net.Conn) {
	if e := g.places[c]; e != nil {
		g.waiting.Remove(e)
		delete(g.places, c)
	}
}
