package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// kind is the type of a frame.
type kind byte

const (
	kindHello kind = iota + 1
	kindCall
	kindWant
	kindInput
	kindEnd
	kindOut
	kindErr
	kindWrote
	kindAsk
	kindTold
	kindCancel
	kindExit
)

const (
	headerSize = 5
	// maxData is the longest payload but for a call's.
	maxData = 64 << 10
	// maxCall leaves room for the longest command line that systems take, in
	// base64.
	maxCall = 8 << 20
)

var errProtocol = errors.New("not what this protocol says")

// limit returns how long a payload may be; -1 where there is no such kind.
func (k kind) limit() int {
	switch {
	case k == kindCall:
		return maxCall
	case k >= kindHello && k <= kindExit:
		return maxData
	}
	return -1
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, k kind, payload []byte) []byte {
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads one frame. Its payload is the caller's. The error is io.EOF
// between frames, io.ErrUnexpectedEOF within one, errProtocol for what is none.
func readFrame(r io.Reader) (kind, []byte, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	k, n := kind(head[0]), binary.BigEndian.Uint32(head[1:])
	if limit := k.limit(); limit < 0 || n > uint32(limit) {
		return 0, nil, fmt.Errorf("%w: a frame of type %d with %d bytes", errProtocol, k, n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return k, payload, nil
}

// A remoteError is an error of the other side: its text, and what the system
// called it.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// appendError appends an error; nil is nothing.
func appendError(b []byte, err error) []byte {
	if err == nil {
		return b
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	text := err.Error()
	return append(binary.BigEndian.AppendUint32(b, uint32(errno)), text[:min(len(text), maxData/2)]...)
}

// parseError is the reverse.
func parseError(b []byte) (told, err error) {
	switch {
	case len(b) == 0:
		return nil, nil
	case len(b) < 4:
		return nil, errProtocol
	}
	return &remoteError{text: string(b[4:]), errno: syscall.Errno(binary.BigEndian.Uint32(b))}, nil
}
