package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout returns a context that only ends a test that hangs.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// real starts a real secondary, with an invite.
func real(t *testing.T, binding wire.Binding, tap func([]byte)) (client.Server, wire.Token) {
	t.Helper()
	e, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	key := keys.GenerateSigningKey()
	s, err := secondary.New(secondary.Config{Engine: e, Key: key, Binding: binding, Tap: tap})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(s)
	if binding == wire.BindingExporter {
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(func() {
		if err := s.Shutdown(timeout(t)); err != nil {
			t.Error(err)
		}
		h.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	token := wire.Token{1, 2, 3}
	if err := e.Invite(t.Context(), token, 10, time.Now().Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	return client.Server{URL: "ws" + strings.TrimPrefix(h.URL, "http"), Key: key.Public(), Binding: binding}, token
}

// fake is a server that does as it is told, and notes what it is sent.
type fake struct {
	client.Server
	mu     sync.Mutex
	frames [][]byte
}

// newFake starts a WebSocket server that answers each frame with reply; nil
// closes the connection.
func newFake(t *testing.T, reply func(frame []byte) []byte) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newFakeOn(t, l, reply)
}

func newFakeOn(t *testing.T, l net.Listener, reply func(frame []byte) []byte) *fake {
	t.Helper()
	f := new(fake)
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.Subprotocol}}
	h := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			_, frame, err := c.ReadMessage()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.frames = append(f.frames, frame)
			f.mu.Unlock()
			answer := reply(frame)
			if answer == nil {
				return
			}
			if err := c.WriteMessage(websocket.BinaryMessage, answer); err != nil {
				return
			}
		}
	})}}
	h.Start()
	t.Cleanup(h.Close)
	f.URL = "ws" + strings.TrimPrefix(h.URL, "http")
	f.Key = keys.NewSigningKey([32]byte{1}).Public()
	return f
}

