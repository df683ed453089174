package commitlog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/kistvault/kist/keys"
)

// CommitID is a commit's place in its vault's log, from 1. Zero is no commit.
type CommitID uint64

// Hash is a SHA-256 hash.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is all zeros, which stands for "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// Kind is what a commit is for. The numbers are stored and sent.
type Kind uint8

const (
	KindData       Kind = 1 // changes to records, by a device
	KindControl    Kind = 2 // control statements, by the authority
	KindSerialised Kind = 3 // data that is valid only directly after what its author had seen
)

// Version is the version of header and change list that this package writes
// and reads. There is no other.
const Version = 1

// HeaderSize is the size of an encoded header in bytes, SignedSize that of the
// part which the signature covers.
const (
	HeaderSize = 216
	SignedSize = 152
)

// A Header is the signed metadata of a commit. Encoded, big-endian:
//
//	Pos | Len | Description
//	  0 |   1 | version = 1
//	  1 |   1 | kind
//	  2 |   4 | epoch: the one in force at the seen size
//	  6 |  16 | namespace tag
//	 22 |  16 | device id; zeros: the authority
//	 38 |   8 | sequence number: strictly increasing for each author, gaps allowed
//	 46 |  32 | leaf of the author's previous commit in this log; zeros: first
//	 78 |   8 | seen size: the log that the author had verified
//	 86 |  32 | seen root: Merkle root of that log
//	118 |   2 | number of changes, from 1
//	120 |  32 | SHA-256 of the change list
//	152 |  64 | signature over bytes 0…151
type Header struct {
	Kind      Kind
	Epoch     uint32
	Tag       keys.Tag
	Device    keys.DeviceID // zero: the authority
	Seq       uint64
	PrevLeaf  Hash
	SeenSize  uint64
	SeenRoot  Hash
	Changes   uint16
	ListHash  Hash
	Signature [64]byte
}

// AppendBinary appends the header's 216 bytes to dst. The error is always nil.
func (h *Header) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, Version, byte(h.Kind))
	dst = binary.BigEndian.AppendUint32(dst, h.Epoch)
	dst = append(dst, h.Tag[:]...)
	dst = append(dst, h.Device[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.Seq)
	dst = append(dst, h.PrevLeaf[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.SeenSize)
	dst = append(dst, h.SeenRoot[:]...)
	dst = binary.BigEndian.AppendUint16(dst, h.Changes)
	dst = append(dst, h.ListHash[:]...)
	return append(dst, h.Signature[:]...), nil
}

// ParseHeader decodes a header. It returns [ErrMalformed], [ErrVersion] or
// [ErrLimit] for anything that no author may write, whatever the log holds.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) != HeaderSize {
		return h, fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(b))
	}
	if b[0] != Version {
		return h, fmt.Errorf("%w: commit version %d", ErrVersion, b[0])
	}
	h.Kind = Kind(b[1])
	if h.Kind < KindData || h.Kind > KindSerialised {
		return h, fmt.Errorf("%w: commit kind %d", ErrVersion, b[1])
	}
	h.Epoch = binary.BigEndian.Uint32(b[2:])
	copy(h.Tag[:], b[6:])
	copy(h.Device[:], b[22:])
	h.Seq = binary.BigEndian.Uint64(b[38:])
	copy(h.PrevLeaf[:], b[46:])
	h.SeenSize = binary.BigEndian.Uint64(b[78:])
	copy(h.SeenRoot[:], b[86:])
	h.Changes = binary.BigEndian.Uint16(b[118:])
	copy(h.ListHash[:], b[120:])
	copy(h.Signature[:], b[152:])
	switch {
	case h.Epoch == 0 || h.Epoch >= MaxEpoch:
		return h, fmt.Errorf("%w: epoch %d", ErrLimit, h.Epoch)
	case h.SeenSize >= MaxLog:
		return h, fmt.Errorf("%w: seen size %d", ErrLimit, h.SeenSize)
	case h.Seq == 0:
		return h, fmt.Errorf("%w: sequence number 0", ErrMalformed)
	case h.Seq >= MaxSequence:
		return h, fmt.Errorf("%w: sequence number %d", ErrLimit, h.Seq)
	case h.Changes == 0:
		return h, fmt.Errorf("%w: no changes", ErrMalformed)
	case (h.Kind == KindControl) != (h.Device == keys.DeviceID{}):
		return h, fmt.Errorf("%w: control commits are the authority's, and no others", ErrMalformed)
	}
	return h, nil
}

// A Commit is a header with its change list, decoded. Raw, List and the
// changes' entries share the memory they were parsed from; none may be written.
type Commit struct {
	Header  Header
	Raw     []byte   // the header's 216 bytes
	List    []byte   // the change list's bytes
	Changes []Change // at least one

	checked signatureCheck
}

