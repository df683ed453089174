package secondary

import (
	"container/list"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/frames"
	"github.com/kistvault/kist/secondary/wire"
)

// conn drives a session over a connection with two goroutines.
//
// The reader hands one frame at a time to the session and queues the answers.
// The queue is bounded: a device that does not read its answers is not read
// from. The writer sends answers first, and asks the session for more when there
// are none.
type conn struct {
	server   *Server
	frames   *frames.Conn
	session  *Session
	from     netip.Addr    // where it comes from, …
	counts   bool          // … where that counts
	started  bool          // both goroutines; guarded by server.connsMu
	stranger *list.Element // in server.strangers

	replies  chan wire.Message            // from the reader to the writer
	in       holding                      // the frame that is read
	unread   holding                      // the answers in replies, and the one that is written
	out      holding                      // what the session sends by itself
	held     wire.Message                 // the writer's: an answer that something goes before; nil: none
	vault    atomic.Pointer[keys.VaultID] // that the device is signed in to; nil: none yet
	buf      []byte                       // the writer's: the frame that it writes
	reserved bool                         // the writer's: there is room for what it sends
	resume   time.Time                    // the writer's: it has sent so much that it waits until then
	pacer    *time.Timer                  // the writer's: wakes it then; nil: never had to
	ready    chan struct{}                // holds a token when the session may have something to send
	done     chan struct{}                // closed by the writer when it ends
}

// refuseTime is when a refused sign-in is told so. It is far above what any takes,
// and slows guessing down.
const refuseTime = 250 * time.Millisecond

// bound counts what the connection holds against the server's budget. Where it has to
// give way it is cut off: what a device has not taken it may never take.
func (c *conn) bound() {
	cut := func() {
		c.server.config.Logger.Debug("holds too much for too long, and others wait", "conn", c.session.name)
		c.session.tell(again(tooMuch))
		c.frames.Close()
	}
	b := &c.server.budget
	c.in, c.unread, c.out = holding{budget: b, cut: cut}, holding{budget: b, cut: cut}, holding{budget: b, cut: cut}
	c.session.bound(cut)
	c.frames.Bound(func(bytes int) error {
		if !c.in.set(bytes) {
			return again(tooMuch)
		}
		return nil
	})
}

// weight returns how many bytes of memory an answer takes, as far as that counts: of those
// that can be large.
func weight(m wire.Message) (n int) {
	switch m := m.(type) {
	case *wire.Checkpoint:
		return len(m.Data)
	case *wire.Uploaded:
		for i := range m.Results {
			n += 48 + len(m.Results[i].Text)
		}
	}
	return n
}

