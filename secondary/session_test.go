package secondary_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// every returns a message of each type, as a client could send it.
func every() []wire.Message {
	b, c := rawvault.New().ControlCommit()
	return []wire.Message{
		&wire.Hello{Proto: wire.Proto, Audience: "wss://h/"}, &wire.SHello{}, &wire.Auth{Role: wire.RoleOwner}, &wire.OK{},
		&wire.Create{Sign: keys.GenerateSigningKey().Public(), Auth: keys.GenerateSigningKey().Public()},
		&wire.Fail{Code: wire.CodeDenied}, &wire.Bind{}, &wire.Bound{}, &wire.Download{Items: []wire.Item{wire.NewStub(1, 1)}},
		&wire.Upload{Control: c, Items: wire.Cut(rawvault.Encode(b))}, &wire.Uploaded{Results: []wire.Result{{ID: 1}}},
		&wire.Object{Size: 1000}, &wire.Have{}, &wire.Fetch{Request: 1, Commit: 1, Length: 1}, &wire.Blobs{Request: 1},
		&wire.Mark{}, &wire.Marked{}, &wire.Ping{}, &wire.Pong{}, &wire.Unbind{}, &wire.Unbound{}, wire.NewError(1, ""),
		&wire.Proof{Request: 1, From: 1, To: 1}, &wire.Snapshot{Request: 1, Size: 1}, &wire.State{Request: 1, Done: true}, &wire.Checkpoint{Request: 1},
		&wire.Read{Request: 1, To: 1}, &wire.Commits{Request: 1, Items: wire.Cut(rawvault.Encode(b))},
	}
}

// Every message that cannot come where it comes ends the session.
func TestOrder(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	always := []wire.Type{
		wire.TypeObject, wire.TypeFetch, wire.TypePing, wire.TypePong, wire.TypeProof, wire.TypeSnapshot, wire.TypeCheckpoint, wire.TypeRead,
	}
	states := map[string]struct {
		enter func() *raw
		good  []wire.Type // may come
	}{
		"new": {func() *raw { return dialRaw(t, f) }, []wire.Type{wire.TypeHello}},
		"proved": {func() *raw {
			r := dialRaw(t, f)
			r.hello()
			return r
		}, []wire.Type{wire.TypeAuth, wire.TypeCreate}},
		"signed in": {func() *raw { return signedInRaw(t, f, v, devices[0]) },
			append([]wire.Type{wire.TypeBind}, always...)},
		"bound": {func() *raw {
			r := signedInRaw(t, f, v, devices[0])
			r.send(&wire.Bind{Size: 1, Root: v.Root(1)})
			r.message()
			return r
		}, append([]wire.Type{wire.TypeMark, wire.TypeUnbind}, always...)},
	}
	for name, state := range states {
		for _, m := range every() {
			good := false
			for _, g := range state.good {
				good = good || g == m.Type()
			}
			if good {
				continue
			}
			r := state.enter()
			r.send(m)
			if e, ok := r.message().(*wire.Error); !ok || e.Code != wire.CodeProtocol || e.Request != 0 || e.Action != wire.ActionStop {
				t.Errorf("%s: %v is answered with %+v, want a protocol error", name, m.Type(), e)
			}
			if _, err := r.tryRead(); !websocket.IsCloseError(err, websocket.CloseProtocolError) {
				t.Errorf("%s: after %v the connection ends with %v, want status 1002", name, m.Type(), err)
			}
		}
	}
}

func TestGarbage(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	noise := make([]byte, 3000)
	rand.Read(noise)
	noise[0] |= 0x80 // no message has such a type
	hello, err := wire.Append(nil, &wire.Hello{Proto: wire.Proto, Audience: "wss://h/"})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		kind  int
		frame []byte
	}{
		"noise":         {websocket.BinaryMessage, noise},
		"empty":         {websocket.BinaryMessage, nil},
		"one byte":      {websocket.BinaryMessage, []byte{1}},
		"trailing byte": {websocket.BinaryMessage, append(hello, 0)},
		"text":          {websocket.TextMessage, hello},
	}
	for name, test := range tests {
		for _, enter := range []func() *raw{
			func() *raw { return dialRaw(t, f) },
			func() *raw { return signedInRaw(t, f, v, devices[0]) },
		} {
			r := enter()
			if err := r.WriteMessage(test.kind, test.frame); err != nil {
				t.Fatal(err)
			}
			if e, ok := r.message().(*wire.Error); !ok || e.Code != wire.CodeProtocol {
				t.Errorf("%s: answered with %+v, want a protocol error", name, e)
			}
			if _, err := r.tryRead(); err == nil {
				t.Errorf("%s: the connection stays open", name)
			}
		}
	}
	f.device(v, devices[0]) // the server is well
}

