package vaulttest

import (
	"net"
	"sync"
	"time"
)

// An end is what the device or the secondary holds of a connection.
type end struct {
	net.Conn
	once sync.Once
	gone chan struct{} // closed by Close
}

func (e *end) Close() error {
	e.once.Do(func() { close(e.gone) })
	return e.Conn.Close()
}

// A link is one connection. The device and the secondary each hold one end of a
// pipe; the link holds the others, and carries bytes between them.
type link struct {
	net *Network
	id  int // of the connection; 0 when the network has begun to count anew
	up  *way
	dn  *way

	cutOnce, stallOnce sync.Once
	broken             chan struct{} // closed by cut
	stalled            chan struct{} // closed by stall
}

// A way is one direction of a link. One goroutine takes what the sender sends,
// at once; another delivers it when it is due. What is between them is what is
// under way.
type way struct {
	link  *link
	dir   Direction
	from  net.Conn // the sender
	to    net.Conn // the receiver
	split splitter
	queue chan due
	gone  <-chan struct{} // closed when the sender has closed its end
	frame Frame           // that is being delivered
	fault Fault           // what becomes of it
	twice []byte          // of it, if it arrives twice
}

// due is a piece and when it arrives.
type due struct {
	piece
	at time.Time
}

const (
	pieceSize = 16 << 10
	underWay  = 16 // pieces
)

// newLink returns a link, which does not run yet, and its ends.
func newLink(n *Network) (l *link, device, server *end) {
	l = &link{net: n, broken: make(chan struct{}), stalled: make(chan struct{})}
	pipe := func() (*end, net.Conn) {
		outer, inner := net.Pipe()
		return &end{Conn: outer, gone: make(chan struct{})}, inner
	}
	device, upper := pipe()
	server, lower := pipe()
	l.up = &way{link: l, dir: Up, from: upper, to: lower, gone: device.gone, queue: make(chan due, underWay)}
	l.dn = &way{link: l, dir: Down, from: lower, to: upper, gone: server.gone, queue: make(chan due, underWay)}
	return l, device, server
}

// run carries bytes until both ends are closed.
func (l *link) run() {
	var all sync.WaitGroup
	for _, w := range []*way{l.up, l.dn} {
		all.Go(w.take)
		all.Go(w.deliver)
	}
	all.Wait()
}

// cut breaks the link; both ends are told.
func (l *link) cut() {
	l.cutOnce.Do(func() {
		close(l.broken)
		l.up.from.Close()
		l.dn.from.Close()
	})
}

// stall has nothing more arrive.
func (l *link) stall() { l.stallOnce.Do(func() { close(l.stalled) }) }

// other returns the opposite way.
func (w *way) other() *way {
	if w.dir == Up {
		return w.link.dn
	}
	return w.link.up
}

// take takes what the sender sends, until it closes. It waits when too much is
// under way.
func (w *way) take() {
	defer close(w.queue)
	buf := make([]byte, pieceSize)
	for {
		n, err := w.from.Read(buf)
		pieces := w.split.split(buf[:n])
		if err != nil && len(w.split.rest()) > 0 {
			pieces = append(pieces, piece{data: w.split.rest()})
		}
		w.link.net.mu.Lock()
		at := time.Now().Add(w.link.net.latency)
		w.link.net.mu.Unlock()
		for _, p := range pieces {
			if !w.send(due{p, at}) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// send puts a piece under way, or reports that it cannot arrive.
func (w *way) send(p due) bool {
	select {
	case w.queue <- p:
		return true
	case <-w.link.broken:
		return false
	case <-w.other().gone: // nobody is there to take it
		return false
	case <-w.link.stalled:
	}
	select {
	case w.queue <- p:
		return true
	case <-w.link.broken:
		return false
	case <-w.other().gone:
		return false
	case <-w.gone: // nobody is there to wait
		return false
	}
}

// deliver hands on what was taken, and then the end.
func (w *way) deliver() {
	for p := range w.queue {
		if !w.wait(time.Until(p.at)) || !w.piece(p.piece) {
			break
		}
	}
	select {
	case <-w.link.stalled:
		// Nobody is told. The link ends when both have given up by themselves.
		select {
		case <-w.other().gone:
		case <-w.link.broken:
		}
	default:
	}
	w.to.Close()
}

// piece delivers a piece, as far as the fault of its frame lets it. It reports
// whether anything more is to be delivered.
func (w *way) piece(p piece) bool {
	if !p.frame {
		return w.crawl(len(p.data)) && w.write(p.data, nil)
	}
	if p.first {
		w.frame = Frame{Dir: w.dir, Type: p.typ}
		w.twice = nil
		w.fault = w.link.net.begin(w)
		if !w.wait(w.fault.Delay) {
			return false
		}
	}
	data, ends := p.data, false
	if w.fault.Cut || w.fault.Stall {
		if room := w.fault.Bytes - w.frame.Size; len(data) >= room {
			data, ends = data[:max(room, 0)], true
		}
		ends = ends || p.last
	}
	if !w.crawl(len(data)) {
		return false
	}
	w.frame.Size += len(data)
	var whole *Frame
	if p.last && len(data) == len(p.data) {
		whole = &w.frame
	}
	if w.fault.Duplicate {
		w.twice = append(w.twice, data...)
	}
	if ends {
		// No answer to what arrives now may get through.
		w.link.stall()
	}
	if len(data) > 0 && !w.write(data, whole) {
		return false
	}
	if p.last && w.fault.Duplicate && !w.write(w.twice, nil) {
		return false
	}
	if ends && w.fault.Cut {
		w.link.cut()
	}
	return !ends
}

// crawl waits as long as the line takes for so many bytes, and reports whether it
// works still.
func (w *way) crawl(bytes int) bool {
	n := w.link.net
	n.mu.Lock()
	bandwidth := n.bandwidth
	n.mu.Unlock()
	if bandwidth == 0 {
		return w.wait(0)
	}
	return w.wait(time.Duration(bytes) * time.Second / time.Duration(bandwidth))
}

// write writes bytes to the receiver and reports whether it takes them.
func (w *way) write(data []byte, whole *Frame) bool {
	w.link.net.arrived(w, len(data), whole) // before an answer can come
	_, err := w.to.Write(data)
	return err == nil
}

// wait waits, and reports whether the link works still.
func (w *way) wait(d time.Duration) bool {
	if sleep(w.link.broken, d) != nil {
		return false
	}
	select {
	case <-w.link.broken:
		return false
	case <-w.link.stalled:
		return false
	default:
		return true
	}
}
