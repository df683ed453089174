package commitlog

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/kistvault/kist/keys"
)

// A StateHash gathers the live changes of one namespace in log order. Its sum
// depends on the log alone: no key is needed to compute or to check it.
//
//	state hash = SHA-256 over, for each live change in log order:
//	             commit ID u64 ‖ index u16 ‖ leaf 32 ‖ SHA-256 of the change's entry 32
type StateHash struct {
	Count uint64 // live changes added
	Bytes uint64 // of their blobs
	h     hash.Hash
}

// NewStateHash returns the state hash of a namespace without live changes.
func NewStateHash() *StateHash { return &StateHash{h: sha256.New()} }

// Add adds a live change. Changes must come in log order.
func (s *StateHash) Add(id ChangeID, leaf Hash, entry []byte) {
	var b [74]byte
	binary.BigEndian.PutUint64(b[:], uint64(id.Commit))
	binary.BigEndian.PutUint16(b[8:], id.Index)
	copy(b[10:], leaf[:])
	e := sha256.Sum256(entry)
	copy(b[42:], e[:])
	s.h.Write(b[:])
	s.Count++
	s.Bytes += uint64(binary.BigEndian.Uint32(entry[33:])) // Change
}

// AppendBinary appends what was added so far to dst, for UnmarshalBinary to go on
// from: count u64 ‖ bytes u64 ‖ the state of the hash, as the standard library
// writes it.
func (s *StateHash) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, s.Count)
	dst = binary.BigEndian.AppendUint64(dst, s.Bytes)
	return s.h.(encoding.BinaryAppender).AppendBinary(dst)
}

// UnmarshalBinary goes on from what AppendBinary has written.
func (s *StateHash) UnmarshalBinary(b []byte) error {
	if len(b) < 16 {
		return fmt.Errorf("%w: state hash of %d bytes", ErrMalformed, len(b))
	}
	s.Count, s.Bytes = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	s.h = sha256.New()
	return s.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b[16:])
}

// Sum returns the state hash of what was added so far.
func (s *StateHash) Sum() (sum Hash) {
	s.h.Sum(sum[:0])
	return sum
}

// A Digest is one hash over the live changes of several namespaces, the same on
// every device whose log gives the same ones.
//
//	digest = SHA-256("kist/v1/digest" ‖ 00 ‖ for each namespace with live changes, tags ascending:
//	                 tag 16 ‖ count u64 ‖ state hash 32)
type Digest struct{ h hash.Hash }

// NewDigest returns the digest of no live changes.
func NewDigest() *Digest {
	d := &Digest{h: sha256.New()}
	d.h.Write([]byte("kist/v1/digest\x00"))
	return d
}

// Add adds a namespace. Tags must ascend; one without live changes adds nothing.
func (d *Digest) Add(tag keys.Tag, s *StateHash) {
	if s.Count == 0 {
		return
	}
	var b [56]byte
	copy(b[:], tag[:])
	binary.BigEndian.PutUint64(b[16:], s.Count)
	sum := s.Sum()
	copy(b[24:], sum[:])
	d.h.Write(b[:])
}

// Sum returns the digest of what was added so far.
func (d *Digest) Sum() (sum Hash) {
	d.h.Sum(sum[:0])
	return sum
}
