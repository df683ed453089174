//go:build linux

package stress

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// lines are what may come at a port instead of a request.
var lines = []func() []byte{
	func() []byte { return junk(1 + rand.IntN(4000)) },
	func() []byte { return append([]byte{22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3}, junk(2000)...) }, // TLS
	func() []byte { return append([]byte{22, 3, 3, 0xff, 0xff}, junk(70_000)...) },
	func() []byte { return []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + string(junk(200))) },
	func() []byte { return []byte("GET /" + strings.Repeat("a", 20_000) + " HTTP/1.1\r\nHost: x\r\n\r\n") },
	func() []byte {
		return []byte("GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n")
	},
	func() []byte {
		return []byte("GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 100_000) + "\r\n")
	},
	func() []byte {
		return []byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + string(junk(50_000)))
	},
	func() []byte {
		return []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + string(junk(1000)))
	},
	func() []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n") },
	func() []byte { return []byte("\x00\r\n\r\n") },
	func() []byte {
		return []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: kist.v1\r\n\r\n")
	},
	func() []byte {
		return []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other\r\n\r\n" + string(junk(5000)))
	},
	func() []byte { // what follows the request comes before it is answered
		return []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: kist.v1\r\n\r\n" + string(junk(5000)))
	},
}

// raw returns a WebSocket frame with a head as it is given.
func raw(first byte, length uint64, payload []byte) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xfe), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0xff), length)
	}
	b = append(b, 0, 0, 0, 0) // the mask
	return append(b, payload...)
}

// frames are what may come in a WebSocket instead of messages.
var frames = []func() []byte{
	func() []byte { return junk(1 + rand.IntN(4000)) },
	func() []byte { return []byte{0x82, 5, 1, 2, 3, 4, 5} },                    // not masked
	func() []byte { return raw(0xf2, 3, junk(3)) },                             // reserved bits
	func() []byte { return raw(0x80, 3, junk(3)) },                             // goes on with nothing
	func() []byte { return raw(0x89, 1000, junk(1000)) },                       // a long ping
	func() []byte { return raw(0x09, 3, junk(3)) },                             // half a ping
	func() []byte { return raw(0x81, 5, []byte("hello")) },                     // text
	func() []byte { return raw(0x88, 1, junk(1)) },                             // half a reason to close
	func() []byte { return raw(0x88, 2, []byte{0, 1}) },                        // a bad one
	func() []byte { return raw(0x82, 1<<63, junk(100)) },                       // lengths
	func() []byte { return raw(0x82, 1<<62, junk(100)) },                       //
	func() []byte { return raw(0x82, wire.MaxFrame+1, junk(100)) },             //
	func() []byte { return raw(0x82, wire.MaxFrame+1, junk(wire.MaxFrame+1)) }, // all of it
	func() []byte { // a message without end
		b := raw(0x02, 1, junk(1))
		for range 100 {
			b = append(b, raw(0x00, 60_000, junk(60_000))...)
		}
		return b
	},
	func() []byte { // empty frames without end, and then one that cannot be
		b := raw(0x02, 0, nil)
		for range 50_000 {
			b = append(b, raw(0x00, 0, nil)...)
		}
		return append(b, raw(0xf2, 0, nil)...)
	},
}

// value returns something for CBOR to encode.
func value(depth int) any {
	switch k := rand.IntN(9); {
	case k < 2:
		return rand.Uint64() >> rand.IntN(64)
	case k < 3:
		return junk([]int{0, 12, 16, 32, 64, 5000}[rand.IntN(6)])
	case k < 4:
		return rand.IntN(2) == 0
	case k < 5:
		return nil
	case k < 6:
		return "text"
	case k < 7 || depth == 0:
		return -rand.IntN(1000)
	}
	all := make([]any, rand.IntN(8))
	for i := range all {
		all[i] = value(depth - 1)
	}
	return all
}

