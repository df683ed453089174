package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/frames"
	"github.com/kistvault/kist/secondary/wire"
)

// Server is a secondary as it is pinned: where it is and how to know it.
type Server struct {
	URL     string         // wss://, or ws:// for this machine itself
	Key     keys.VerifyKey // its identity
	Binding wire.Binding

	// Idle is how long the peer may be silent before it is taken for dead.
	// Zero is one minute.
	Idle time.Duration

	// Connected, if not nil, is called when the line is up and sign-in begins.
	Connected func()

	// NetDial opens the connection below TLS and WebSocket. Nil is TCP.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// signInTime bounds dialling and sign-in together.
const signInTime = 30 * time.Second

// Dial connects to the secondary and signs in. The errors, of package wire:
//
//   - ErrUnreachable, ErrBusy, ErrShutdown, ErrReadOnly, ErrInternal: trying again may help
//   - ErrServerIdentity: whoever answered is not this secondary; nothing that
//     names the vault was sent
//   - ErrVersion: one of the two programs is too old
//   - ErrDenied: no such vault, no such device, or a wrong key
//   - ErrInvite: the invite is unknown, used or expired
//   - commitlog.ErrRevoked: the device was revoked
//
// or ctx's own.
func Dial(ctx context.Context, s Server, id Identity) (*Conn, error) {
	l, err := dial(ctx, s)
	if err != nil {
		return nil, err
	}
	if s.Connected != nil {
		s.Connected()
	}
	if err := l.run(ctx, func() error { return l.signIn(s, &id) }); err != nil {
		l.frames.Close()
		return nil, wire.OnConn(err, l.name)
	}
	l.frames.SignedIn()
	l.count.signedIn.Store(true)
	return newConn(l, s.idle()), nil
}

// Probe checks that the secondary is the one that is pinned. It names no vault.
// The errors are those of [Dial] that can come before a client names itself.
func Probe(ctx context.Context, s Server) error {
	l, err := dial(ctx, s)
	if err != nil {
		return err
	}
	defer l.hangUp()
	return wire.OnConn(l.run(ctx, func() error {
		_, err := l.verify(s)
		return err
	}), l.name)
}

func (s *Server) idle() time.Duration {
	if s.Idle == 0 {
		return time.Minute
	}
	return s.Idle
}

// line is a connection before sign-in.
type line struct {
	frames   *frames.Conn
	url      string
	name     string // that the secondary gave it, as it came
	exporter []byte
	count    *counters
}

// counters count the bytes of a connection, without those of TLS records.
type counters struct {
	sent, received atomic.Uint64
	signedIn       atomic.Bool
}

type countingConn struct {
	net.Conn
	count *counters
}

// maxUnproved bounds what is read before sign-in is over: TLS, the answer to the
// upgrade, two messages. The HTTP client below has no bound of its own.
const maxUnproved = 64 << 10

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.count.received.Add(uint64(n)) > maxUnproved && !c.count.signedIn.Load() {
		return 0, fmt.Errorf("%d bytes before sign-in", maxUnproved)
	}
	return n, err
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count.sent.Add(uint64(n))
	return n, err
}

// dial opens the WebSocket.
func dial(ctx context.Context, s Server) (*line, error) {
	url, err := wire.CanonicalURL(s.URL)
	if err != nil {
		return nil, err
	}
	host, secure := wire.SplitURL(url)
	switch {
	case !secure && !wire.Loopback(host):
		return nil, fmt.Errorf("%w: %s without TLS, and not on this machine", wire.ErrServerIdentity, url)
	case !secure && s.Binding == wire.BindingExporter:
		return nil, fmt.Errorf("%w: %s has no TLS to bind to", wire.ErrServerIdentity, url)
	}
	connect := s.NetDial
	if connect == nil {
		connect = new(net.Dialer).DialContext
	}
	l := &line{url: url, count: new(counters)}
	unwatch := func() bool { return true }
	dialer := websocket.Dialer{
		NetDialContext: func(dialing context.Context, network, addr string) (net.Conn, error) {
			c, err := connect(dialing, network, addr)
			if err != nil {
				return nil, err
			}
			// The library reads the answer to the upgrade to its end or its deadline,
			// and not to ctx's end.
			unwatch = context.AfterFunc(ctx, func() { c.Close() })
			return countingConn{c, l.count}, nil
		},
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			NextProtos: []string{"http/1.1"},
			// With the exporter, the pinned key vouches for this very TLS
			// connection, and a certificate adds nothing.
			InsecureSkipVerify: s.Binding == wire.BindingExporter,
		},
		HandshakeTimeout: signInTime,
		Subprotocols:     []string{wire.Subprotocol},
		ReadBufferSize:   4 << 10,
		WriteBufferSize:  64 << 10,
	}
	ws, resp, err := dialer.DialContext(ctx, url, nil)
	unwatch() // where it is too late, the line is closed, and what comes next finds it so
	if resp != nil {
		l.name = resp.Header.Get(wire.ConnHeader)
	}
	if err != nil {
		return nil, wire.OnConn(dialError(ctx, url, resp, err), l.name)
	}
	l.frames = frames.New(ws, s.idle())
	fail := func(err error) (*line, error) {
		ws.Close()
		return nil, err
	}
	if ws.Subprotocol() != wire.Subprotocol {
		return fail(fmt.Errorf("%w: %s does not speak %s", wire.ErrServerIdentity, url, wire.Subprotocol))
	}
	if s.Binding == wire.BindingExporter {
		conn, ok := ws.NetConn().(*tls.Conn)
		if !ok {
			return fail(fmt.Errorf("%w: %s has no TLS to bind to", wire.ErrServerIdentity, url)) // unreachable: the address is wss
		}
		state := conn.ConnectionState()
		if l.exporter, err = state.ExportKeyingMaterial(wire.ExporterLabel, nil, wire.ExporterSize); err != nil {
			return fail(fmt.Errorf("%w: %v", wire.ErrServerIdentity, err))
		}
	}
	return l, nil
}

