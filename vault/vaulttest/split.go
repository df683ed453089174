package vaulttest

import (
	"bytes"
	"encoding/binary"

	"github.com/kistvault/kist/secondary/wire"
)

// A piece is bytes on their way, all of one frame, or of none: what WebSocket
// itself has to say (ping, close) is in no frame.
type piece struct {
	data  []byte
	frame bool      // part of a frame
	first bool      // its first
	last  bool      // its last
	typ   wire.Type // of the frame, where first is set
}

// A splitter cuts the bytes of one direction of a connection where frames begin
// and end: the HTTP head, then WebSocket messages (RFC 6455, section 5.2).
type splitter struct {
	state   splitState
	held    []byte // of a header that is not complete
	left    uint64 // bytes of the WebSocket frame still to come
	final   bool   // it is its message's last
	control bool   // it is in no message
	within  bool   // a message has begun
}

type splitState uint8

const (
	inHead   splitState = iota // of HTTP
	inHeader                   // of WebSocket
	inPayload
	inOther // HTTP that did not become a WebSocket
)

// split returns the pieces that b completes. They do not share b's memory.
func (s *splitter) split(b []byte) (out []piece) {
	b = bytes.Clone(b)
	for len(b) > 0 {
		switch s.state {
		case inHead:
			s.held = append(s.held, b...)
			b = nil
			end := bytes.Index(s.held, []byte("\r\n\r\n"))
			if end < 0 {
				return out
			}
			head := s.held[:end+4]
			b, s.held = s.held[end+4:], nil
			out = append(out, piece{data: head, frame: true, first: true, last: true, typ: Handshake})
			s.state = inHeader
			if bytes.HasPrefix(head, []byte("HTTP/")) && !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
				s.state = inOther
			}
		case inHeader:
			s.held = append(s.held, b[0])
			b = b[1:]
			if p, ok := s.header(); ok {
				out = append(out, p)
			}
		case inPayload:
			n := min(s.left, uint64(len(b)))
			s.left -= n
			out = append(out, s.piece(b[:n]))
			b = b[n:]
		case inOther:
			return append(out, piece{data: b})
		}
	}
	return out
}

// header looks whether the header in held is complete, with the first byte of a
// message, which says its type.
func (s *splitter) header() (p piece, ok bool) {
	h := s.held
	if len(h) < 2 {
		return p, false
	}
	masked := h[1]&0x80 != 0
	size, n := uint64(h[1]&0x7f), 2
	switch size {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if len(h) >= n {
		switch size {
		case 126:
			size = uint64(binary.BigEndian.Uint16(h[2:]))
		case 127:
			size = binary.BigEndian.Uint64(h[2:])
		}
	}
	if masked {
		n += 4
	}
	s.control = h[0]&0x08 != 0
	begins := !s.control && !s.within && size > 0
	if begins {
		n++
	}
	if len(h) < n {
		return p, false
	}
	s.left, s.final = size, h[0]&0x80 != 0
	if begins {
		s.left--
		p.typ = wire.Type(h[n-1])
		if masked {
			p.typ = wire.Type(h[n-1] ^ h[n-5])
		}
	}
	typ, first := p.typ, !s.control && !s.within
	p = s.piece(h)
	p.typ, p.first = typ, first
	s.held = nil
	return p, true
}

// piece returns the next bytes of a WebSocket frame of which left are still to
// come after them.
func (s *splitter) piece(data []byte) piece {
	p := piece{data: data, frame: !s.control, last: !s.control && s.left == 0 && s.final}
	if !s.control {
		s.within = !p.last
	}
	s.state = inPayload
	if s.left == 0 {
		s.state = inHeader
	}
	return p
}

// rest returns what is held of a header that will not become complete.
func (s *splitter) rest() []byte { return s.held }
