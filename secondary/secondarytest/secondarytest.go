// Package secondarytest runs a real secondary on a loopback port, for tests of
// what talks to one.
package secondarytest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

// A Server is a secondary with the embedded engine in a directory of its own. It
// can be stopped and started again with its data, at the same address.
type Server struct {
	Dir string // of its data

	t    testing.TB
	key  keys.SigningKey
	door *door
	opts Options

	mu       sync.Mutex
	engine   *embedded.Engine
	server   *secondary.Server
	http     *http.Server
	listener net.Listener
}

// Options of a Server. The zero value is usual.
type Options struct {
	Tap func(frame []byte) // told of every frame that the secondary receives; may be nil
	Log io.Writer          // gets the log, with everything in it; nil: nobody does
}

// New starts a secondary, which stops with the test.
func New(t testing.TB) *Server { return NewWith(t, Options{}) }

// NewWith is New with options.
func NewWith(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), t: t, key: keys.GenerateSigningKey(), opts: o}
	var err error
	if s.door, err = newDoor(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.door.close)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts a server that was stopped.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.engine, err = embedded.Open(s.Dir, embedded.Options{}); err != nil {
		s.t.Fatal(err)
	}
	c := secondary.Config{Engine: s.engine, Key: s.key, Tap: s.opts.Tap}
	if s.opts.Log != nil {
		c.Logger = slog.New(slog.NewTextHandler(s.opts.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.server, err = secondary.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.http = &http.Server{Handler: s.server}
	s.listener = s.door.listen()
	go s.http.Serve(s.listener)
}

// Stop stops the server and closes its data. Sessions are told. Its address stays
// its own, and who connects is turned away until [Server.Start].
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return
	}
	s.door.leave()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.t.Errorf("stopping the secondary: %v", err)
	}
	s.http.Close()
	s.listener.Close() // where Serve has not come to it yet
	if err := s.engine.Close(); err != nil {
		s.t.Errorf("closing the secondary's data: %v", err)
	}
	s.server = nil
}

// URL returns the server's address.
func (s *Server) URL() string { return "ws://" + s.door.port.Addr().String() + "/" }

// Engine returns the engine, to look into.
func (s *Server) Engine() *embedded.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine
}

// Invite returns a new invite for one vault.
func (s *Server) Invite() wire.Invite {
	s.t.Helper()
	invite, err := secondary.NewInvite(context.Background(), s.Engine(), s.key.Public(), secondary.Address{URL: s.URL(), Binding: wire.BindingNone}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return invite
}
