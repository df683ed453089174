// Package lying makes a secondary lie: one that has its own key and its own log,
// speaks the protocol, and changes one thing of what it says.
//
// A [Server] runs the sessions of an honest server, and changes what they say
// between the session and the connection. So a lie is told by the secondary
// itself: sign-in, the binding to TLS and the WebSocket are in order, and only what
// devices check stands against it. What is changed is a [Mutation], one at a time.
//
//	liar := lying.New(honest, wire.BindingNone)
//	liar.Tell(lying.Drop(wire.TypeDownload, 1))
//
// It tells afterwards how often it lied, and what the device has said since.
package lying

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/internal/frames"
	"github.com/kistvault/kist/secondary/wire"
)

// Server is an http.Handler in the place of an honest server's. It serves with the
// truth until it is told otherwise.
type Server struct {
	honest  *secondary.Server
	binding wire.Binding
	ctx     context.Context
	cancel  context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	mutation Mutation
	begun    int
	told     int
	heard    []wire.Type
	said     [][]byte
	conns    map[*conn]struct{}
	closed   bool
}

// New returns a server. binding is that of the honest one.
func New(honest *secondary.Server, binding wire.Binding) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{honest: honest, binding: binding, ctx: ctx, cancel: cancel, conns: make(map[*conn]struct{})}
}

// Tell has connections from now on lie, and forgets what was said and heard. The
// zero Mutation is the truth.
func (s *Server) Tell(m Mutation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mutation, s.begun, s.told, s.heard, s.said = m, 0, 0, nil, nil
}

// Begun returns how many connections there have been.
func (s *Server) Begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Told returns how many frames were not the truth, or were kept back.
func (s *Server) Told() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// Heard returns what devices have said since the first lie, PING and PONG left out.
func (s *Server) Heard() []wire.Type {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// Said returns the frames that were sent, in order.
func (s *Server) Said() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

// Close breaks all connections, and returns when nothing of them is left.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.frames.Close()
	}
	s.mu.Unlock()
	s.cancel()
	s.ended.Wait()
}

// ServeHTTP takes a connection over and returns at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var exporter []byte
	if s.binding == wire.BindingExporter {
		var err error
		if exporter, err = r.TLS.ExportKeyingMaterial(wire.ExporterLabel, nil, wire.ExporterSize); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	up := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c := &conn{
		server: s, frames: frames.New(ws, idle),
		wake: make(chan struct{}, 1), out: make(chan saying, wire.MaxUploads), done: make(chan struct{}),
	}
	c.session = s.honest.NewSession(exporter, func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ws.Close()
		return
	}
	if s.mutation.Begin != nil {
		c.lie = s.mutation.Begin()
	}
	s.begun++
	s.conns[c] = struct{}{}
	s.ended.Add(2)
	go c.read()
	go c.write()
}

// idle is how long a device may be silent.
const idle = 90 * time.Second

// conn is one connection. Its reader gives the session what the device says, its
// writer changes and sends what the session says.
type conn struct {
	server  *Server
	frames  *frames.Conn
	session *secondary.Session
	lie     Lie

	wake chan struct{} // holds a token when the session may have something to say
	out  chan saying   // answers, from the reader
	done chan struct{} // closed when the writer has ended
}

// A saying is what is to be sent: an honest message, or a frame as it is.
type saying struct {
	m     wire.Message
	frame []byte
}

func (c *conn) read() {
	s := c.server
	defer s.ended.Done()
	defer func() {
		c.session.Close()
		c.frames.Close()
		close(c.out)
		<-c.done
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	signedIn := false
	for {
		frame, err := c.frames.Read()
		if err != nil {
			return
		}
		pass, answer := [][]byte{frame}, [][]byte(nil)
		if c.lie.Up != nil {
			pass, answer = c.lie.Up(bytes.Clone(frame))
		}
		c.hear(wire.Type(frame[0]), len(answer) > 0 || len(pass) != 1 || !bytes.Equal(pass[0], frame))
		for _, f := range pass {
			for _, m := range c.session.Handle(s.ctx, f) {
				c.say(saying{m: m})
			}
		}
		for _, f := range answer {
			c.say(saying{frame: f})
		}
		if !signedIn && c.session.SignedIn() {
			signedIn = true
			c.frames.SignedIn()
		}
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *conn) say(what saying) {
	select {
	case c.out <- what:
	case <-c.done:
	}
}

// hear notes what the device says, if it was lied to before.
func (c *conn) hear(t wire.Type, lied bool) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told > 0 && t != wire.TypePing && t != wire.TypePong {
		s.heard = append(s.heard, t)
	}
	if lied {
		s.told++
	}
}

func (c *conn) write() {
	defer c.server.ended.Done()
	defer close(c.done)
	for {
		for m := c.session.Next(c.server.ctx); m != nil; m = c.session.Next(c.server.ctx) {
			if !c.send(saying{m: m}) {
				return
			}
		}
		select {
		case what, open := <-c.out:
			if !open || !c.send(what) {
				return
			}
		case <-c.wake:
		}
	}
}

// send sends what becomes of a message, and reports whether more may follow. A
// final message of the session ends it, if it gets through.
func (c *conn) send(what saying) bool {
	truth := what.frame
	if what.m != nil {
		var err error
		if truth, err = wire.Append(nil, what.m); err != nil {
			panic("an honest message that cannot be sent: " + err.Error())
		}
	}
	lie := [][]byte{truth}
	if what.m != nil && c.lie.Down != nil {
		lie = c.lie.Down(bytes.Clone(truth))
	}
	c.server.mu.Lock()
	if len(lie) != 1 || !bytes.Equal(lie[0], truth) {
		c.server.told++
	}
	c.server.said = append(c.server.said, lie...)
	c.server.mu.Unlock()
	for _, f := range lie {
		if f == nil {
			c.frames.Close() // without a word
			return false
		}
		if err := c.frames.Write(f); err != nil {
			c.frames.Close()
			return false
		}
	}
	if what.m != nil && secondary.Final(what.m) && len(lie) > 0 {
		c.frames.Goodbye(false)
		return false
	}
	return true
}
