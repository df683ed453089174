package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

var (
	encMode = must(encOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   8,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       16, // the least that can be set; no message has a map
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode())
)

// encOptions: nil byte strings and arrays are empty ones. [Tags] says otherwise
// for itself.
func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("wire: internal error: " + err.Error()) // unreachable: the options are constants
	}
	return v
}

var be = binary.BigEndian

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// bulk is a message whose items follow its CBOR.
type bulk interface {
	Message
	items() *[]Item
}

// Append appends the frame of m to dst. It fails where m breaks a limit.
func Append(dst []byte, m Message) ([]byte, error) {
	start := len(dst)
	if err := m.check(); err != nil {
		return dst, fmt.Errorf("%v: %w", m.Type(), err)
	}
	body, err := encMode.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("%v: %v", m.Type(), err)
	}
	dst = append(dst, byte(m.Type()))
	if b, ok := m.(bulk); ok {
		dst = be.AppendUint32(dst, uint32(len(body)))
		dst = append(dst, body...)
		dst = appendItems(dst, *b.items())
	} else {
		dst = append(dst, body...)
	}
	if n := len(dst) - start; n > MaxFrame {
		return dst[:start], fmt.Errorf("%v: %w: frame of %d bytes", m.Type(), ErrTooLarge, n)
	}
	return dst, nil
}

// Parse decodes a frame. Anything but the one encoding of a valid message is
// [ErrProtocol]. Items share the memory of frame; all else is copied.
func Parse(frame []byte) (Message, error) {
	if len(frame) < 2 || len(frame) > MaxFrame {
		return nil, malformed("frame of %d bytes", len(frame))
	}
	t := Type(frame[0])
	m := newMessage(t)
	if m == nil {
		return nil, malformed("message type %d", t)
	}
	body := frame[1:]
	if b, ok := m.(bulk); ok {
		if len(body) < 4 || uint64(len(body)-4) < uint64(be.Uint32(body)) {
			return nil, malformed("%v: head beyond the frame", t)
		}
		head := body[4 : 4+be.Uint32(body)]
		items, err := parseItems(body[4+len(head):])
		if err != nil {
			return nil, fmt.Errorf("%v: %w", t, err)
		}
		body, *b.items() = head, items
	}
	if err := decMode.Unmarshal(body, m); err != nil {
		return nil, malformed("%v: %v", t, err)
	}
	// The decoder takes more than one form of some values (a byte string that
	// is too short for its array, a number that could be shorter).
	again, err := encMode.Marshal(m)
	if err != nil || !bytes.Equal(again, body) {
		return nil, malformed("%v: not in canonical form", t)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	return m, nil
}
