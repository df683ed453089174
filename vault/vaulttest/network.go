package vaulttest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
)

// A Network is the way between a device and the secondary. A new one is perfect:
// it has no latency and loses nothing. It may be changed at any time, from any
// goroutine.
type Network struct {
	hookMu sync.Mutex // held while faults runs

	mu        sync.Mutex
	secondary *Secondary
	others    []*Secondary
	latency   time.Duration
	bandwidth int
	offline   bool
	faults    func(Frame) Fault
	links     map[*link]struct{}
	conns     int // connections made so far
	frames    []Frame
	begun     [2]int // frames in each direction
	bytes     [2]int64

	finished sync.WaitGroup // the goroutines of all links
}

// Network returns a new way to the secondary, which ends with the test.
func (s *Secondary) Network(t testing.TB) *Network {
	t.Helper()
	n := &Network{secondary: s, links: make(map[*link]struct{})}
	s.mu.Lock()
	s.networks = append(s.networks, n)
	s.mu.Unlock()
	t.Cleanup(func() {
		n.Disconnect()
		n.finished.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.networks = slices.DeleteFunc(s.networks, func(o *Network) bool { return o == n })
	})
	return n
}

// Dial signs in at the secondary over this network, whatever address the server
// is known by. It is what vault.SyncOptions asks for; a [Device] is connected
// already.
func (n *Network) Dial(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
	s.NetDial = func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx, n.to(s.Key)) }
	c, err := client.Dial(ctx, s, id)
	if err != nil {
		return nil, err // and not a Messenger that holds a nil *Conn
	}
	return c, nil
}

var errOffline = errors.New("network is unreachable")
var errRefused = errors.New("connection refused")

// NetDial opens a connection to the secondary, below WebSocket.
func (n *Network) NetDial(ctx context.Context, _, _ string) (net.Conn, error) {
	return n.dial(ctx, n.to(keys.VerifyKey{}))
}

// to returns the secondary to which the way leads for who expects a key.
func (n *Network) to(key keys.VerifyKey) *Secondary {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.others {
		if s.key.Public() == key {
			return s
		}
	}
	return n.secondary
}

func (n *Network) dial(ctx context.Context, secondary *Secondary) (net.Conn, error) {
	n.mu.Lock()
	latency := n.latency
	n.mu.Unlock()
	if err := sleep(ctx.Done(), 2*latency); err != nil {
		return nil, ctx.Err()
	}
	l, device, server := newLink(n)
	if err := n.start(l); err != nil {
		return nil, err
	}
	if !secondary.accept(server) {
		l.cut()
		return nil, errRefused
	}
	return device, nil
}

// start lets a link run.
func (n *Network) start(l *link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.offline {
		return errOffline
	}
	n.conns++
	l.id = n.conns
	n.links[l] = struct{}{}
	n.finished.Go(func() {
		l.run()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.links, l)
	})
	return nil
}

// Lead has the way lead to another secondary, from the next connection on: a
// [Secondary.Copy], which has the same key.
func (n *Network) Lead(to *Secondary) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.secondary = to
}

// LeadAlso has the way lead to another secondary as well, for whoever expects its key:
// the vault may be moved there.
func (n *Network) LeadAlso(to *Secondary) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.others = append(n.others, to)
	to.mu.Lock()
	defer to.mu.Unlock()
	to.networks = append(to.networks, n)
}

// SetLatency has everything take that long to arrive, in each direction.
func (n *Network) SetLatency(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency = d
}

// SetBandwidth limits each direction of each connection to that many bytes in a
// second; 0 lifts the limit. As on a real line a quarter of a megabyte is under
// way before the sender has to wait.
func (n *Network) SetBandwidth(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bandwidth = bytes
}

// SetFaults has f say what becomes of each frame, when its first bytes are about
// to arrive. f is called by one goroutine at a time; it may change the network,
// but not its faults. Nil: they all arrive.
func (n *Network) SetFaults(f func(Frame) Fault) {
	n.hookMu.Lock()
	defer n.hookMu.Unlock()
	n.faults = f
}

// Disconnect takes the network away: connections break, and new ones are refused
// until Connect.
func (n *Network) Disconnect() {
	n.mu.Lock()
	n.offline = true
	n.mu.Unlock()
	n.Break()
}

// Connect brings the network back.
func (n *Network) Connect() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.offline = false
}

// Break breaks the connections that there are.
func (n *Network) Break() {
	for _, l := range n.open() {
		l.cut()
	}
}

// Stall makes the connections that there are half open: nothing more arrives, and
// nobody is told. New ones work.
func (n *Network) Stall() {
	for _, l := range n.open() {
		l.stall()
	}
}

// Conns returns how many connections are open, half open ones included.
func (n *Network) Conns() int { return len(n.open()) }

func (n *Network) open() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*link, 0, len(n.links))
	for l := range n.links {
		out = append(out, l)
	}
	return out
}

// Traffic is what has arrived in one direction.
type Traffic struct {
	Frames int
	Bytes  int64 // on the wire, WebSocket and its handshake included
}

// Traffic returns what has arrived in a direction.
func (n *Network) Traffic(dir Direction) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := Traffic{Bytes: n.bytes[dir]}
	for _, f := range n.frames {
		if f.Dir == dir {
			t.Frames++
		}
	}
	return t
}

// Frames returns the frames that have arrived as a whole, in that order.
func (n *Network) Frames() []Frame {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.frames)
}

// Reset forgets what has arrived: connections, frames and bytes are counted anew.
// What still moves on connections that are older is not counted.
func (n *Network) Reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns, n.frames, n.begun, n.bytes = 0, nil, [2]int{}, [2]int64{}
	for l := range n.links {
		l.id = 0
	}
}

// begin counts the frame of which the first bytes are to arrive, and returns what
// becomes of it.
func (n *Network) begin(w *way) Fault {
	n.hookMu.Lock()
	defer n.hookMu.Unlock()
	n.mu.Lock()
	if w.frame.Conn = w.link.id; w.link.id != 0 {
		n.begun[w.dir]++
		w.frame.N = n.begun[w.dir]
	}
	n.mu.Unlock()
	if n.faults == nil {
		return Fault{}
	}
	return n.faults(w.frame)
}

// arrived counts bytes that arrive, and the frame that they complete.
func (n *Network) arrived(w *way, bytes int, whole *Frame) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.link.id == 0 {
		return
	}
	n.bytes[w.dir] += int64(bytes)
	if whole != nil {
		n.frames = append(n.frames, *whole)
	}
}

// errStopped: what was waited for will not come.
var errStopped = errors.New("stopped")

// sleep waits, unless stop is closed before.
func sleep(stop <-chan struct{}, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-stop:
		return errStopped
	}
}