func encode(t *testing.T, m wire.Message) []byte {
	t.Helper()
	frame, err := wire.Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// Whoever cannot prove the pinned key on this connection is told nobody's name.
func TestServerIdentity(t *testing.T) {
	v := rawvault.New()
	key, other := keys.NewSigningKey([32]byte{1}), keys.NewSigningKey([32]byte{2})
	// prove answers HELLO as a secondary with this key does, but for change.
	prove := func(key keys.SigningKey, change func(*wire.Transcript, *wire.SHello)) func([]byte) []byte {
		return func(frame []byte) []byte {
			m, err := wire.Parse(frame)
			if err != nil || m.Type() != wire.TypeHello {
				return nil
			}
			h := m.(*wire.Hello)
			s := &wire.SHello{Server: key.Public(), Nonce: [32]byte{3}, Time: 1}
			tr := &wire.Transcript{Audience: h.Audience, Proto: h.Proto, ClientNonce: h.Nonce, ServerNonce: s.Nonce, Server: s.Server, Time: s.Time}
			change(tr, s)
			s.Signature = key.Sign(keys.PurposeServerHello, keys.VaultID{}, tr.Bytes())
			return encode(t, s)
		}
	}
	nothing := func(*wire.Transcript, *wire.SHello) {}
	tests := map[string]struct {
		reply func([]byte) []byte
		want  error
	}{
		"another key":         {prove(other, nothing), wire.ErrServerIdentity},
		"a key it has not":    {prove(other, func(_ *wire.Transcript, s *wire.SHello) { s.Server = key.Public() }), wire.ErrServerIdentity},
		"another binding":     {prove(key, func(tr *wire.Transcript, s *wire.SHello) { tr.Binding, s.Binding = 1, 1 }), wire.ErrServerIdentity},
		"for another address": {prove(key, func(tr *wire.Transcript, _ *wire.SHello) { tr.Audience = "wss://elsewhere/" }), wire.ErrServerIdentity},
		"for another nonce":   {prove(key, func(tr *wire.Transcript, _ *wire.SHello) { tr.ClientNonce[0] ^= 1 }), wire.ErrServerIdentity},
		"another nonce said":  {prove(key, func(_ *wire.Transcript, s *wire.SHello) { s.Nonce[0] ^= 1 }), wire.ErrServerIdentity},
		"another time said":   {prove(key, func(_ *wire.Transcript, s *wire.SHello) { s.Time++ }), wire.ErrServerIdentity},
		"for another version": {prove(key, func(tr *wire.Transcript, _ *wire.SHello) { tr.Proto = 2 }), wire.ErrServerIdentity},
		"with TLS bytes":      {prove(key, func(tr *wire.Transcript, _ *wire.SHello) { tr.Exporter = make([]byte, 32) }), wire.ErrServerIdentity},
		"OK at once":          {func([]byte) []byte { return encode(t, &wire.OK{}) }, wire.ErrServerIdentity},
		"FAIL at once":        {func([]byte) []byte { return encode(t, &wire.Fail{Code: wire.CodeRevoked}) }, wire.ErrServerIdentity},
		"noise":               {func([]byte) []byte { return []byte("noise") }, wire.ErrServerIdentity},
		"a frame too large":   {func([]byte) []byte { return make([]byte, wire.MaxSignInFrame+1) }, wire.ErrUnreachable},
		"silence and goodbye": {func([]byte) []byte { return nil }, wire.ErrUnreachable},
		"another version":     {func([]byte) []byte { return encode(t, wire.NewError(wire.CodeVersion, "")) }, wire.ErrVersion},
		"no such address":     {func([]byte) []byte { return encode(t, wire.NewError(wire.CodeAudience, "")) }, wire.ErrServerIdentity},
		"busy":                {func([]byte) []byte { return encode(t, wire.NewError(wire.CodeBusy, "")) }, wire.ErrBusy},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, test.reply)
			device := v.NewDevice()
			for _, id := range []client.Identity{
				client.Device(v.ID(), device.ID, device.Auth),
				client.Owner(v.Authority),
				client.NewVault(v.Authority, wire.Token{9}),
			} {
				if c, err := client.Dial(timeout(t), f.Server, id); !errors.Is(err, test.want) {
					if err == nil {
						c.Close()
					}
					t.Errorf("dial: %v, want %v", err, test.want)
				}
			}
			if err := client.Probe(timeout(t), f.Server); !errors.Is(err, test.want) {
				t.Errorf("probe: %v, want %v", err, test.want)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, frame := range f.frames {
				if m, err := wire.Parse(frame); err != nil || m.Type() != wire.TypeHello {
					t.Errorf("it was sent %x", frame)
				}
				checkNamesNobody(t, frame, v, device)
			}
		})
	}
}

func checkNamesNobody(t *testing.T, frame []byte, v *rawvault.Vault, d *rawvault.Device) {
	t.Helper()
	id, public := v.ID(), v.Authority.Public()
	for _, mark := range [][]byte{id[:], d.ID[:], public.Auth[:], public.Sign[:]} {
		if bytes.Contains(frame, mark) {
			t.Errorf("a frame names somebody: %x", frame)
		}
	}
}

