package commitlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Op is what a change does. The numbers are stored and sent.
type Op uint8

const (
	OpPut     Op = 1 // a new version of a record
	OpDelete  Op = 2 // the end of what it names; never live itself
	OpRestate Op = 3 // an automatic write that adds no edit
)

// A ChangeID addresses a change in the log.
type ChangeID struct {
	Commit CommitID
	Index  uint16
}

func (c ChangeID) String() string { return fmt.Sprintf("%d.%d", c.Commit, c.Index) }

// Compare orders change IDs as they stand in the log.
func (c ChangeID) Compare(d ChangeID) int {
	switch {
	case c.Commit < d.Commit || c.Commit == d.Commit && c.Index < d.Index:
		return -1
	case c == d:
		return 0
	}
	return 1
}

// A Ref names a change that another change supersedes: one at or below its
// author's seen size by commit ID, or one of its author's own earlier commits
// above that size by the author's sequence number.
type Ref struct {
	Own   bool   // At is an own sequence number
	At    uint64 // commit ID or own sequence number, from 1
	Index uint16
}

// refSize is the encoded size of a ref: u8 own ‖ u64 at ‖ u16 index.
const refSize = 11

// Compare orders refs as they must stand in an entry. Refs by commit ID are
// below the seen size and own ones above it, so that this is also the order of
// the changes they name.
func (r Ref) Compare(s Ref) int {
	switch {
	case r == s:
		return 0
	case r.Own != s.Own:
		if s.Own {
			return -1
		}
		return 1
	case r.At < s.At || r.At == s.At && r.Index < s.Index:
		return -1
	}
	return 1
}

// A Change is one entry of a commit's change list. Encoded, big-endian:
//
//	op u8 ‖ blob hash 32 ‖ blob size u32 ‖ x u8 ‖ [object hash 32 ‖ object size u64] ‖ k u8 ‖ k × ref
//	ref = own u8 ‖ at u64 ‖ index u16
//
// x is 1 where the change has an object and 0 where it has none. Refs ascend.
type Change struct {
	Op         Op
	BlobHash   Hash
	BlobSize   uint32 // bytes
	ObjectHash Hash   // of the sealed object; meaningful if ObjectSize > 0
	ObjectSize uint64 // bytes of the sealed object; 0: no object
	Refs       []Ref  // strictly ascending

	// Entry is the encoded change. It shares the memory of the list that it
	// was parsed from; Build ignores it.
	Entry []byte
}

// HasObject reports whether the change has an object beside its blob.
func (c *Change) HasObject() bool { return c.ObjectSize > 0 }

// EntryHash returns the SHA-256 of the encoded change, which state hashes cover.
func (c *Change) EntryHash() Hash { return sha256.Sum256(c.Entry) }

func (c *Change) appendEntry(dst []byte) []byte {
	dst = append(dst, byte(c.Op))
	dst = append(dst, c.BlobHash[:]...)
	dst = binary.BigEndian.AppendUint32(dst, c.BlobSize)
	if c.HasObject() {
		dst = append(dst, 1)
		dst = append(dst, c.ObjectHash[:]...)
		dst = binary.BigEndian.AppendUint64(dst, c.ObjectSize)
	} else {
		dst = append(dst, 0)
	}
	dst = append(dst, byte(len(c.Refs)))
	for _, r := range c.Refs {
		if r.Own {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		dst = binary.BigEndian.AppendUint64(dst, r.At)
		dst = binary.BigEndian.AppendUint16(dst, r.Index)
	}
	return dst
}

// EntrySize returns the encoded size of the change in bytes.
func (c *Change) EntrySize() int {
	n := 1 + 32 + 4 + 1 + 1 + refSize*len(c.Refs)
	if c.HasObject() {
		n += 32 + 8
	}
	return n
}

// ParseChanges decodes a change list of n changes. Anything but the canonical
// form of n valid changes is [ErrMalformed], [ErrVersion] or [ErrLimit].
// The changes share the memory of list.
func ParseChanges(list []byte, n int) ([]Change, error) {
	// The smallest entry bounds the count before anything is allocated for it.
	if n < 1 || n > MaxChanges || len(list) < n*minEntry {
		return nil, fmt.Errorf("%w: %d bytes for %d changes", ErrMalformed, len(list), n)
	}
	changes := make([]Change, n)
	for i := range changes {
		rest, err := changes[i].parse(list)
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		list = rest
	}
	if len(list) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last change", ErrMalformed, len(list))
	}
	return changes, nil
}

// ParseChange decodes the change at the beginning of b and returns it with the
// bytes after it. The change shares the memory of b.
func ParseChange(b []byte) (Change, []byte, error) {
	var c Change
	rest, err := c.parse(b)
	return c, rest, err
}

// minEntry is the size of the smallest entry: one without object and refs.
const minEntry = 39

var errShort = fmt.Errorf("%w: list ends within a change", ErrMalformed)

func (c *Change) parse(b []byte) (rest []byte, err error) {
	whole := b
	if len(b) < minEntry {
		return nil, errShort
	}
	c.Op = Op(b[0])
	if c.Op < OpPut || c.Op > OpRestate {
		return nil, fmt.Errorf("%w: op %d", ErrVersion, b[0])
	}
	copy(c.BlobHash[:], b[1:])
	c.BlobSize = binary.BigEndian.Uint32(b[33:])
	if c.BlobSize < MinBlob || c.BlobSize > MaxControlBlob {
		return nil, fmt.Errorf("%w: blob of %d bytes", ErrLimit, c.BlobSize)
	}
	x := b[37]
	b = b[38:]
	switch x {
	case 0:
	case 1:
		if len(b) < 41 {
			return nil, errShort
		}
		copy(c.ObjectHash[:], b)
		c.ObjectSize = binary.BigEndian.Uint64(b[32:])
		if c.ObjectSize < MinBlob || c.ObjectSize > MaxObject {
			return nil, fmt.Errorf("%w: object of %d bytes", ErrLimit, c.ObjectSize)
		}
		b = b[40:]
	default:
		return nil, fmt.Errorf("%w: object flag %d", ErrMalformed, x)
	}
	k := int(b[0])
	b = b[1:]
	if len(b) < k*refSize {
		return nil, errShort
	}
	if k > 0 {
		c.Refs = make([]Ref, k)
	}
	for i := range c.Refs {
		if b[0] > 1 {
			return nil, fmt.Errorf("%w: ref type %d", ErrMalformed, b[0])
		}
		r := Ref{Own: b[0] == 1, At: binary.BigEndian.Uint64(b[1:]), Index: binary.BigEndian.Uint16(b[9:])}
		if r.At == 0 || !r.Own && r.At >= MaxLog {
			return nil, fmt.Errorf("%w: ref to %d", ErrMalformed, r.At)
		}
		if r.Own && c.Op == OpRestate {
			return nil, fmt.Errorf("%w: a restate of what its author has not seen in the log", ErrMalformed)
		}
		if i > 0 && c.Refs[i-1].Compare(r) >= 0 {
			return nil, fmt.Errorf("%w: refs do not ascend", ErrMalformed)
		}
		c.Refs[i] = r
		b = b[refSize:]
	}
	switch {
	case c.Op == OpDelete && c.HasObject():
		return nil, fmt.Errorf("%w: a delete with an object", ErrMalformed)
	case c.Op != OpPut && k == 0:
		return nil, fmt.Errorf("%w: a delete or restate that names nothing", ErrMalformed)
	}
	c.Entry = whole[:len(whole)-len(b)]
	return b, nil
}