// Frames beyond the limits are not read.
func TestFrameLimits(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	for name, r := range map[string]*raw{
		"before sign-in": dialRaw(t, f),
		"after sign-in":  signedInRaw(t, f, v, devices[0]),
	} {
		size := wire.MaxSignInFrame + 1
		if name == "after sign-in" {
			size = wire.MaxFrame + 1
		}
		r.WriteMessage(websocket.BinaryMessage, make([]byte, size)) // may fail, when the server is quick
		if frame, err := r.tryRead(); err == nil {
			t.Errorf("%s: %d bytes are answered with %x", name, size, frame)
		}
	}
}

func TestNotWebSocket(t *testing.T) {
	f := start(t, nil)
	get := func(header http.Header) int {
		t.Helper()
		r, err := http.NewRequestWithContext(f.ctx, "GET", f.http.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := f.http.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := get(nil); code != http.StatusBadRequest {
		t.Errorf("plain GET: status %d, want 400", code)
	}
	browser := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {wire.Subprotocol}, "Origin": {f.http.URL},
	}
	if code := get(browser); code != http.StatusForbidden {
		t.Errorf("from a page: status %d, want 403", code)
	}
}

// Where there is no room, who has not signed in gives way, the oldest first, and nobody
// else.
func TestMaxConns(t *testing.T) {
	f := start(t, func(c *secondary.Config) { c.MaxConns = 3 })
	v, devices := f.vault(4)
	for f.server.Conns() > 0 { // the owner's
		time.Sleep(time.Millisecond)
	}
	f.device(v, devices[0])
	var strangers []*raw
	for range 5 {
		r := dialRaw(t, f)
		r.hello()
		strangers = append(strangers, r)
	}
	for _, r := range strangers[:3] {
		if _, err := r.tryRead(); err == nil {
			t.Error("it is there still")
		}
	}
	for i, r := range strangers[3:] {
		r.send(&wire.Ping{}) // which cannot come here
		if e, ok := r.message().(*wire.Error); !ok || e.Code != wire.CodeProtocol {
			t.Errorf("stranger %d is told %+v", i, e)
		}
		r.Close()
	}
	for f.server.Conns() > 1 {
		time.Sleep(time.Millisecond)
	}
	dialRaw(t, f).hello()
	f.device(v, devices[1])
	f.device(v, devices[2])
	if n := f.server.Conns(); n != 3 {
		t.Errorf("%d connections", n)
	}
	if _, err := client.Dial(f.ctx, f.client, client.Device(v.ID(), devices[3].ID, devices[3].Auth)); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("one too many, where all have signed in: %v, want ErrBusy", err)
	}
}

func TestTooManyRequests(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	for name, m := range map[string]wire.Message{
		"FETCH": &wire.Fetch{Request: 1, Commit: 1, Length: 1},
		"MARK":  &wire.Mark{Token: 1},
	} {
		// No wake, no Next: nothing is answered.
		s := f.server.NewSession(nil, func() {})
		handle := func(m wire.Message) []wire.Message {
			t.Helper()
			frame, err := wire.Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			return s.Handle(f.ctx, frame)
		}
		sh := handle(&wire.Hello{Proto: wire.Proto, Audience: "wss://h/"})[0].(*wire.SHello)
		tr := &wire.Transcript{Audience: "wss://h/", Proto: wire.Proto, ServerNonce: sh.Nonce, Server: sh.Server, Time: sh.Time}
		handle(deviceProof(tr, v, devices[0]))
		handle(&wire.Bind{Size: 1, Root: v.Root(1)})
		limit := max(wire.MaxFetches, wire.MaxMarks)
		var last []wire.Message
		for range limit + 1 {
			if last = handle(m); last != nil {
				break
			}
		}
		if len(last) != 1 || !secondary.Final(last[0]) {
			t.Errorf("%d times %s without reading an answer: %+v, want a protocol error", limit+1, name, last)
		}
		s.Close()
	}
}

func TestShutdown(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	a := f.device(v, devices[0])
	a.bind(v, 1, wire.BindLive)
	stranger := dialRaw(t, f) // not signed in
	stranger.hello()
	go func() {
		for err := error(nil); err == nil; _, err = stranger.tryRead() {
		}
	}()
	w := f.device(v, devices[1])
	w.bind(v, 1, 0)
	w.append(v, devices[1].Commit(keys.Tag{1}, 1))

	done := make(chan error)
	go func() { done <- f.server.Shutdown(f.ctx) }()
	for {
		m, err := a.Receive(f.ctx)
		if err == nil {
			if m.Type() != wire.TypeDownload {
				t.Errorf("received %v", m.Type())
			}
			continue
		}
		var e *wire.Error
		if !errors.As(err, &e) || !errors.Is(err, wire.ErrShutdown) || e.Action != wire.ActionRetryAfter || e.RetryAfter == 0 {
			t.Errorf("session ends with %v, want ErrShutdown and when to come back", err)
		}
		break
	}
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := f.server.Conns(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if _, err := client.Dial(f.ctx, f.client, client.Device(v.ID(), devices[1].ID, devices[1].Auth)); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("after shutdown: %v, want ErrBusy", err)
	}
}