// Somebody in the middle with a TLS connection to each side is found out, though
// the right secondary proves its key.
func TestMiddle(t *testing.T) {
	var mu sync.Mutex
	var received [][]byte
	server, token := real(t, wire.BindingExporter, func(frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		received = append(received, bytes.Clone(frame))
	})
	target := strings.TrimSuffix(strings.TrimPrefix(server.URL, "wss://"), "/")
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	defer certs.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certs.TLS.Certificates, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	var middle sync.WaitGroup
	middle.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := tls.Dial("tcp", target, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			if err != nil {
				a.Close()
				continue
			}
			for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
				middle.Go(func() {
					io.Copy(c[0], c[1])
					c[0].Close()
				})
			}
		}
	})
	v := rawvault.New()
	through := server
	through.URL = "wss://" + l.Addr().String()
	if _, err := client.Dial(timeout(t), through, client.NewVault(v.Authority, token)); !errors.Is(err, wire.ErrServerIdentity) {
		t.Errorf("through the middle: %v, want ErrServerIdentity", err)
	}
	l.Close()
	middle.Wait()
	mu.Lock()
	for _, frame := range received {
		checkNamesNobody(t, frame, v, v.NewDevice())
	}
	if len(received) != 1 {
		t.Errorf("the secondary was sent %d frames through the middle, want HELLO alone", len(received))
	}
	mu.Unlock()

	c, err := client.Dial(timeout(t), server, client.NewVault(v.Authority, token))
	if err != nil {
		t.Fatalf("without the middle: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// With a proxy's certificate in between, the certificate counts.
func TestCertificate(t *testing.T) {
	h := httptest.NewTLSServer(http.NotFoundHandler())
	defer h.Close()
	s := client.Server{URL: "wss" + strings.TrimPrefix(h.URL, "https"), Key: keys.GenerateSigningKey().Public()}
	if err := client.Probe(timeout(t), s); !errors.Is(err, wire.ErrServerIdentity) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v, want ErrServerIdentity", err)
	}
	s.Binding = wire.BindingExporter
	if err := client.Probe(timeout(t), s); !errors.Is(err, wire.ErrServerIdentity) || !strings.Contains(err.Error(), "404") {
		t.Errorf("a web server: %v, want ErrServerIdentity with its status", err)
	}
}

// Only TLS 1.3 will do.
func TestOldTLS(t *testing.T) {
	h := httptest.NewUnstartedServer(http.NotFoundHandler())
	h.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	h.StartTLS()
	defer h.Close()
	s := client.Server{URL: "wss" + strings.TrimPrefix(h.URL, "https"), Key: keys.GenerateSigningKey().Public(), Binding: wire.BindingExporter}
	if err := client.Probe(timeout(t), s); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.2: %v, want an error that names the version", err)
	}
}

func TestAddresses(t *testing.T) {
	const closed = "127.0.0.1:1" // nobody listens there
	noSuchName := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "kist.invalid", IsNotFound: true}
	}
	key := keys.GenerateSigningKey().Public()
	for name, test := range map[string]struct {
		server client.Server
		want   error
	}{
		"no TLS, far away":          {client.Server{URL: "ws://192.0.2.1/", Key: key}, wire.ErrServerIdentity},
		"no TLS to bind to":         {client.Server{URL: "ws://127.0.0.1:1/", Key: key, Binding: wire.BindingExporter}, wire.ErrServerIdentity},
		"not an address":            {client.Server{URL: "http://127.0.0.1/", Key: key}, wire.ErrProtocol},
		"nobody there":              {client.Server{URL: "ws://" + closed, Key: key}, wire.ErrUnreachable},
		"nobody there, with TLS":    {client.Server{URL: "wss://" + closed, Key: key, Binding: wire.BindingExporter}, wire.ErrUnreachable},
		"a name that has no server": {client.Server{URL: "wss://kist.invalid/", Key: key, Binding: wire.BindingExporter, NetDial: noSuchName}, wire.ErrUnreachable},
	} {
		if err := client.Probe(timeout(t), test.server); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// A context ends dialling and sign-in at once.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, l := secondarytest.NewPipe(), secondarytest.NewPipe()
		accepted := make(chan net.Conn, 2)
		go func() { // accepts and says nothing
			for range cap(accepted) {
				c, _ := silent.Accept()
				accepted <- c
			}
		}()
		release := make(chan struct{})
		f := newFakeOn(t, l, func([]byte) []byte { // takes HELLO and says nothing
			<-release
			return nil
		})
		defer close(release)
		for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
			"no WebSocket": silent.Dial,
			"no SHELLO":    l.Dial,
		} {
			s := f.Server
			s.NetDial = dial
			for _, want := range []error{context.DeadlineExceeded, context.Canceled} {
				ctx, cancel := context.WithCancel(t.Context())
				if want == context.DeadlineExceeded {
					ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				} else {
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				began := time.Now()
				_, err := client.Dial(ctx, s, client.Owner(rawvault.New().Authority))
				cancel()
				if took := time.Since(began); !errors.Is(err, want) || took != 100*time.Millisecond {
					t.Errorf("%s: %v after %v, want %v at once", name, err, took, want)
				}
			}
		}
		(<-accepted).Close()
		(<-accepted).Close()
	})
}

