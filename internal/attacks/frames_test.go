package attacks_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
)

// C14, A6: absurd sizes, counts and depths are refused where they are read, and what
// has no end is left.
func TestC14AbsurdFrames(t *testing.T) {
	s := newScene(t)
	frame := func(name string, t wire.Type, f func(frame []byte) [][]byte) lying.Mutation {
		return lying.Frames(name, t, 1, f)
	}
	raw := func(name string, b ...byte) attack {
		return attack{frame(name, wire.TypeBound, func(f []byte) [][]byte { return [][]byte{append([]byte{}, b...), f} }), wire.ErrProtocol}
	}
	head := func(t wire.Type, length uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{byte(t)}, length), rest...)
	}
	item := func(kind wire.ItemKind, length uint32, data ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{byte(kind)}, length), data...)
	}
	d, err := wire.Append(nil, &wire.Download{Size: 5, Items: []wire.Item{{Kind: wire.ItemPart, Data: []byte("x")}}})
	fatal(t, err)
	cut := d[:len(d)-6] // without its item
	part := func(n int) []byte {
		return append(slices.Clone(cut), item(wire.ItemPart, uint32(n), make([]byte, n)...)...)
	}
	s.try(t, known,
		raw("an empty frame"),
		raw("a type alone", byte(wire.TypeDownload)),
		raw("an unknown type", 255, 0x80),
		raw("the type zero", 0, 0x80),
		raw("a reserved type", 33, 0x80),
		raw("an array of 2^32 elements", byte(wire.TypeUploaded), 0x9a, 0xff, 0xff, 0xff, 0xff),
		raw("an array of 2^64 elements", byte(wire.TypeUploaded), 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		raw("an array without an end", byte(wire.TypeUploaded), 0x9f),
		raw("deep nesting", append([]byte{byte(wire.TypeUploaded)}, bytes.Repeat([]byte{0x81}, 10_000)...)...),
		raw("a byte string of 2^62 bytes", byte(wire.TypeBlobs), 0x84, 0x01, 0xf4, 0x01, 0x5b, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		raw("tags", byte(wire.TypeMarked), 0xc2, 0x82, 0x01, 0x01),
		raw("a map", byte(wire.TypeMarked), 0xa1, 0x01, 0x01),
		raw("a number that could be shorter", byte(wire.TypeMarked), 0x82, 0x18, 0x01, 0x01),
		raw("a head beyond the frame", head(wire.TypeDownload, 1<<32-1, 0x82)...),
		raw("an item beyond the frame", append(slices.Clone(cut), item(wire.ItemBundle, 1<<32-1, 0)...)...),
		raw("an item of no kind", append(slices.Clone(cut), item(9, 1, 0)...)...),
		raw("no items", cut...),
		raw("a short bundle", append(slices.Clone(cut), item(wire.ItemBundle, 3, 1, 2, 3)...)...),
		raw("a last part without a first", append(slices.Clone(cut), item(wire.ItemLast, 1, 0)...)...),
		attack{frame("parts without an end", wire.TypeDownload, func([]byte) [][]byte {
			return slices.Repeat([][]byte{part(1 << 20)}, 200)
		}), wire.ErrProtocol},
		attack{frame("a frame over the limit", wire.TypeDownload, func([]byte) [][]byte {
			return [][]byte{make([]byte, wire.MaxFrame+1)}
		}), wire.ErrTooLarge},
		attack{frame("a frame of 64 MiB", wire.TypeDownload, func([]byte) [][]byte {
			return [][]byte{make([]byte, 64<<20)}
		}), wire.ErrTooLarge},
		attack{frame("bytes after a message", wire.TypeBound, func(f []byte) [][]byte { return [][]byte{append(f, 0)} }), wire.ErrProtocol},
		attack{frame("half a message", wire.TypeBound, func(f []byte) [][]byte { return [][]byte{f[:len(f)/2]} }), wire.ErrProtocol},
	)
	// Before sign-in is over, much less is read.
	s.try(t, known,
		attack{frame("a large frame before sign-in", wire.TypeSHello, func([]byte) [][]byte { return [][]byte{make([]byte, 1<<20)} }), wire.ErrUnreachable},
		attack{frame("many frames before sign-in", wire.TypeOK, func([]byte) [][]byte {
			return slices.Repeat([][]byte{append([]byte{byte(wire.TypeOK)}, make([]byte, 4000)...)}, 100)
		}), wire.ErrServerIdentity},
	)
	// Endless, and never of use.
	s.tryPartly(t, known,
		attack{endless("PING", &wire.Ping{}), wire.ErrTimeout},
		attack{endless("PONG", &wire.Pong{}), wire.ErrTimeout},
	)
}

// endless has the secondary say something each time that it hears something, and no
// commits.
func endless(name string, m wire.Message) lying.Mutation {
	return withNoise(lying.Drop(wire.TypeDownload, lying.All), m).Named("endless %s", name)
}