// ended returns why ctx has ended, if it has. A socket's deadline that was taken
// from ctx's passes a moment before ctx knows.
func ended(ctx context.Context) error {
	if by, ok := ctx.Deadline(); ok && !time.Now().Before(by) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// hangUp closes the connection in an orderly way.
func (l *line) hangUp() {
	l.frames.Goodbye(false)
	l.frames.Close()
}

// dialError says in this package's words why there is no WebSocket.
func dialError(ctx context.Context, url string, resp *http.Response, err error) error {
	var cert *tls.CertificateVerificationError
	switch {
	case ended(ctx) != nil:
		return fmt.Errorf("connecting to %s: %w", url, ended(ctx))
	case errors.As(err, &cert):
		return fmt.Errorf("%w: %s: %w", wire.ErrServerIdentity, url, err)
	case resp == nil:
		return fmt.Errorf("%w: %v", wire.ErrUnreachable, err)
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		busy := wire.NewError(wire.CodeBusy, "")
		if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 32); err == nil {
			busy.RetryAfter = seconds * 1000
		}
		return fmt.Errorf("%s: %w", url, busy)
	case resp.StatusCode >= 500: // a proxy without the secondary behind it
		return fmt.Errorf("%w: %s answers HTTP %d", wire.ErrUnreachable, url, resp.StatusCode)
	}
	return fmt.Errorf("%w: %s answers HTTP %d", wire.ErrServerIdentity, url, resp.StatusCode)
}

// run runs a step of sign-in, which ends early with ctx.
func (l *line) run(ctx context.Context, step func() error) error {
	by := time.Now().Add(signInTime)
	l.frames.ReadBy(by)
	stop := context.AfterFunc(ctx, func() { l.frames.Close() })
	err := step()
	if !stop() && ctx.Err() != nil {
		return fmt.Errorf("signing in at %s: %w", l.url, ctx.Err())
	}
	return err
}

// verify lets the secondary prove itself, and returns what it signed.
func (l *line) verify(s Server) (*wire.Transcript, error) {
	hello := &wire.Hello{Proto: wire.Proto, Audience: l.url}
	rand.Read(hello.Nonce[:])
	m, err := l.ask(hello)
	if err != nil {
		return nil, err
	}
	reply, ok := m.(*wire.SHello)
	if !ok {
		return nil, l.stranger("it answers HELLO with %v", m.Type())
	}
	t := &wire.Transcript{
		Audience: l.url, Proto: wire.Proto, ClientNonce: hello.Nonce, ServerNonce: reply.Nonce,
		Server: s.Key, Binding: s.Binding, Exporter: l.exporter, Time: reply.Time,
	}
	switch {
	case reply.Server != s.Key:
		return nil, l.stranger("it has the key %v, expected was %v", reply.Server, s.Key)
	case reply.Binding != s.Binding:
		return nil, l.stranger("it binds sign-in with %q, expected was %q", reply.Binding, s.Binding)
	case !s.Key.Verify(keys.PurposeServerHello, keys.VaultID{}, t.Bytes(), reply.Signature[:]):
		return nil, l.stranger("it cannot prove its key on this connection")
	}
	return t, nil
}

// unproved returns the error for an ERROR that came before any proof: anybody on
// the way can have said it. So only what asks for patience or an upgrade is
// passed on, and not its text.
func (l *line) unproved(e *wire.Error) error {
	switch e.Code {
	case wire.CodeVersion, wire.CodeInternal, wire.CodeBusy, wire.CodeShutdown, wire.CodeTimeout:
		return fmt.Errorf("signing in at %s: %w", l.url, e.Code.Err())
	}
	return l.stranger("it refuses to say who it is (code %d)", e.Code)
}

func (l *line) stranger(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", wire.ErrServerIdentity, l.url, fmt.Sprintf(format, args...))
}

// signIn is the whole of sign-in.
func (l *line) signIn(s Server, id *Identity) error {
	t, err := l.verify(s)
	if err != nil {
		return err
	}
	m, err := l.ask(id.message(t))
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.OK:
		return nil
	case *wire.Fail:
		return fmt.Errorf("signing in at %s: %w", l.url, m.Code.Err())
	}
	return fmt.Errorf("%w: %v instead of an answer to sign-in", wire.ErrProtocol, m.Type())
}

// ask sends a message and returns the answer. ERROR comes back as an error.
func (l *line) ask(m wire.Message) (wire.Message, error) {
	frame, err := wire.Append(nil, m)
	if err != nil {
		return nil, err
	}
	if err := l.frames.Write(frame); err != nil {
		return nil, fmt.Errorf("%w: %v", wire.ErrUnreachable, err)
	}
	answer, err := l.frames.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it closed the connection during sign-in")
		}
		return nil, fmt.Errorf("%w: %s: %v", wire.ErrUnreachable, l.url, err)
	}
	reply, err := wire.Parse(answer)
	if err != nil {
		return nil, l.stranger("%v", err)
	}
	if e, ok := reply.(*wire.Error); ok {
		if _, hello := m.(*wire.Hello); hello {
			return nil, l.unproved(e)
		}
		return nil, fmt.Errorf("signing in at %s: %w", l.url, e)
	}
	return reply, nil
}