// wake lets the writer look at the session. It never waits.
func (c *conn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// read is the reading goroutine. It ends with the connection.
func (c *conn) read() {
	defer c.server.finished.Done()
	defer c.server.dismiss(c)
	err := c.serve()
	c.server.config.Logger.Debug("connection ends", "conn", c.session.name, "reason", err)
	c.session.Close()
	c.in.end()
	if m := lastError(err); m != nil {
		c.say(m)
	} else {
		c.frames.Close() // nobody is there to write to
	}
	close(c.replies) // the writer ends after what is in it
	<-c.done
	c.frames.Close()
}

// serve hands frames to the session until reading fails. After the session's
// last answer it drops what still comes.
func (c *conn) serve() error {
	c.frames.ReadBy(time.Now().Add(c.server.config.SignInTime))
	signedIn := false
	for {
		frame, err := c.frames.Read()
		var full *wire.Error
		if errors.As(err, &full) { // there is no room for it
			c.session.Close()
			c.say(full)
			continue
		}
		if err != nil {
			return err
		}
		c.server.counts.received.Add(uint64(len(frame)))
		if signedIn {
			c.pause(len(frame))
		}
		came := time.Now()
		replies := c.session.Handle(c.server.ctx, frame)
		if !signedIn && c.session.SignedIn() {
			signedIn = true
			vault := c.session.vault()
			c.vault.Store(&vault)
			c.frames.SignedIn()
			c.server.known(c)
		}
		for _, m := range replies {
			if _, refused := m.(*wire.Fail); refused {
				// Every refusal takes the same time, whatever there was to look
				// up and to verify.
				time.Sleep(time.Until(came.Add(refuseTime)))
			}
			if !c.unread.acquire(weight(m)) {
				c.session.Close()
				m = again(tooMuch)
			}
			c.say(m)
		}
		c.wake()
	}
}

// say queues an answer, unless the writer has ended.
func (c *conn) say(m wire.Message) {
	select {
	case c.replies <- m:
	case <-c.done:
	}
}

// lastError returns what to say when reading has failed, nil if nobody listens.
func lastError(err error) wire.Message {
	switch {
	case errors.Is(err, wire.ErrProtocol), errors.Is(err, wire.ErrTooLarge), errors.Is(err, wire.ErrTimeout):
		return wire.NewError(wire.CodeOf(err), "")
	}
	return nil
}

// write is the writing goroutine. It ends after a final message, when the reader
// has ended, or when the line is dead.
func (c *conn) write() {
	defer c.server.finished.Done()
	defer close(c.done)
	defer c.gone()
	for {
		m, open := c.next()
		if !open {
			c.frames.Goodbye(false)
			return
		}
		if m == nil {
			continue
		}
		answer := weight(m)
		err := c.append(m)
		if err == nil && c.reserved && !c.server.outgoing.change(c, len(c.buf)+c.session.flow.held()) {
			m = again(tooMuch) // it is a large bundle, and there is no room for it
			err = c.append(m)
		}
		if err == nil {
			c.server.counts.said(m, len(c.buf)) // whoever has it finds it counted
		}
		final := Final(m)
		e, isError := m.(*wire.Error)
		m = nil // it is all in buf: a slow line holds it once
		if err == nil {
			err = c.frames.Write(c.buf)
		}
		c.release()
		c.unread.release(answer)
		if err != nil {
			c.frames.Close() // the reader ends too
			return
		}
		if vault := c.vault.Load(); vault != nil {
			c.sent(*vault, len(c.buf))
		}
		if final {
			c.frames.Goodbye(isError && e.Code == wire.CodeProtocol)
			return
		}
	}
}

// quiet is the size of a write buffer that a session keeps: the small messages of a
// session that has nothing to transfer.
const quiet = 8 << 10

// append makes the frame of m in buf.
func (c *conn) append(m wire.Message) (err error) {
	if c.buf, err = wire.Append(c.buf[:0], m); err != nil {
		c.server.config.Logger.Error("message cannot be sent", "conn", c.session.name, "type", m.Type(), "err", err)
	}
	return err
}

// next returns the next message to send: an answer, or else what the session
// has. Nil and true is to look again; false is the end of the answers.
func (c *conn) next() (m wire.Message, open bool) {
	if m, c.held = c.held, nil; m != nil {
		return m, true
	}
	select {
	case m, open = <-c.replies:
		if _, ok := m.(*wire.Uploaded); ok {
			// What was uploaded comes in DOWNLOAD, too. A device that gets that
			// first has nothing to keep of the answer: one transaction less.
			if first := c.news(); first != nil {
				c.held = m
				return first, true
			}
		}
		return m, open
	default:
	}
	if m := c.news(); m != nil {
		return m, true
	}
	if cap(c.buf) > quiet {
		c.buf = nil // nothing is under way
	}
	select {
	case m, open = <-c.replies:
		return m, open
	case <-c.ready:
		return nil, true
	}
}

// news returns what the session has to say by itself. For more than a word there has
// to be room.
func (c *conn) news() wire.Message {
	if c.vault.Load() != nil {
		if m := c.session.word(); m != nil {
			return m
		}
		if !c.session.due() || !c.mayGoOn() {
			return nil
		}
		if c.reserved = c.server.outgoing.reserve(c); !c.reserved {
			return nil
		}
	}
	m := c.session.Next(c.server.ctx)
	if m == nil {
		c.release()
	}
	return m
}

// gone gives back all that there may be.
func (c *conn) gone() {
	if c.vault.Load() != nil {
		c.server.outgoing.leave(c)
	}
	c.out.end()
	c.unread.end()
	if c.pacer != nil {
		c.pacer.Stop()
	}
}

// release gives back what was reserved.
func (c *conn) release() {
	if c.reserved {
		c.reserved = false
		c.server.outgoing.leave(c)
	}
}
