package secondary_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// raw is a WebSocket without the client's good manners.
type raw struct {
	*websocket.Conn
	t testing.TB
	f *fixture
}

func dialRaw(t testing.TB, f *fixture) *raw {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{wire.Subprotocol}, NetDialContext: f.client.NetDial}
	c, _, err := d.DialContext(f.ctx, f.client.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &raw{c, t, f}
}

// signedInRaw is a device's session without good manners.
func signedInRaw(t testing.TB, f *fixture, v *rawvault.Vault, d *rawvault.Device) *raw {
	t.Helper()
	r := dialRaw(t, f)
	r.send(deviceProof(r.hello(), v, d))
	if m := r.message(); m.Type() != wire.TypeOK {
		t.Fatalf("sign-in: %+v", m)
	}
	return r
}

// deviceProof signs a device in, on the connection of the transcript.
func deviceProof(t *wire.Transcript, v *rawvault.Vault, d *rawvault.Device) *wire.Auth {
	return proof(t, v.ID(), wire.RoleDevice, d.ID, d.Auth)
}

func proof(t *wire.Transcript, vault keys.VaultID, role wire.Role, id keys.DeviceID, key keys.SigningKey) *wire.Auth {
	return &wire.Auth{Vault: vault, Role: role, Device: id, Signature: key.Sign(keys.PurposeClientAuth, vault, t.ClientBytes(role, id))}
}

func (r *raw) write(frame []byte) {
	r.t.Helper()
	if err := r.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) send(m wire.Message) {
	r.t.Helper()
	frame, err := wire.Append(nil, m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(frame)
}

func (r *raw) tryRead() ([]byte, error) {
	r.SetReadDeadline(time.Now().Add(timeout))
	_, frame, err := r.ReadMessage()
	return frame, err
}

func (r *raw) read() []byte {
	r.t.Helper()
	frame, err := r.tryRead()
	if err != nil {
		r.t.Fatalf("reading: %v", err)
	}
	return frame
}

func (r *raw) message() wire.Message {
	r.t.Helper()
	m, err := wire.Parse(r.read())
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// hello brings sign-in to the point where the client has to prove itself.
func (r *raw) hello() *wire.Transcript {
	r.t.Helper()
	h := &wire.Hello{Proto: wire.Proto, Audience: r.f.client.URL + "/"}
	rand.Read(h.Nonce[:])
	r.send(h)
	s, ok := r.message().(*wire.SHello)
	if !ok {
		r.t.Fatal("no SHELLO")
	}
	return &wire.Transcript{Audience: h.Audience, Proto: h.Proto, ClientNonce: h.Nonce, ServerNonce: s.Nonce, Server: s.Server, Binding: s.Binding, Time: s.Time}
}
