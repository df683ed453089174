package secondarytest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// A door is an address that stays the same while servers come and go behind it.
// Its port is open all the time, so that nobody else can get it; who comes while
// no server is there is turned away.
type door struct {
	port     net.Listener
	finished chan struct{}

	mu     sync.Mutex
	server *pipe // nil: nobody is there
}

func newDoor() (*door, error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &door{port: port, finished: make(chan struct{})}
	go d.accept()
	return d, nil
}

func (d *door) accept() {
	defer close(d.finished)
	for {
		c, err := d.port.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		server := d.server
		d.mu.Unlock()
		if server == nil || !server.hand(c) {
			c.Close()
		}
	}
}

// listen returns what the next server accepts from.
func (d *door) listen() net.Listener {
	l := newPipe(d.port.Addr())
	d.mu.Lock()
	d.server = l
	d.mu.Unlock()
	return l
}

// leave turns away who comes from now on.
func (d *door) leave() {
	d.mu.Lock()
	d.server = nil
	d.mu.Unlock()
}

func (d *door) close() {
	d.port.Close()
	<-d.finished
}

// pipe is a listener whose connections are handed to it.
type pipe struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipe(addr net.Addr) *pipe {
	return &pipe{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipe) hand(c net.Conn) bool {
	select {
	case p.conns <- c:
		return true
	case <-p.closed:
		return false
	}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipe) Addr() net.Addr { return p.addr }

// A Pipe is a listener without a network, for use within [testing/synctest]:
// what one end writes waits until the other reads it. It has the address of this
// machine, so that clients take it without TLS.
type Pipe struct{ *pipe }

// NewPipe returns a Pipe. Nothing has to be cleaned up.
func NewPipe() Pipe { return Pipe{newPipe(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7370})} }

// Dial connects to who accepts, whatever the address.
func (p Pipe) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
