package commitlog

import (
	"encoding/binary"
	"fmt"
)

// A Bundle is a commit as it travels: with its place in the log and those of
// its blobs that come along. Encoded, big-endian:
//
//	commit ID u64 ‖ header 216 ‖ list size u32 ‖ change list ‖ presence ⌈n/8⌉ ‖ blobs
//
// The commit ID is 0 on the way to the secondary, which gives it. Bit i%8
// (counted from the lowest) of presence byte i/8 says that the blob of change i
// follows, in order; unused bits are 0. A blob's size is in its entry.
type Bundle struct {
	ID     CommitID // 0: not in the log yet
	Commit *Commit
	Blobs  [][]byte // one a change; nil: absent
}

// MaxBundle is the size of the largest encoded bundle in bytes.
const MaxBundle = MaxCommitBytes + 8 + 4 + (MaxChanges+7)/8

// AppendBinary appends the encoded bundle to dst. Blobs must have the sizes
// that their changes state. The error is always nil.
func (b *Bundle) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.ID))
	dst = append(dst, b.Commit.Raw...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b.Commit.List)))
	dst = append(dst, b.Commit.List...)
	at := len(dst)
	dst = append(dst, make([]byte, (len(b.Blobs)+7)/8)...)
	for i, blob := range b.Blobs {
		if blob != nil {
			dst[at+i/8] |= 1 << (i % 8)
			dst = append(dst, blob...)
		}
	}
	return dst, nil
}

// EncodedSize returns the length of the encoded bundle in bytes.
func (b *Bundle) EncodedSize() int {
	n := 8 + HeaderSize + 4 + len(b.Commit.List) + (len(b.Blobs)+7)/8
	for _, blob := range b.Blobs {
		n += len(blob)
	}
	return n
}

// ParseBundle decodes a bundle and its commit, and checks each blob that is
// there against its hash. The bundle shares the memory of data.
func ParseBundle(data []byte) (*Bundle, error) {
	r := reader{b: data}
	b := &Bundle{ID: CommitID(r.u64())}
	header := r.take(HeaderSize)
	list := r.take(int(r.u32()))
	if r.err != nil {
		return nil, r.err
	}
	if b.ID >= MaxLog {
		return nil, fmt.Errorf("%w: commit ID %d", ErrLimit, b.ID)
	}
	c, err := ParseCommit(header, list)
	if err != nil {
		return nil, err
	}
	b.Commit = c
	n := len(c.Changes)
	presence := r.take((n + 7) / 8)
	if r.err != nil {
		return nil, r.err
	}
	if n%8 != 0 && presence[n/8]>>(n%8) != 0 {
		return nil, fmt.Errorf("%w: presence of changes that are not", ErrMalformed)
	}
	b.Blobs = make([][]byte, n)
	for i := range b.Blobs {
		if presence[i/8]>>(i%8)&1 == 0 {
			continue
		}
		blob := r.take(int(c.Changes[i].BlobSize))
		if r.err != nil {
			return nil, r.err
		}
		if err := CheckBlob(&c.Changes[i], blob); err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		b.Blobs[i] = blob
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after a bundle", ErrMalformed, len(r.b))
	}
	return b, nil
}
