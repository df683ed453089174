//go:build linux

package stress

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A peer is a connection without the client's good manners, to a server without TLS.
type peer struct {
	*websocket.Conn
	s *server
}

// connect opens a WebSocket.
func connect(s *server) (*peer, error) {
	d := websocket.Dialer{Subprotocols: []string{wire.Subprotocol}, HandshakeTimeout: timeout, WriteBufferSize: 512, ReadBufferSize: 512}
	c, r, err := d.Dial("ws://"+s.addr+"/", nil)
	if r != nil && err != nil {
		err = fmt.Errorf("%w: %s", err, r.Status)
	}
	if err != nil {
		return nil, err
	}
	return &peer{c, s}, nil
}

func (p *peer) send(m wire.Message) error {
	frame, err := wire.Append(nil, m)
	if err != nil {
		return err
	}
	return p.WriteMessage(websocket.BinaryMessage, frame)
}

func (p *peer) message() (wire.Message, error) {
	p.SetReadDeadline(time.Now().Add(timeout))
	_, frame, err := p.ReadMessage()
	if err != nil {
		return nil, err
	}
	return wire.Parse(frame)
}

// hello brings sign-in to where the client has to prove itself.
func (p *peer) hello() (*wire.Transcript, error) {
	h := &wire.Hello{Proto: wire.Proto, Audience: "ws://" + p.s.addr + "/"}
	rand.Read(h.Nonce[:])
	if err := p.send(h); err != nil {
		return nil, err
	}
	m, err := p.message()
	if err != nil {
		return nil, err
	}
	s, ok := m.(*wire.SHello)
	if !ok {
		return nil, fmt.Errorf("%+v instead of SHELLO", m)
	}
	return &wire.Transcript{Audience: h.Audience, Proto: h.Proto, ClientNonce: h.Nonce, ServerNonce: s.Nonce, Server: s.Server, Binding: s.Binding, Time: s.Time}, nil
}

// signIn signs a device in, or whoever the keys belong to.
func (p *peer) signIn(vault keys.VaultID, device keys.DeviceID, auth keys.SigningKey) (wire.Message, error) {
	t, err := p.hello()
	if err != nil {
		return nil, err
	}
	err = p.send(&wire.Auth{Vault: vault, Role: wire.RoleDevice, Device: device, Signature: auth.Sign(keys.PurposeClientAuth, vault, t.ClientBytes(wire.RoleDevice, device))})
	if err != nil {
		return nil, err
	}
	return p.message()
}

// crowd does something n times, so many at a time, and reports the errors.
func crowd(t testing.TB, n, atOnce int, do func(i int) error) {
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil && failed.Add(1) <= 5 {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
}

// dial opens a TCP connection.
func dial(s *server) (net.Conn, error) {
	return net.DialTimeout("tcp", s.addr, timeout)
}

// closed waits until the other side has closed a connection, whatever it said before.
func closed(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(timeout))
	_, err := io.Copy(io.Discard, c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errors.New("the connection stays open")
	}
	return nil
}

// junk returns random bytes.
func junk(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