// A client that does not take its leave is cut off when time is up.
func TestShutdownCutsOff(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		dialRaw(t, f).hello() // so that the server is known to have begun
		ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := f.server.Shutdown(ctx)
		if took := time.Since(began); took != 50*time.Millisecond {
			t.Errorf("shutdown took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v, want DeadlineExceeded", err)
		}
	})
}

// logBuffer is an io.Writer that may be read at any time.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Trouble of the server's own is logged, and the client learns no more than that.
func TestInternalError(t *testing.T) {
	var log logBuffer
	f := start(t, func(c *secondary.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	v, devices := f.vault(1)
	p := f.device(v, devices[0])
	p.bind(v, 1, 0)
	if err := f.engine.(*embedded.Engine).Close(); err != nil {
		t.Fatal(err)
	}
	p.send(uploadOf(devices[0].Commit(keys.Tag{1}, 1)))
	_, err := p.Receive(f.ctx)
	var e *wire.Error
	if !errors.As(err, &e) || !errors.Is(err, wire.ErrInternal) || e.Text != "" || e.Action != wire.ActionRetry {
		t.Errorf("session ends with %v, want ErrInternal without a text", err)
	}
	text := log.String()
	if !strings.Contains(text, "session failed") {
		t.Errorf("the log does not say so:\n%s", text)
	}
	for _, secret := range []string{v.ID().String(), devices[0].ID.String()} {
		if strings.Contains(text, secret) {
			t.Errorf("the log names %s:\n%s", secret, text)
		}
	}
}

// FuzzSession feeds a session that is signed in and bound with frames of any
// kind. It must neither panic nor answer with what cannot be sent.
func FuzzSession(f *testing.F) {
	e, err := embedded.Open(f.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	server, err := secondary.New(secondary.Config{Engine: e, Key: keys.GenerateSigningKey()})
	if err != nil {
		f.Fatal(err)
	}
	ctx := context.Background()
	v := rawvault.New()
	if err := e.Invite(ctx, wire.Token{1}, 1, time.Now().Add(time.Hour), nil); err != nil {
		f.Fatal(err)
	}
	if err := e.Create(ctx, wire.Token{1}, v.Authority.Public(), time.Now()); err != nil {
		f.Fatal(err)
	}
	for _, m := range every() {
		frame, err := wire.Append(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame, frame)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := server.NewSession(nil, func() {})
		defer s.Close()
		say := func(frame []byte) wire.Message {
			var last wire.Message
			for _, m := range s.Handle(ctx, frame) {
				if _, err := wire.Append(nil, m); err != nil {
					t.Fatalf("answer %+v: %v", m, err)
				}
				last = m
			}
			for {
				m := s.Next(ctx)
				if m == nil {
					return last
				}
				if _, err := wire.Append(nil, m); err != nil {
					t.Fatalf("message %+v: %v", m, err)
				}
				if secondary.Final(m) {
					return m
				}
			}
		}
		must := func(m wire.Message) wire.Message {
			frame, err := wire.Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			return say(frame)
		}
		sh := must(&wire.Hello{Proto: wire.Proto, Audience: "wss://h/"}).(*wire.SHello)
		tr := &wire.Transcript{Audience: "wss://h/", Proto: wire.Proto, ServerNonce: sh.Nonce, Server: sh.Server, Time: sh.Time}
		must(proof(tr, v.ID(), wire.RoleOwner, keys.DeviceID{}, v.Authority.Auth))
		must(&wire.Bind{Root: v.Root(0), Flags: wire.BindLive})
		for _, frame := range [][]byte{first, second} {
			if m := say(frame); m != nil && secondary.Final(m) {
				if s.Handle(ctx, first) != nil {
					t.Fatal("a session that is over answers")
				}
				return
			}
		}
	})
}

// Why a session ends reaches a client that is in the middle of sending much.
func TestLastWord(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	for range 5 {
		p := f.device(v, devices[0])
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			p.Send(f.ctx, &wire.Unbind{}) // cannot come here
			for range 32 {
				if p.Send(f.ctx, &wire.Object{Size: 1 << 24, Data: make([]byte, wire.MaxRange)}) != nil {
					return
				}
			}
		}()
		p.fails(wire.ErrProtocol)
		<-sent
	}
}
