package commitlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kistvault/kist/keys"
)

// A Checkpoint says what a vault's log comes to at a size, signed by a device
// that has verified all of it. Encoded, big-endian (SPEC.md, "Checkpoints"):
//
//	version u8 = 1 ‖ vault id 16 ‖ device id 16 ‖ size u64 ‖ resets u64 ‖ time u64 (Unix ms) ‖
//	control number u64 ‖ control hash 32 ‖
//	p u8 ‖ p × peak 32 ‖
//	a u16 ‖ a × (device id 16 ‖ sequence number u64 ‖ leaf 32 ‖ seen size u64) ‖
//	t u32 ‖ t × (tag 16 ‖ live changes u64 ‖ bytes of their blobs u64 ‖ state hash 32) ‖
//	signature 64
type Checkpoint struct {
	Vault      keys.VaultID
	Device     keys.DeviceID // who signed it
	Size       uint64        // commits, from 1
	Resets     uint64        // reset statements in them
	Time       uint64        // of signing, Unix ms
	Control    ControlHead   // after Size commits
	Peaks      []Hash        // roots of the complete subtrees, the largest first: one a bit of Size
	Authors    []AuthorEnd   // ascending; the authority first
	Namespaces []NamespaceState
	Signature  [64]byte

	// Raw is the encoded checkpoint. Sign and ParseCheckpoint set it.
	Raw []byte
}

// An AuthorEnd is the newest commit of an author.
type AuthorEnd struct {
	Device keys.DeviceID // zero: the authority
	Seq    uint64
	Leaf   Hash
	Seen   uint64 // its seen size
}

// A NamespaceState is what the live changes of a namespace come to.
type NamespaceState struct {
	Tag   keys.Tag
	Count uint64 // of live changes, from 1
	Bytes uint64 // of their blobs
	Hash  Hash   // [StateHash]
}

// MaxCheckpoint is the size of the largest encoded checkpoint in bytes: some
// 30,000 namespaces. A vault with more has none.
const MaxCheckpoint = 2 << 20

const (
	checkpointFixed = 1 + 16 + 16 + 8 + 8 + 8 + 8 + 32
	authorEndSize   = 16 + 8 + 32 + 8
	namespaceSize   = 16 + 8 + 8 + 32
)

// Sign encodes and signs the checkpoint. It returns [ErrLimit] where that takes
// more than [MaxCheckpoint] bytes, and [ErrMalformed] for what no log can come to.
func (c *Checkpoint) Sign(sign func(message []byte) [64]byte) error {
	b := make([]byte, 0, checkpointFixed+1+32*len(c.Peaks)+2+authorEndSize*len(c.Authors)+4+namespaceSize*len(c.Namespaces)+64)
	b = append(b, Version)
	b = append(b, c.Vault[:]...)
	b = append(b, c.Device[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Size)
	b = binary.BigEndian.AppendUint64(b, c.Resets)
	b = binary.BigEndian.AppendUint64(b, c.Time)
	b = binary.BigEndian.AppendUint64(b, c.Control.Number)
	b = append(b, c.Control.Hash[:]...)
	b = append(b, byte(len(c.Peaks)))
	for _, p := range c.Peaks {
		b = append(b, p[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Authors)))
	for _, a := range c.Authors {
		b = append(b, a.Device[:]...)
		b = binary.BigEndian.AppendUint64(b, a.Seq)
		b = append(b, a.Leaf[:]...)
		b = binary.BigEndian.AppendUint64(b, a.Seen)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Namespaces)))
	for _, n := range c.Namespaces {
		b = append(b, n.Tag[:]...)
		b = binary.BigEndian.AppendUint64(b, n.Count)
		b = binary.BigEndian.AppendUint64(b, n.Bytes)
		b = append(b, n.Hash[:]...)
	}
	c.Signature = sign(b)
	b = append(b, c.Signature[:]...)
	made, err := ParseCheckpoint(b)
	if err == nil {
		*c = *made
	}
	return err
}

// CheckpointSize returns the size of the log that an encoded checkpoint is of, without
// decoding the rest.
func CheckpointSize(data []byte) (uint64, error) {
	r := reader{b: data}
	r.take(1 + 16 + 16)
	n := r.u64()
	return n, r.err
}

