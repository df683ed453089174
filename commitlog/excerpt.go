package commitlog

import (
	"encoding/binary"
	"fmt"
)

// An Excerpt is a commit with some of its changes: those that are live. Encoded,
// big-endian (SPEC.md, "Messages"):
//
//	commit ID u64 ‖ header 216 ‖ n u16 ‖ n × (index u16 ‖ here u8 ‖ entry ‖ [blob])
//
// with n from 1, indexes ascending, and the blob where here is 1.
type Excerpt struct {
	ID      CommitID
	Header  Header
	Raw     []byte // the header's 216 bytes
	Changes []ExcerptChange
}

// An ExcerptChange is one of an excerpt's changes.
type ExcerptChange struct {
	Index  uint16
	Change Change
	Blob   []byte // nil: it is not here
}

// AppendExcerpt appends the beginning of an encoded excerpt of n changes to dst,
// and AppendExcerptChange one of them.
func AppendExcerpt(dst []byte, id CommitID, header []byte, n int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	dst = append(dst, header...)
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

// AppendExcerptChange appends a change with its encoded entry, and its blob, nil
// where it is left out.
func AppendExcerptChange(dst []byte, index uint16, entry, blob []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, index)
	if blob == nil {
		return append(append(dst, 0), entry...)
	}
	dst = append(append(dst, 1), entry...)
	return append(dst, blob...)
}

// ParseExcerpt decodes an excerpt and checks its blobs against their hashes. It
// shares the memory of data.
func ParseExcerpt(data []byte) (*Excerpt, error) {
	r := reader{b: data}
	x := &Excerpt{ID: CommitID(r.u64()), Raw: r.take(HeaderSize)}
	n := int(r.u16())
	if r.err != nil {
		return nil, r.err
	}
	if x.ID == 0 || x.ID >= MaxLog {
		return nil, fmt.Errorf("%w: commit ID %d", ErrLimit, x.ID)
	}
	var err error
	if x.Header, err = ParseHeader(x.Raw); err != nil {
		return nil, err
	}
	if n == 0 || n > int(x.Header.Changes) || n > len(r.b)/minEntry {
		return nil, fmt.Errorf("%w: excerpt of %d changes", ErrMalformed, n)
	}
	x.Changes = make([]ExcerptChange, n)
	for i := range x.Changes {
		c := &x.Changes[i]
		c.Index = r.u16()
		here := r.u8()
		if r.err != nil {
			return nil, r.err
		}
		if c.Index >= x.Header.Changes || i > 0 && c.Index <= x.Changes[i-1].Index || here > 1 {
			return nil, fmt.Errorf("%w: change %d of an excerpt", ErrMalformed, i)
		}
		if c.Change, r.b, err = ParseChange(r.b); err != nil {
			return nil, fmt.Errorf("change %d: %w", c.Index, err)
		}
		if err := x.Header.allows(&c.Change); err != nil {
			return nil, fmt.Errorf("change %d: %w", c.Index, err)
		}
		if c.Change.Op == OpDelete {
			return nil, fmt.Errorf("%w: a delete that is live", ErrMalformed)
		}
		if here == 0 {
			continue
		}
		c.Blob = r.take(int(c.Change.BlobSize))
		if r.err != nil {
			return nil, r.err
		}
		if err := CheckBlob(&c.Change, c.Blob); err != nil {
			return nil, fmt.Errorf("change %d: %w", c.Index, err)
		}
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after an excerpt", ErrMalformed, len(r.b))
	}
	return x, nil
}