// signatureCheck is the last result of Verify.
type signatureCheck struct {
	vault keys.VaultID
	key   keys.VerifyKey
	done  bool
	good  bool
}

// Verify reports whether the commit was signed with the key, for its kind's
// purpose. It remembers the result: so signatures, which take longer than all
// else, can be verified on all cores before [Check] asks in its turn. It is not
// safe for concurrent use on one commit.
func (c *Commit) Verify(vault keys.VaultID, key keys.VerifyKey) bool {
	if !c.checked.done || c.checked.vault != vault || c.checked.key != key {
		purpose := keys.PurposeCommit
		if c.Header.Kind == KindControl {
			purpose = keys.PurposeControl
		}
		c.checked = signatureCheck{vault, key, true, key.Verify(purpose, vault, c.Raw[:SignedSize], c.Header.Signature[:])}
	}
	return c.checked.good
}

// Leaf returns the commit's leaf hash, SHA-256(00 ‖ header) (RFC 6962, section 2.1).
func (c *Commit) Leaf() Hash { return LeafHash(c.Raw) }

// LeafHash returns the leaf hash of an encoded header.
func LeafHash(header []byte) Hash {
	var b [1 + HeaderSize]byte
	copy(b[1:], header)
	return sha256.Sum256(b[:])
}

// Size returns the bytes of header, change list and blobs, which
// [MaxCommitBytes] bounds.
func (c *Commit) Size() uint64 {
	n := uint64(len(c.Raw) + len(c.List))
	for i := range c.Changes {
		n += uint64(c.Changes[i].BlobSize)
	}
	return n
}

// ParseCommit decodes a header and its change list and checks all that can be
// checked without the log: canonical form, limits, the list's hash and count.
// The commit keeps header and list; the caller must not write to them after.
func ParseCommit(header, list []byte) (*Commit, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(list) != h.ListHash {
		return nil, fmt.Errorf("%w: change list", ErrBlob)
	}
	changes, err := ParseChanges(list, int(h.Changes))
	if err != nil {
		return nil, err
	}
	c := &Commit{Header: h, Raw: header, List: list, Changes: changes}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// validate checks the rules that bind changes and header of one commit.
func (c *Commit) validate() error {
	var deletes, restates bool
	for i := range c.Changes {
		ch := &c.Changes[i]
		switch ch.Op {
		case OpDelete:
			deletes = true
		case OpRestate:
			restates = true
		}
		if err := c.Header.allows(ch); err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
	}
	if deletes && restates {
		return fmt.Errorf("%w: a restate beside a delete", ErrMalformed)
	}
	if n := c.Size(); n > MaxCommitBytes {
		return fmt.Errorf("%w: commit of %d bytes", ErrLimit, n)
	}
	return nil
}

// allows checks the rules that bind one change and the header of its commit.
func (h *Header) allows(ch *Change) error {
	if h.Kind == KindControl && (ch.Op != OpPut || len(ch.Refs) > 0 || ch.HasObject()) {
		return fmt.Errorf("%w: not a plain put, in a control commit", ErrMalformed)
	}
	if h.Kind != KindControl && ch.BlobSize > MaxBlob {
		return fmt.Errorf("%w: blob of %d bytes", ErrLimit, ch.BlobSize)
	}
	for _, r := range ch.Refs {
		if !r.Own && r.At > h.SeenSize {
			return fmt.Errorf("%w: names commit %d, beyond the seen size %d", ErrMalformed, r.At, h.SeenSize)
		}
		if r.Own && r.At >= h.Seq {
			return fmt.Errorf("%w: names own sequence number %d, not an earlier one", ErrMalformed, r.At)
		}
	}
	return nil
}

// Build makes a commit: it encodes the changes, fills in the header's count and
// list hash, and has the first 152 bytes of the header signed. It checks its
// own output as [ParseCommit] does.
func Build(h Header, changes []Change, sign func(message []byte) [64]byte) (*Commit, error) {
	if len(changes) == 0 || len(changes) > MaxChanges {
		return nil, fmt.Errorf("%w: %d changes", ErrLimit, len(changes))
	}
	var list []byte
	for i := range changes {
		list = changes[i].appendEntry(list)
	}
	h.Changes = uint16(len(changes))
	h.ListHash = sha256.Sum256(list)
	h.Signature = [64]byte{}
	raw, _ := h.AppendBinary(make([]byte, 0, HeaderSize))
	h.Signature = sign(raw[:SignedSize])
	copy(raw[SignedSize:], h.Signature[:])
	return ParseCommit(raw, list)
}
