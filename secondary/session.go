package secondary

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Session is one client's session as a state machine: [Session.Handle] takes a
// frame and returns the answers to it, [Session.Next] returns the next message
// of what is sent at the line's own speed. Handle is called by one goroutine and
// Next by one, at the same time if need be.
//
// A message that is [Final] is the last: the session is over.
type Session struct {
	server   *Server
	name     string // of its connection; empty: none
	number   uint64 // sessions that began later have higher ones
	exporter []byte
	from     netip.Addr // where the connection comes from, …
	counts   bool       // … where that counts against limits
	wake     func()

	handleMu sync.Mutex // held while a message is handled; guards what follows
	state    state
	proof    wire.Transcript // from HELLO on
	me       who             // from sign-in on
	sign     keys.VerifyKey  // that verifies its commits
	parts    wire.Assembler  // of UPLOAD
	refills  wire.Assembler  // of REFILL
	held     holding         // what parts and refills hold, …
	asked    holding         // … and the namespaces that are asked for
	refused  commitlog.Hash  // leaf of the commit refused last
	seen     time.Time       // when the vault's record was told that a device is here

	ending atomic.Pointer[wire.Error] // set from outside: nothing more is done
	size   atomic.Uint64              // of the log, as heard of
	flow   flow
}

// state is where a session stands.
type state uint8

const (
	stateNew    state = iota // HELLO must come
	stateProved              // AUTH or CREATE must come
	stateSigned              // signed in
	stateOver
)

// NewSession returns a session on a new connection. exporter is what the
// connection's TLS exporter gives, nil without TLS. wake is called, from any
// goroutine, when Next may have something to say; it must not wait.
func (s *Server) NewSession(exporter []byte, wake func()) *Session {
	session := &Session{server: s, number: s.begun.Add(1), exporter: exporter, wake: wake}
	session.bound(func() {
		session.tell(again(tooMuch))
		session.wake()
	})
	return session
}

// bound counts what the session holds against the server's budget; cut ends it where it
// has to give way. It is called before the first frame.
func (s *Session) bound(cut func()) {
	b := &s.server.budget
	s.held, s.asked = holding{budget: b, cut: cut}, holding{budget: b, cut: cut}
}

// Final reports whether m ends the session.
func Final(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.Error:
		return m.Request == 0
	case *wire.Fail:
		return true
	}
	return false
}

// SignedIn reports whether the client is signed in.
func (s *Session) SignedIn() bool {
	s.handleMu.Lock()
	defer s.handleMu.Unlock()
	return s.state == stateSigned
}

// End ends the session for a reason that the client is told. When it returns,
// Handle has done the last that it will do.
func (s *Session) End(reason error) {
	s.tell(reason)
	s.handleMu.Lock()
	s.over()
	s.handleMu.Unlock()
	s.wake()
}

// tell makes reason the last that the client is told, and lets Handle begin nothing
// new. It does not wait for what Handle is doing, and wakes nobody: an answer that
// is on its way goes first.
func (s *Session) tell(reason error) {
	s.ending.CompareAndSwap(nil, s.answer(reason))
}

// Close ends the session without a word, when the connection is gone.
func (s *Session) Close() {
	s.handleMu.Lock()
	defer s.handleMu.Unlock()
	s.over()
}

// over leaves everything that the session has entered. handleMu is held.
func (s *Session) over() {
	if s.state == stateSigned {
		s.server.sessions.leave(s.me, s)
	}
	s.state = stateOver
	s.flow.stop()
	s.parts, s.refills = wire.Assembler{}, wire.Assembler{}
	s.held.end()
	s.asked.end()
}

// Handle takes the next frame and returns the answers to it. It uses the frame
// no longer than until it returns. After a final answer, or after [Session.End],
// it does nothing.
func (s *Session) Handle(ctx context.Context, frame []byte) []wire.Message {
	s.handleMu.Lock()
	defer s.handleMu.Unlock()
	if s.ending.Load() != nil || s.state == stateOver {
		return nil
	}
	if tap := s.server.config.Tap; tap != nil {
		tap(frame)
	}
	replies, err := s.handle(ctx, frame)
	s.held.set(s.parts.Held() + s.refills.Held())
	if !s.asked.set(s.flow.asked()) && err == nil {
		err = again(tooMuch)
	}
	if err != nil {
		replies = append(replies, s.answer(err))
	}
	if n := len(replies); n > 0 && Final(replies[n-1]) {
		s.over()
	}
	return replies
}

// handle dispatches one frame by state and type.
func (s *Session) handle(ctx context.Context, frame []byte) ([]wire.Message, error) {
	if s.state != stateSigned && len(frame) > wire.MaxSignInFrame {
		return nil, fmt.Errorf("%w: frame of %d bytes before sign-in", wire.ErrTooLarge, len(frame))
	}
	m, err := wire.Parse(frame)
	if err != nil {
		return nil, err
	}
	one := func(m wire.Message, err error) ([]wire.Message, error) {
		if err != nil || m == nil {
			return nil, err
		}
		return []wire.Message{m}, nil
	}
	switch s.state {
	case stateNew:
		if m, ok := m.(*wire.Hello); ok {
			return one(s.hello(m))
		}
	case stateProved:
		switch m := m.(type) {
		case *wire.Auth:
			return one(s.auth(ctx, m))
		case *wire.Create:
			return one(s.create(ctx, m))
		}
	case stateSigned:
		if err := s.noteSeen(ctx); err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *wire.Bind:
			return nil, s.bind(ctx, m)
		case *wire.Unbind:
			return nil, s.unbind()
		case *wire.Mark:
			return nil, s.mark(ctx, m)
		case *wire.Fetch:
			return nil, s.fetch(m)
		case *wire.Upload:
			return one(s.upload(ctx, m))
		case *wire.Object:
			return one(s.object(ctx, m))
		case *wire.Proof:
			return one(s.prove(ctx, m))
		case *wire.Snapshot:
			return one(s.snapshot(ctx, m))
		case *wire.Read:
			return one(s.read(ctx, m))
		case *wire.Refill:
			return one(s.refill(ctx, m))
		case *wire.Checkpoint:
			return one(s.checkpoint(ctx, m))
		case *wire.Ping:
			return one(&wire.Pong{Token: m.Token}, nil)
		case *wire.Pong:
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%w: %v cannot come here", wire.ErrProtocol, m.Type())
}

// assemble takes the next item of a direction, as a's Add does, where there is room for
// what it adds to a bundle in parts.
func (s *Session) assemble(a *wire.Assembler, i wire.Item) (bundle []byte, err error) {
	if i.Kind == wire.ItemPart || i.Kind == wire.ItemLast {
		if !s.held.acquire(len(i.Data)) {
			return nil, again(tooMuch)
		}
	}
	return a.Add(i)
}

// vault returns the vault that the client is signed in to.
func (s *Session) vault() keys.VaultID { return s.me.vault }
