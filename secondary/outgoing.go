package secondary

import (
	"sync"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// outgoing bounds what the sessions of each vault together hold of frames that their
// devices have not taken yet. Where it is more, the others of the vault wait for a
// moment, and then the one whose frame has been on its way for longest is cut off: that
// device is the slowest, or reads nothing. It goes on where it was when it comes back.
type outgoing struct {
	mu    sync.Mutex
	lanes map[keys.VaultID]*lane
}

// lane is what one vault holds.
type lane struct {
	bytes   int
	holders map[*conn]taken
	waiting map[*conn]*time.Timer // to be woken when there is room, or at the latest then
}

type taken struct {
	bytes int
	since time.Time
}

// maxOutgoing is room for eight frames of DOWNLOAD. One that goes in parts, of a large
// bundle, holds the whole of it.
const maxOutgoing = 8 * downloadFrame

// roomAgain is when to look again for room in the server's budget.
const roomAgain = time.Second

// reserve makes room for the next frame of a connection, and reports whether there was
// some. Where there was none the connection is woken later. The connection's writer
// calls it, then change, and then leave.
func (o *outgoing) reserve(c *conn) bool {
	now := time.Now()
	o.mu.Lock()
	l := o.lane(c)
	l.wait(c, nil)
	var slowest *conn
	since := now
	if l.bytes >= maxOutgoing {
		for other, h := range l.holders {
			if h.since.Before(since) {
				slowest, since = other, h.since
			}
		}
		left := since.Add(patience).Sub(now)
		if slowest == nil || left > 0 {
			l.wait(c, time.AfterFunc(max(left, time.Millisecond), c.wake))
			o.mu.Unlock()
			return false
		}
		o.forget(slowest)
		l = o.lane(c) // which may have been empty
	}
	there := c.out.set(wire.MaxItem) // which all frames fit but those of a bundle in parts
	if there {
		l.bytes += downloadFrame
		l.holders[c] = taken{downloadFrame, now}
	} else {
		l.wait(c, time.AfterFunc(roomAgain, c.wake))
	}
	o.mu.Unlock()
	if slowest != nil {
		slowest.server.config.Logger.Debug("too slow, and others wait", "conn", slowest.session.name)
		slowest.frames.Close()
	}
	return there
}

// wait notes that a connection waits, with the timer that wakes it, or does no longer.
func (l *lane) wait(c *conn, t *time.Timer) {
	if before := l.waiting[c]; before != nil {
		before.Stop()
	}
	delete(l.waiting, c)
	if t != nil {
		l.waiting[c] = t
	}
}

// change notes what a connection holds after all, and reports whether the server has
// room for it.
func (o *outgoing) change(c *conn, bytes int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.lane(c)
	if h, ok := l.holders[c]; ok {
		l.bytes += bytes - h.bytes
		l.holders[c] = taken{bytes, h.since}
	}
	return c.out.set(bytes)
}

// leave notes that a connection holds nothing any more.
func (o *outgoing) leave(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(c)
	c.out.set(0)
}

// lane returns the connection's lane. mu is held.
func (o *outgoing) lane(c *conn) *lane {
	vault := *c.vault.Load()
	l := o.lanes[vault]
	if l == nil {
		l = &lane{holders: make(map[*conn]taken), waiting: make(map[*conn]*time.Timer)}
		if o.lanes == nil {
			o.lanes = make(map[keys.VaultID]*lane)
		}
		o.lanes[vault] = l
	}
	return l
}

// forget takes a connection out, and wakes those that there is room for now. mu is
// held.
func (o *outgoing) forget(c *conn) {
	l := o.lane(c)
	l.bytes -= l.holders[c].bytes
	delete(l.holders, c)
	l.wait(c, nil)
	if l.bytes < maxOutgoing {
		for other := range l.waiting {
			l.wait(other, nil)
			other.wake()
		}
	}
	if len(l.holders) == 0 {
		delete(o.lanes, *c.vault.Load())
	}
}