// proved is a fake that signs everyone in and then does as it is told.
func proved(t *testing.T, then func(frame []byte) []byte) *fake {
	return newFake(t, proving(t, then))
}

func proving(t *testing.T, then func(frame []byte) []byte) func(frame []byte) []byte {
	key := keys.NewSigningKey([32]byte{1})
	return func(frame []byte) []byte {
		switch m, _ := wire.Parse(frame); m := m.(type) {
		case *wire.Hello:
			s := &wire.SHello{Server: key.Public()}
			tr := &wire.Transcript{Audience: m.Audience, Proto: m.Proto, ClientNonce: m.Nonce, Server: s.Server}
			s.Signature = key.Sign(keys.PurposeServerHello, keys.VaultID{}, tr.Bytes())
			return encode(t, s)
		case *wire.Auth:
			return encode(t, &wire.OK{})
		}
		return then(frame)
	}
}

func dialFake(t *testing.T, f *fake) *client.Conn {
	t.Helper()
	c, err := client.Dial(timeout(t), f.Server, client.Owner(rawvault.New().Authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConn(t *testing.T) {
	ctx := timeout(t)
	for name, test := range map[string]struct {
		answer []byte
		want   error
	}{
		"ERROR ends the session": {encode(t, wire.NewError(wire.CodeReplaced, "")), wire.ErrReplaced},
		"goodbye":                {nil, wire.ErrUnreachable},
		"noise":                  {[]byte("noise"), wire.ErrProtocol},
		"a frame too large":      {make([]byte, wire.MaxFrame+1), wire.ErrTooLarge},
	} {
		c := dialFake(t, proved(t, func([]byte) []byte { return test.answer }))
		if err := c.Send(ctx, &wire.Mark{Token: 1}); err != nil {
			t.Errorf("%s: sending: %v", name, err)
		}
		if m, err := c.Receive(ctx); !errors.Is(err, test.want) {
			t.Errorf("%s: received %v, %v; want %v", name, m, err, test.want)
		}
		if err := c.Send(ctx, &wire.Mark{}); !errors.Is(err, test.want) {
			t.Errorf("%s: sending after it: %v, want %v", name, err, test.want)
		}
		if err := c.Close(); err != nil {
			t.Errorf("%s: closing: %v", name, err)
		}
	}
}

// An ERROR that answers a request is a message, and PING and PONG are none.
func TestConnMessages(t *testing.T) {
	ctx := timeout(t)
	answers := [][]byte{
		encode(t, &wire.Ping{Token: 5}), encode(t, &wire.Pong{Token: 6}),
		encode(t, &wire.Error{Code: wire.CodeNotFound, Action: wire.ActionStop, Request: 7}),
	}
	pong := make(chan uint64, 1)
	n := 0
	c := dialFake(t, proved(t, func(frame []byte) []byte {
		if m, _ := wire.Parse(frame); m.Type() == wire.TypePong {
			pong <- m.(*wire.Pong).Token
		}
		n++
		if n > len(answers) { // a ping of the connection's own
			return encode(t, &wire.Pong{})
		}
		return answers[n-1]
	}))
	for range 2 { // the PONG is the third frame
		if err := c.Send(ctx, &wire.Mark{}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := c.Receive(ctx)
	if e, ok := m.(*wire.Error); !ok || e.Request != 7 || err != nil {
		t.Errorf("received %v, %v; want ERROR for request 7", m, err)
	}
	if token := <-pong; token != 5 {
		t.Errorf("PING was answered with %d, want 5", token)
	}
	if c.Sent() < 300 || c.Received() < 300 { // sign-in alone is more
		t.Errorf("%d bytes sent and %d received", c.Sent(), c.Received())
	}
}

func TestConnContextAndClose(t *testing.T) {
	c := dialFake(t, proved(t, func([]byte) []byte { return encode(t, &wire.Pong{}) }))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("receiving: %v, want DeadlineExceeded", err)
	}
	if err := c.Send(timeout(t), &wire.Mark{}); err != nil {
		t.Errorf("the session is over: %v", err)
	}
	waiting := make(chan error)
	go func() {
		_, err := c.Receive(timeout(t))
		waiting <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; !errors.Is(err, client.ErrClosed) {
		t.Errorf("receiving while closed: %v, want ErrClosed", err)
	}
	if err := c.Send(timeout(t), &wire.Mark{}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("sending after Close: %v, want ErrClosed", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// A peer that falls silent is found out.
func TestDeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := secondarytest.NewPipe()
		f := newFakeOn(t, l, proving(t, func([]byte) []byte { // takes a PING and says nothing more
			<-release
			return nil
		}))
		defer close(release)
		f.NetDial = l.Dial
		f.Idle = 6 * time.Second
		c := dialFake(t, f)
		began := time.Now()
		if _, err := c.Receive(timeout(t)); !errors.Is(err, wire.ErrUnreachable) || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("silent peer: %v, want ErrUnreachable", err)
		}
		if took := time.Since(began); took != f.Idle {
			t.Errorf("it took %v, want %v", took, f.Idle)
		}
	})
}

// What anybody on the way can say before the secondary has proved itself is not
// taken for its word: not that the vault is unknown, the invite used, the device
// revoked.
func TestErrorBeforeProof(t *testing.T) {
	v := rawvault.New()
	for code, want := range map[wire.Code]error{
		wire.CodeDenied: wire.ErrServerIdentity, wire.CodeInvite: wire.ErrServerIdentity,
		wire.CodeRevoked: wire.ErrServerIdentity, wire.CodeNoGenesis: wire.ErrServerIdentity,
		wire.CodeAudience: wire.ErrServerIdentity, wire.CodeBusy: wire.ErrBusy, wire.CodeVersion: wire.ErrVersion,
	} {
		f := newFake(t, func([]byte) []byte { return encode(t, wire.NewError(code, "the owner wants you to")) })
		_, err := client.Dial(timeout(t), client.Server{URL: f.URL, Key: f.Key}, client.Owner(v.Authority))
		if !errors.Is(err, want) || strings.Contains(err.Error(), "the owner wants") {
			t.Errorf("code %d: got %v, want %v and none of its text", code, err, want)
		}
		if want == wire.ErrServerIdentity && errors.Is(err, code.Err()) {
			t.Errorf("code %d: %v is taken for the secondary's word", code, err)
		}
	}
}

// A mute is a connection on which, from some time on, nothing can be sent.
type mute struct {
	net.Conn
	broken *atomic.Bool
}

func (m mute) Write(b []byte) (int, error) {
	if m.broken.Load() {
		return 0, errors.New("broken pipe")
	}
	return m.Conn.Write(b)
}

// Where nothing more can be sent, Send fails for the reason that the secondary
// gave last, if it did.
func TestLastWord(t *testing.T) {
	for name, test := range map[string]struct {
		word []byte
		want error
	}{
		"a reason": {encode(t, wire.NewError(wire.CodeReplaced, "")), wire.ErrReplaced},
		"none":     {encode(t, &wire.Pong{}), wire.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := secondarytest.NewPipe()
				f := newFakeOn(t, l, proving(t, func([]byte) []byte {
					time.Sleep(time.Second)
					return test.word
				}))
				var broken atomic.Bool
				f.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := l.Dial(ctx, network, addr)
					return mute{c, &broken}, err
				}
				c := dialFake(t, f)
				err := c.Send(timeout(t), &wire.Mark{Token: 1})
				synctest.Wait()
				broken.Store(true)
				for range 10 { // some are queued before it is noticed
					if err == nil {
						err = c.Send(timeout(t), &wire.Mark{Token: 2})
						synctest.Wait()
					}
				}
				if !errors.Is(err, test.want) {
					t.Errorf("sending: %v, want %v", err, test.want)
				}
			})
		})
	}
}
