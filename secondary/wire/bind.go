package wire

import (
	"bytes"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// BindFlags choose what a bound session is sent. The bits are sent.
type BindFlags uint8

const (
	// BindLive: new commits are pushed until the session is unbound. Without
	// it, what the log held at BIND comes, and what a MARK asks for.
	BindLive BindFlags = 1
	// BindStubs: the device's own commits come as stubs.
	BindStubs BindFlags = 2
)

// Tags is a choice of namespaces, ascending. Nil is all of them, an empty one
// none.
type Tags []keys.Tag

// MarshalCBOR encodes nil as null.
func (t Tags) MarshalCBOR() ([]byte, error) {
	if t == nil {
		return []byte{0xf6}, nil
	}
	return encMode.Marshal([]keys.Tag(t))
}

func (t Tags) check() error {
	if len(t) > MaxTags {
		return malformed("%d tags", len(t))
	}
	for i := 1; i < len(t); i++ {
		if bytes.Compare(t[i-1][:], t[i][:]) >= 0 {
			return malformed("tags do not ascend")
		}
	}
	return nil
}

// Bind begins to follow the log after the device's position: BIND.
type Bind struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64   // commits that the device has verified
	Root  commitlog.Hash
	Tags  Tags // namespaces whose blobs are wanted; those of control commits always come
	Flags BindFlags
}

func (*Bind) Type() Type { return TypeBind }

func (b *Bind) check() error {
	if b.Size >= commitlog.MaxLog || b.Flags&^(BindLive|BindStubs) != 0 {
		return malformed("size %d, flags %#x", b.Size, b.Flags)
	}
	return b.Tags.check()
}

// Bound answers BIND: BOUND. DOWNLOAD follows if the root is the device's own;
// otherwise the log is not the one that the device knows, and nothing follows.
type Bound struct {
	_         struct{}           `cbor:",toarray"`
	Size      uint64             // commits in the log
	Root      commitlog.Hash     // at the smaller of both sizes
	Last      []byte             // header of this device's last commit in the log (the authority's, for the owner); empty: none
	Reset     commitlog.CommitID // the newest commit with a reset; 0: none
	MaxObject uint64             // bytes of a sealed object that the secondary takes
	Retention uint32             // days that superseded blobs are kept
}

func (*Bound) Type() Type { return TypeBound }

func (b *Bound) check() error {
	if len(b.Last) != 0 && len(b.Last) != commitlog.HeaderSize {
		return malformed("last header of %d bytes", len(b.Last))
	}
	if b.Size >= commitlog.MaxLog || uint64(b.Reset) > b.Size {
		return malformed("size %d, reset in commit %d", b.Size, b.Reset)
	}
	return nil
}

// Mark asks to be told when everything has been sent that was in the log when
// the secondary read the question: MARK.
type Mark struct {
	_     struct{} `cbor:",toarray"`
	Token uint64   // comes back in MARKED
}

func (*Mark) Type() Type   { return TypeMark }
func (*Mark) check() error { return nil }

// Marked answers MARK, behind the last DOWNLOAD that it speaks of: MARKED.
type Marked struct {
	_     struct{} `cbor:",toarray"`
	Token uint64
	Size  uint64 // of the log at MARK
}

func (*Marked) Type() Type   { return TypeMarked }
func (*Marked) check() error { return nil }

// Unbind ends following the log, not the session: UNBIND.
type Unbind struct {
	_ struct{} `cbor:",toarray"`
}

func (*Unbind) Type() Type   { return TypeUnbind }
func (*Unbind) check() error { return nil }

// Unbound answers UNBIND; no DOWNLOAD comes after it: UNBOUND.
type Unbound struct {
	_ struct{} `cbor:",toarray"`
}

func (*Unbound) Type() Type   { return TypeUnbound }
func (*Unbound) check() error { return nil }

// Ping asks for a sign of life, with any number: PING.
type Ping struct {
	_     struct{} `cbor:",toarray"`
	Token uint64
}

func (*Ping) Type() Type   { return TypePing }
func (*Ping) check() error { return nil }

// Pong answers PING with its number: PONG.
type Pong struct {
	_     struct{} `cbor:",toarray"`
	Token uint64
}

func (*Pong) Type() Type   { return TypePong }
func (*Pong) check() error { return nil }
