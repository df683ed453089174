package front

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// A Gate bounds the connections that have not asked for anything yet. Where there are
// more, the one that has been silent for longest is closed: whoever opens many and says
// nothing loses them, and who comes to ask gets through. Its ConnState is to be the
// http.Server's.
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

// ConnState notes what becomes of a connection.
func (g *Gate) ConnState(c net.Conn, s http.ConnState) {
	if s == http.StateNew {
		if silent := g.enter(c); silent != nil {
			silent.Close()
		}
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave(c)
}

// enter takes a connection in and returns the one that has to go for it, nil for none.
func (g *Gate) enter(c net.Conn) (silent net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting.Len() >= g.max {
		silent = g.waiting.Front().Value.(net.Conn)
		g.leave(silent)
	}
	g.places[c] = g.waiting.PushBack(c)
	return silent
}

// leave takes a connection out, if it is here. mu is held.
func (g *Gate) leave(c net.Conn) {
	if e := g.places[c]; e != nil {
		g.waiting.Remove(e)
		delete(g.places, c)
	}
}
