// Package frames moves frames over a WebSocket, for both ends of a session. It
// wraps what both must do alike: binary messages only, size limits, and
// deadlines that follow progress, so that a slow line is not taken for a dead one.
package frames

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/secondary/wire"
)

// chunk is what has to get through within the idle time: a line that moves
// less in a minute is of no use.
const chunk = 64 << 10

// Conn is one end of a connection. One goroutine may read while another writes.
type Conn struct {
	ws   *websocket.Conn
	idle time.Duration

	buf  []byte          // of the last frame read
	room func(int) error // asked before it grows; nil: nobody is

	read, written atomic.Uint64 // bytes of frames, those under way included

	readBy atomic.Int64 // no read goes on after this, Unix ns; 0: no bound
}

// New returns a connection that gives up when nothing moves for the idle time.
// It takes frames of at most [wire.MaxSignInFrame] bytes.
func New(ws *websocket.Conn, idle time.Duration) *Conn {
	ws.SetReadLimit(wire.MaxSignInFrame)
	return &Conn{ws: ws, idle: idle}
}

// Bound has room asked before a frame takes so many bytes of memory, more than before.
// A frame for which it has an error is read and dropped, and Read returns that error,
// which alone is not final. With zero it is told that none is held any more, and between
// frames none is. It is called before the first Read.
func (c *Conn) Bound(room func(bytes int) error) { c.room = room }

// Moved returns how many bytes of frames were written and read so far. What a
// WebSocket adds, and control frames that it deals with itself, do not count.
func (c *Conn) Moved() (written, read uint64) { return c.written.Load(), c.read.Load() }

// ReadBy bounds all that is read from now on by a point in time; the zero time
// lifts the bound.
func (c *Conn) ReadBy(by time.Time) {
	if by.IsZero() {
		c.readBy.Store(0)
		return
	}
	c.readBy.Store(by.UnixNano())
}

// SignedIn lifts the bound on time, and the limit on frames to [wire.MaxFrame].
// The reading goroutine calls it.
func (c *Conn) SignedIn() {
	c.ReadBy(time.Time{})
	c.ws.SetReadLimit(wire.MaxFrame)
}

func (c *Conn) readDeadline() {
	t := time.Now().Add(c.idle)
	if by := c.readBy.Load(); by != 0 && by < t.UnixNano() {
		t = time.Unix(0, by)
	}
	c.ws.SetReadDeadline(t)
}

func (c *Conn) writeDeadline() { c.ws.SetWriteDeadline(time.Now().Add(c.idle)) }

// Read returns the next frame, which is valid until the next Read. An error is
// final: io.EOF where the peer closed, [wire.ErrTooLarge], [wire.ErrProtocol] or
// [wire.ErrTimeout], or the connection's own.
func (c *Conn) Read() ([]byte, error) {
	if err := c.shrink(); err != nil {
		return nil, err
	}
	c.readDeadline()
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, readError(err)
	}
	if kind != websocket.BinaryMessage {
		return nil, fmt.Errorf("%w: a text message", wire.ErrProtocol)
	}
	var refused error
	for {
		if len(c.buf) == cap(c.buf) {
			if refused == nil {
				refused = c.grow()
			}
			if refused != nil {
				c.buf = c.buf[:0]
			}
		}
		room := c.buf[len(c.buf):min(cap(c.buf), len(c.buf)+chunk)]
		c.readDeadline()
		n, err := r.Read(room)
		c.buf = c.buf[:len(c.buf)+n]
		c.read.Add(uint64(n))
		if errors.Is(err, io.EOF) {
			return c.buf, refused
		}
		if err != nil {
			return nil, readError(err)
		}
	}
}

// Buffers of frames: what one begins with, and what is kept of one that has a bound.
const (
	firstBuffer = 512
	smallBuffer = 4 << 10
)

// shrink gives up a large buffer: a session that has become quiet holds little.
func (c *Conn) shrink() error {
	defer func() { c.buf = c.buf[:0] }()
	if c.room != nil && cap(c.buf) > smallBuffer {
		c.buf = nil
		return c.room(0)
	}
	if cap(c.buf) > chunk && len(c.buf) <= chunk/2 {
		c.buf = nil
	}
	return nil
}

// grow doubles the buffer. There is one byte beyond the largest frame, to find its end.
func (c *Conn) grow() error {
	n := max(firstBuffer, 2*cap(c.buf))
	if len(c.buf) <= wire.MaxFrame {
		n = min(n, wire.MaxFrame+1)
	}
	if c.room != nil && n > smallBuffer {
		if err := c.room(n); err != nil {
			return err
		}
	}
	c.buf = append(make([]byte, 0, n), c.buf...)
	return nil
}

func readError(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return fmt.Errorf("%w: frame", wire.ErrTooLarge)
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure):
		return io.EOF
	case errors.As(err, &ne) && ne.Timeout():
		return fmt.Errorf("%w: nothing was received", wire.ErrTimeout)
	}
	var ce *websocket.CloseError
	if errors.As(err, &ce) {
		return fmt.Errorf("closed by the peer with status %d", ce.Code)
	}
	return err
}

// Write sends a frame. An error is final.
func (c *Conn) Write(frame []byte) error {
	c.writeDeadline()
	w, err := c.ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for len(frame) > 0 {
		n := min(len(frame), chunk)
		c.writeDeadline()
		if _, err := w.Write(frame[:n]); err != nil {
			return writeError(err)
		}
		c.written.Add(uint64(n))
		if n == chunk {
			// The peer takes what is sent, and cannot answer before it has it
			// all. Small frames say nothing: the system takes them for a peer
			// that is gone, too.
			c.readDeadline()
		}
		frame = frame[n:]
	}
	return writeError(w.Close())
}

func writeError(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("%w: nothing could be sent", wire.ErrTimeout)
	}
	return err
}

// goodbye is how long a peer may take to hear why a connection ends, and to
// close it.
const goodbye = 2 * time.Second

// Goodbye ends writing, with a protocol error or without one, and gives the peer
// a moment to read what was written. The connection stays open for reading, and
// what still comes should be read: closed with unread input, the system would
// throw away what the peer has not read yet.
func (c *Conn) Goodbye(protocolError bool) {
	status := websocket.CloseNormalClosure
	if protocolError {
		status = websocket.CloseProtocolError
	}
	by := time.Now().Add(goodbye)
	c.ReadBy(by)
	c.ws.SetReadDeadline(by)
	// A peer that does not take it in time loses nothing by it.
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(status, ""), by)
	if half, ok := c.ws.NetConn().(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// Close closes at once.
func (c *Conn) Close() error { return c.ws.Close() }
