package crashtest

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
)

// A proxy stands between a device and its secondary, and cuts the connection in
// the middle of the frame that is the crash's. It has a goroutine that accepts
// and two for each connection; close waits for all.
type proxy struct {
	crash    *Crash
	listener net.Listener
	target   string

	mu       sync.Mutex
	conns    []net.Conn
	closed   bool
	finished sync.WaitGroup
}

func newProxy(c *Crash, target string) (*proxy, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{crash: c, listener: l, target: u.Host}
	p.finished.Go(p.serve)
	return p, nil
}

func (p *proxy) url() string { return "ws://" + p.listener.Addr().String() + "/" }

func (p *proxy) serve() {
	for {
		device, err := p.listener.Accept()
		if err != nil {
			return
		}
		secondary, err := net.Dial("tcp", p.target)
		if err != nil {
			device.Close()
			continue
		}
		if !p.keep(device, secondary) {
			return
		}
		p.finished.Go(func() { p.pass(secondary, device, FrameUp) })
		p.finished.Go(func() { p.pass(device, secondary, FrameIn) })
	}
}

// keep has close close the connections too.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
	if p.closed {
		p.cutLocked()
	}
	return !p.closed
}

func (p *proxy) cutLocked() {
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.cutLocked()
	p.mu.Unlock()
	p.listener.Close()
	p.finished.Wait()
}

// pass carries the HTTP head and then WebSocket frames (RFC 6455, section 5.2).
// The head is a point, and each frame that begins a message.
func (p *proxy) pass(to io.Writer, from io.Reader, at Point) {
	defer p.cut()
	r := bufio.NewReader(from)
	for read := readHead; ; read = readFrame {
		frame, err := read(r)
		if err != nil {
			return
		}
		const continuation = 0
		if frame[0]&0xf != continuation && p.crash.reached(at) {
			to.Write(frame[:len(frame)/2])
			return
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

func readHead(r *bufio.Reader) (head []byte, err error) {
	for {
		line, err := r.ReadBytes('\n')
		head = append(head, line...)
		if err != nil || len(line) <= 2 {
			return head, err
		}
	}
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	frame := make([]byte, 2, 14)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	more := func(n uint64) (b []byte, err error) {
		start := len(frame)
		frame = append(frame, make([]byte, n)...)
		_, err = io.ReadFull(r, frame[start:])
		return frame[start:], err
	}
	size := uint64(frame[1] & 0x7f)
	switch size {
	case 126:
		b, err := more(2)
		if err != nil {
			return nil, err
		}
		size = uint64(binary.BigEndian.Uint16(b))
	case 127:
		b, err := more(8)
		if err != nil {
			return nil, err
		}
		size = binary.BigEndian.Uint64(b)
	}
	if frame[1]&0x80 != 0 {
		size += 4 // the mask
	}
	_, err := more(size)
	return frame, err
}
