package vaulttest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
)

// url is the address of every secondary. Which one answers is the network's
// choice.
const url = "ws://localhost/"

// A Secondary is a server in the test's own process, with its data in a directory
// that goes with the test. It can be stopped and started again with its data.
type Secondary struct {
	Dir string // of its data

	t      testing.TB
	key    keys.SigningKey
	change []func(*secondary.Config)

	mu       sync.Mutex
	networks []*Network
	running  *running // nil: stopped
}

// running is what Start makes and Stop ends.
type running struct {
	engine   *embedded.Engine
	server   *secondary.Server
	http     *http.Server
	listener *listener
	served   chan struct{} // closed when the HTTP server has ended
	liar     *lying.Server // nil: it is honest; guarded by Secondary.mu
}

// NewSecondary starts a secondary, which stops with the test. change may alter
// how it works, each time that it starts; engine, key and binding stay its own.
func NewSecondary(t testing.TB, change ...func(*secondary.Config)) *Secondary {
	t.Helper()
	s := &Secondary{Dir: t.TempDir(), t: t, key: keys.GenerateSigningKey(), change: change}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts a secondary that was stopped.
func (s *Secondary) Start() {
	s.t.Helper()
	engine, err := embedded.Open(s.Dir, embedded.Options{NoSync: true})
	if err != nil {
		s.t.Fatal(err)
	}
	var c secondary.Config
	for _, f := range s.change {
		f(&c)
	}
	c.Engine, c.Key, c.Binding = engine, s.key, wire.BindingNone
	server, err := secondary.New(c)
	if err != nil {
		engine.Close()
		s.t.Fatal(err)
	}
	r := &running{
		engine: engine, server: server, served: make(chan struct{}),
		listener: &listener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	r.http = &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.mu.Lock()
		liar := r.liar
		s.mu.Unlock()
		if liar != nil {
			liar.ServeHTTP(w, q)
		} else {
			server.ServeHTTP(w, q)
		}
	})}
	go func() {
		defer close(r.served)
		r.http.Serve(r.listener) // ends with an error when it is closed
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = r
}

// Stop stops the secondary in an orderly way: sessions are told, and when to come
// back. Meanwhile connections are refused. To stop one that is stopped does
// nothing.
func (s *Secondary) Stop() { s.stop(false) }

// Kill stops the secondary without a word: its connections break. What it has
// answered it still knows when it starts again.
func (s *Secondary) Kill() { s.stop(true) }

func (s *Secondary) stop(kill bool) {
	s.t.Helper()
	s.mu.Lock()
	r := s.running
	s.running = nil
	networks := slices.Clone(s.networks)
	s.mu.Unlock()
	if r == nil {
		return
	}
	r.listener.Close()
	if r.liar != nil {
		r.liar.Close()
	}
	if kill {
		for _, n := range networks {
			n.Break()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Errorf("stopping the secondary: %v", err)
	}
	r.http.Close()
	<-r.served
	if err := r.engine.Close(); err != nil {
		s.t.Errorf("closing the secondary's data: %v", err)
	}
}

// Engine returns the store of a secondary that runs, to look into.
func (s *Secondary) Engine() *embedded.Engine {
	s.t.Helper()
	r := s.now()
	if r == nil {
		s.t.Fatal("the secondary is stopped")
	}
	return r.engine
}

// Conns returns how many connections the secondary has.
func (s *Secondary) Conns() int {
	if r := s.now(); r != nil {
		return r.server.Conns()
	}
	return 0
}

// Invite returns a new invite for one vault.
func (s *Secondary) Invite() wire.Invite {
	s.t.Helper()
	address := secondary.Address{URL: url, Binding: wire.BindingNone}
	i, err := secondary.NewInvite(context.Background(), s.Engine(), s.key.Public(), address, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

func (s *Secondary) now() *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// accept hands the secondary its end of a new connection, and reports whether it
// took it.
func (s *Secondary) accept(c net.Conn) bool {
	r := s.now()
	if r == nil {
		return false
	}
	select {
	case r.listener.conns <- c:
		return true
	case <-r.listener.closed:
		return false
	}
}

// listener is where connections come in: a net.Listener without a socket.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "vaulttest" }
func (addr) String() string  { return "localhost" }
