package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/secondary/internal/frames"
	"github.com/kistvault/kist/secondary/wire"
)

// ErrClosed: the connection was closed on this side.
var ErrClosed = errors.New("connection closed")

// queued is how many messages wait in each direction: the next is ready while
// one is worked on, and no more memory is held than that takes.
const queued = 4

// lastWord is how long the reader may take to find what the secondary said before
// it closed. A connection that cannot be written to has usually ended for the
// reader as well.
const lastWord = 5 * time.Second

// Conn is a session with a secondary, signed in. It answers and sends pings by
// itself.
type Conn struct {
	frames *frames.Conn
	name   string // that the secondary gave it
	count  *counters
	ping   time.Duration

	sentPings, gotPings atomic.Uint64 // bytes of PING and PONG, sent and received
	heard               atomic.Pointer[time.Time]

	in  chan wire.Message
	out chan []byte

	stop     chan struct{} // closed to end both goroutines
	finished sync.WaitGroup

	mu  sync.Mutex
	err error // why the session ended; set once
}

func newConn(l *line, idle time.Duration) *Conn {
	c := &Conn{
		frames: l.frames, name: l.name, count: l.count, ping: idle / 3,
		in: make(chan wire.Message, queued), out: make(chan []byte, queued),
		stop: make(chan struct{}),
	}
	c.hear()
	c.finished.Go(c.read)
	c.finished.Go(c.write)
	return c
}

// Sent returns the bytes sent so far, sign-in and TLS included.
func (c *Conn) Sent() uint64 { return c.count.sent.Load() }

// Received returns the bytes received so far, sign-in and TLS included.
func (c *Conn) Received() uint64 { return c.count.received.Load() }

// Moved returns the bytes of messages sent and received so far, and of those that
// are on their way. PING and PONG are none: they say that the other side is there,
// and not that it does anything.
func (c *Conn) Moved() (sent, received uint64) {
	sentPings, gotPings := c.sentPings.Load(), c.gotPings.Load() // first: they are part of the sums
	sent, received = c.frames.Moved()
	return sent - sentPings, received - gotPings
}

// Heard returns when the last frame came, PING and PONG included.
func (c *Conn) Heard() time.Time { return *c.heard.Load() }

func (c *Conn) hear() {
	now := time.Now()
	c.heard.Store(&now)
}

// end ends the session for a reason; the first one counts.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		if c.err = err; err != ErrClosed {
			c.err = wire.OnConn(err, c.name)
		}
		close(c.stop)
	}
}

func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read is the reading goroutine.
func (c *Conn) read() {
	for {
		m, err := c.next()
		if err != nil {
			c.end(err)
			c.frames.Close() // the writer may be waiting for the line
			return
		}
		if m == nil {
			continue
		}
		select {
		case c.in <- m:
		case <-c.stop:
			return
		}
	}
}

// next reads a message; nil for one that the connection deals with itself.
func (c *Conn) next() (wire.Message, error) {
	frame, err := c.frames.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it closed the connection", wire.ErrUnreachable)
	case errors.Is(err, wire.ErrProtocol), errors.Is(err, wire.ErrTooLarge):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %v", wire.ErrUnreachable, err)
	}
	c.hear()
	// The buffer is the connection's; items of the message go on living.
	m, err := wire.Parse(append(make([]byte, 0, len(frame)), frame...))
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *wire.Ping:
		c.gotPings.Add(uint64(len(frame)))
		c.pong(m.Token)
		return nil, nil
	case *wire.Pong:
		c.gotPings.Add(uint64(len(frame)))
		return nil, nil
	case *wire.Error:
		if m.Request == 0 {
			return nil, m
		}
	}
	return m, nil
}

// pong answers a ping, unless the queue is full: then other frames are on their
// way and say as much.
func (c *Conn) pong(token uint64) {
	frame, err := wire.Append(nil, &wire.Pong{Token: token})
	if err != nil {
		return // unreachable: any token is valid
	}
	select {
	case c.out <- frame:
	default:
	}
}

// write is the writing goroutine.
func (c *Conn) write() {
	ticker := time.NewTicker(c.ping)
	defer ticker.Stop()
	ping, err := wire.Append(nil, &wire.Ping{Token: 1})
	for err == nil {
		select {
		case frame := <-c.out:
			if err = c.frames.Write(frame); wire.Type(frame[0]) == wire.TypePong {
				c.sentPings.Add(uint64(len(frame)))
			}
		case <-ticker.C:
			err = c.frames.Write(ping)
			c.sentPings.Add(uint64(len(ping)))
		case <-c.stop:
			return
		}
	}
	// What the secondary said before it closed is worth more than this error.
	// So Send waits for it as well.
	select {
	case <-time.After(lastWord):
		c.end(fmt.Errorf("%w: %v", wire.ErrUnreachable, err))
		c.frames.Close()
	case <-c.stop:
	}
}

// Send queues a message. It waits while the queue is full.
func (c *Conn) Send(ctx context.Context, m wire.Message) error {
	frame, err := wire.Append(nil, m)
	if err != nil {
		return err
	}
	select {
	case <-c.stop:
		return c.reason()
	default:
	}
	select {
	case c.out <- frame:
		return nil
	case <-c.stop:
		return c.reason()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Receive returns the next message but PING, PONG and an ERROR that ends the
// session, which is the error. Errors are those of [Dial], and ErrProtocol,
// ErrReplaced, ErrTimeout and ErrTooLarge of package wire.
func (c *Conn) Receive(ctx context.Context) (wire.Message, error) {
	select {
	case m := <-c.in: // what came before the end comes before its reason
		return m, nil
	default:
	}
	select {
	case m := <-c.in:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.stop:
	}
	select {
	case m := <-c.in:
		return m, nil
	default:
		return nil, c.reason()
	}
}

// Close ends the session and waits for its goroutines. Calls that wait return
// [ErrClosed].
func (c *Conn) Close() error {
	c.end(ErrClosed)
	c.frames.Goodbye(false)
	err := c.frames.Close()
	c.finished.Wait()
	if errors.Is(err, net.ErrClosed) { // the peer was first
		return nil
	}
	return err
}