// messages are frames of well-formed CBOR that are no messages, and messages that make
// no sense.
func message() []byte {
	kinds := []wire.Message{
		&wire.Hello{Proto: wire.Proto, Audience: "ws://127.0.0.1/"}, &wire.Auth{}, &wire.Create{}, &wire.Ping{Token: 1},
		&wire.Bind{Size: rand.Uint64() >> 1}, &wire.Unbind{}, &wire.Mark{Token: 1}, &wire.Proof{Request: 1, From: 1, To: 1 << 39},
		&wire.Fetch{Request: 1, Commit: commitlog.CommitID(1 + rand.IntN(100)), Length: wire.MaxRange}, &wire.Snapshot{Request: 1, Size: 1},
		&wire.Read{Request: 1, To: 1 << 39}, &wire.Object{Size: 1 << 20, Data: junk(1000)}, &wire.Object{Size: 1 << 62},
		&wire.Upload{Items: []wire.Item{{Kind: wire.ItemPart, Data: junk(1000)}}}, &wire.Checkpoint{},
	}
	if rand.IntN(2) == 0 {
		if frame, err := wire.Append(nil, kinds[rand.IntN(len(kinds))]); err == nil {
			if rand.IntN(2) == 0 {
				frame[rand.IntN(len(frame))] ^= 1 << rand.IntN(8)
			}
			return frame
		}
	}
	all := make([]any, rand.IntN(10))
	for i := range all {
		all[i] = value(4)
	}
	body, err := cbor.Marshal(all)
	if err != nil {
		panic(err)
	}
	return append([]byte{byte(rand.IntN(48))}, body...)
}

// H52: bytes that are no request, frames that are none, messages that are none and
// messages that make no sense, before sign-in and after.
func TestGarbage(t *testing.T) {
	t.Parallel()
	const rounds = 20 // of each
	throw := func(c net.Conn, bytes []byte) error {
		defer c.Close()
		go func() {
			c.SetWriteDeadline(time.Now().Add(timeout))
			c.Write(bytes) // which may be cut off
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
		}()
		return closed(c)
	}
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		s := run(t)
		beside(t, s, meet(t, s), func() {
			crowd(t, rounds*len(lines), 10, func(i int) error {
				c, err := dial(s)
				if err != nil {
					return err
				}
				return throw(c, lines[i%len(lines)]())
			})
		})
	})
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		s := run(t, "--plain")
		p := meet(t, s)
		a, b := p.device(), p.device()
		const bad = 4
		for range bad {
			fatal(t, p.device().Close())
		}
		// signedIn connects as one of the bad devices.
		signedIn := func(i int) (*peer, error) {
			c, err := connect(s)
			if err != nil {
				return nil, err
			}
			k := p.keys[2+i%bad]
			if m, err := c.signIn(p.root.VaultID(), k.ID(), k.Auth); err != nil || m.Type() != wire.TypeOK {
				c.Close()
				// Another session of the device took over.
				return nil, fmt.Errorf("sign-in: %v, %w", m, err)
			}
			return c, nil
		}
		besideOf(t, s, p, a, b, func() {
			crowd(t, rounds*len(lines), 4, func(i int) error {
				c, err := dial(s)
				if err != nil {
					return err
				}
				return throw(c, lines[i%len(lines)]())
			})
			crowd(t, rounds*len(frames), 4, func(i int) error {
				c, err := connect(s)
				if err != nil {
					return err
				}
				return throw(c.NetConn(), frames[i%len(frames)]())
			})
			crowd(t, rounds*20, 4, func(i int) error {
				c, err := connect(s)
				if err != nil {
					return err
				}
				if i%2 == 0 {
					if _, err := c.hello(); err != nil {
						return err
					}
				}
				c.WriteMessage(websocket.BinaryMessage, message())
				return throw(c.NetConn(), nil)
			})
			// One device has one session: one at a time.
			crowd(t, bad, bad, func(d int) error {
				for i := range rounds / 4 * len(frames) {
					c, err := signedIn(d)
					if err != nil {
						return err
					}
					if err := throw(c.NetConn(), frames[i%len(frames)]()); err != nil {
						return err
					}
				}
				for range rounds * 10 {
					c, err := signedIn(d)
					if err != nil {
						return err
					}
					c.send(&wire.Bind{})
					for range 20 {
						c.WriteMessage(websocket.BinaryMessage, message())
					}
					if err := throw(c.NetConn(), nil); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
}
