package wire

import (
	"github.com/kistvault/kist/commitlog"
)

// Object carries bytes of a sealed object to the secondary, or none, to ask how
// many are there: OBJECT. The secondary answers each with HAVE, in order.
type Object struct {
	_      struct{} `cbor:",toarray"`
	Hash   commitlog.Hash
	Size   uint64 // of the whole object
	Offset uint64
	Data   []byte // at most MaxRange
}

func (*Object) Type() Type { return TypeObject }

func (o *Object) check() error {
	if o.Size < commitlog.MinBlob || o.Size > commitlog.MaxObject {
		return malformed("object of %d bytes", o.Size)
	}
	if len(o.Data) > MaxRange || o.Offset > o.Size || uint64(len(o.Data)) > o.Size-o.Offset {
		return malformed("%d bytes at %d of %d", len(o.Data), o.Offset, o.Size)
	}
	return nil
}

// Have answers OBJECT: HAVE. Bytes that did not continue what is there were
// dropped; the device goes on at Bytes.
type Have struct {
	_     struct{} `cbor:",toarray"`
	Hash  commitlog.Hash
	Bytes uint64 // there so far
	Whole bool   // the object is complete, verified and durable
	Code  Code   // 0, or why it cannot be taken
}

func (*Have) Type() Type { return TypeHave }

func (h *Have) check() error {
	if h.Whole && h.Code != 0 {
		return malformed("an object that is whole and refused")
	}
	return nil
}

// Err returns the refusal, nil if there is none.
func (h *Have) Err() error {
	if h.Code == 0 {
		return nil
	}
	return &Error{Code: h.Code, Action: h.Code.Action()}
}

// Fetch asks for bytes of a change's blob or object: FETCH. BLOBS or ERROR
// answers it, in the order of the requests.
type Fetch struct {
	_       struct{} `cbor:",toarray"`
	Request uint32   // the client's number for it, from 1
	Commit  commitlog.CommitID
	Index   uint16
	Object  bool   // the change's object, not its blob
	Offset  uint64 // at most the size
	Length  uint32 // wanted; from 1
}

func (*Fetch) Type() Type { return TypeFetch }

func (f *Fetch) check() error {
	if f.Request == 0 || f.Commit == 0 || f.Commit >= commitlog.MaxLog || f.Offset > commitlog.MaxObject || f.Length == 0 {
		return malformed("request %d for commit %d", f.Request, f.Commit)
	}
	return nil
}

// Blobs answers FETCH: BLOBS. It may hold fewer bytes than were asked for; the
// client asks again for the rest.
type Blobs struct {
	_       struct{} `cbor:",toarray"`
	Request uint32
	Absent  bool   // no longer kept; Size and Data are empty
	Size    uint64 // of the whole blob or object
	Data    []byte // from the offset that was asked for; at most MaxRange
}

func (*Blobs) Type() Type { return TypeBlobs }

func (b *Blobs) check() error {
	if b.Request == 0 || b.Size > commitlog.MaxObject || len(b.Data) > MaxRange || uint64(len(b.Data)) > b.Size {
		return malformed("answer to %d with %d bytes of %d", b.Request, len(b.Data), b.Size)
	}
	if b.Absent && b.Size != 0 {
		return malformed("%d bytes of an absent blob", b.Size)
	}
	return nil
}