// ParseCheckpoint decodes a checkpoint and checks all that can be checked without
// a log and without keys. The checkpoint keeps data, and the caller must not write
// to it after.
func ParseCheckpoint(data []byte) (*Checkpoint, error) {
	if len(data) > MaxCheckpoint {
		return nil, fmt.Errorf("%w: checkpoint of %d bytes", ErrLimit, len(data))
	}
	r := reader{b: data}
	if v := r.u8(); v != Version && r.err == nil {
		return nil, fmt.Errorf("%w: checkpoint version %d", ErrVersion, v)
	}
	c := &Checkpoint{Raw: data}
	r.copy(c.Vault[:])
	r.copy(c.Device[:])
	c.Size, c.Resets, c.Time = r.u64(), r.u64(), r.u64()
	c.Control.Number = r.u64()
	r.copy(c.Control.Hash[:])
	c.Peaks = make([]Hash, min(int(r.u8()), 64))
	for i := range c.Peaks {
		r.copy(c.Peaks[i][:])
	}
	c.Authors = make([]AuthorEnd, min(int(r.u16()), len(r.b)/authorEndSize))
	for i := range c.Authors {
		a := &c.Authors[i]
		r.copy(a.Device[:])
		a.Seq = r.u64()
		r.copy(a.Leaf[:])
		a.Seen = r.u64()
	}
	c.Namespaces = make([]NamespaceState, min(uint64(r.u32()), uint64(len(r.b)/namespaceSize)))
	for i := range c.Namespaces {
		n := &c.Namespaces[i]
		r.copy(n.Tag[:])
		n.Count, n.Bytes = r.u64(), r.u64()
		r.copy(n.Hash[:])
	}
	r.copy(c.Signature[:])
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%w: %d bytes left over", ErrMalformed, len(r.b))
	}
	if r.err == nil {
		r.err = c.check()
	}
	if r.err != nil {
		return nil, fmt.Errorf("checkpoint: %w", r.err)
	}
	return c, nil
}

func (c *Checkpoint) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
	switch {
	case c.Device.IsZero():
		return bad("signed by nobody")
	case c.Size == 0 || c.Size >= MaxLog || c.Resets >= c.Control.Number || c.Time >= 1<<48 || c.Control.Number == 0:
		return bad("of no log")
	case len(c.Peaks) != len(Peaks(c.Size)):
		return bad("number of peaks")
	case len(c.Authors) == 0 || !c.Authors[0].Device.IsZero():
		return bad("without the authority")
	case len(c.Namespaces) == 0:
		return bad("without namespaces")
	}
	for i, a := range c.Authors {
		if i > 0 && bytes.Compare(c.Authors[i-1].Device[:], a.Device[:]) >= 0 {
			return bad("authors do not ascend")
		}
		if a.Seq == 0 || a.Seq >= MaxSequence || a.Seen >= c.Size || a.Seen == 0 && i > 0 {
			return bad("an author that has no commit in this log")
		}
	}
	var size uint64
	for i, n := range c.Namespaces {
		if i > 0 && bytes.Compare(c.Namespaces[i-1].Tag[:], n.Tag[:]) >= 0 {
			return bad("namespaces do not ascend")
		}
		if n.Count == 0 || n.Count >= 1<<56 || n.Bytes/MinBlob < n.Count || (n.Bytes-1)/MaxControlBlob >= n.Count || n.Bytes >= 1<<62-size {
			return bad("a namespace with too few or too many changes or bytes")
		}
		size += n.Bytes
	}
	return nil
}

// Root returns the Merkle root of the log of Size commits.
func (c *Checkpoint) Root() Hash {
	h := tlog.Hash(c.Peaks[len(c.Peaks)-1])
	for i := len(c.Peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(tlog.Hash(c.Peaks[i]), h)
	}
	return Hash(h)
}

// Verify reports whether the checkpoint was signed with the device's key.
func (c *Checkpoint) Verify(device keys.VerifyKey) bool {
	return device.Verify(keys.PurposeCheckpoint, c.Vault, c.Raw[:len(c.Raw)-len(c.Signature)], c.Signature[:])
}

// Author returns the newest commit of an author, false if it has none.
func (c *Checkpoint) Author(id keys.DeviceID) (AuthorEnd, bool) {
	for _, a := range c.Authors {
		if a.Device == id {
			return a, true
		}
	}
	return AuthorEnd{}, false
}

// Live returns the number of live changes of all namespaces, and the bytes of
// their blobs.
func (c *Checkpoint) Live() (changes, size uint64) {
	for _, n := range c.Namespaces {
		changes += n.Count
		size += n.Bytes
	}
	return changes, size
}

// Same returns the first difference between what two checkpoints say of the log:
// [ErrFork] if it is another log, [ErrCheckpoint] if they draw other things from
// one log. Who signed them, and when, does not matter.
func (c *Checkpoint) Same(other *Checkpoint) error {
	differ := func(what string, args ...any) error {
		return &CommitError{ID: CommitID(c.Size), Err: ErrCheckpoint, Reason: fmt.Sprintf(what, args...)}
	}
	if c.Size != other.Size || !slices.Equal(c.Peaks, other.Peaks) {
		return &CommitError{ID: CommitID(c.Size), Err: ErrFork, Reason: "a checkpoint is of another history"}
	}
	if c.Resets != other.Resets || c.Control != other.Control {
		return differ("another control log")
	}
	if !slices.Equal(c.Authors, other.Authors) {
		return differ("other authors")
	}
	for i, n := range c.Namespaces {
		if i >= len(other.Namespaces) || n != other.Namespaces[i] {
			return differ("other live changes in namespace %s", n.Tag)
		}
	}
	if len(c.Namespaces) != len(other.Namespaces) {
		return differ("a namespace more")
	}
	return nil
}

// Peaks returns where the peaks of a tree of size leaves are stored, the largest
// subtree first.
func Peaks(size uint64) (indexes []int64) {
	var at uint64
	for level := 63; level >= 0; level-- {
		if size>>level&1 != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(at>>level)))
			at += 1 << level
		}
	}
	return indexes
}
