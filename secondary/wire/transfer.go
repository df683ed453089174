package wire

import (
	"crypto/sha256"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// Download carries commits in the order of the log: DOWNLOAD.
type Download struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64   // of the log, as far as the secondary will send it now
	Left  uint64   // bytes of bundles still to come up to Size: exact where nothing is filtered or stubbed, never too few
	Items []Item   `cbor:"-"`
}

func (*Download) Type() Type       { return TypeDownload }
func (d *Download) items() *[]Item { return &d.Items }

func (d *Download) check() error {
	if d.Size >= commitlog.MaxLog {
		return malformed("size %d", d.Size)
	}
	return checkItems(d.Items, true)
}

// Upload carries commits to append, in the order of their sequence numbers,
// with commit ID 0 and all their blobs: UPLOAD. With a condition or a control
// commit, the frame holds that one commit, whole or its last part.
type Upload struct {
	_         struct{} `cbor:",toarray"`
	Condition *uint64  // only if the log has this size; nil: unconditional
	Control   *Control // goes with a control commit, and with no other
	Items     []Item   `cbor:"-"`
}

func (*Upload) Type() Type       { return TypeUpload }
func (u *Upload) items() *[]Item { return &u.Items }

func (u *Upload) check() error {
	if err := checkItems(u.Items, false); err != nil {
		return err
	}
	if u.Condition == nil && u.Control == nil {
		return nil
	}
	if len(u.Items) != 1 || u.Items[0].Kind == ItemPart {
		return malformed("a condition or control commit beside other items")
	}
	if u.Control != nil {
		return u.Control.check()
	}
	return nil
}

// Control is what the secondary cannot read in a control commit and has to
// know. It takes effect with the commit.
type Control struct {
	_       struct{}       `cbor:",toarray"`
	Epoch   uint32         // in force after the commit
	Devices []Registration // admitted or revoked by it
	Resets  uint16         // reset statements in it
	Moved   Moved          // what its last move statement means to the secondary
}

// Moved is what a move statement means to the secondary that it is told to. The
// numbers are sent.
type Moved uint8

const (
	MovedNot  Moved = 0 // there is none
	MovedAway Moved = 1 // the vault is at another one from now on
	MovedHere Moved = 2 // it is at this one
)

func (c *Control) check() error {
	if c.Epoch == 0 || c.Epoch >= commitlog.MaxEpoch || len(c.Devices) > MaxRegistrations || c.Moved > MovedHere {
		return malformed("epoch %d, %d registrations, moved %d", c.Epoch, len(c.Devices), c.Moved)
	}
	for i := range c.Devices {
		if err := c.Devices[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// Registration tells the secondary about one device. Its id is the hash of the
// three keys.
type Registration struct {
	_       struct{} `cbor:",toarray"`
	Device  keys.DeviceID
	Sign    keys.VerifyKey
	Auth    keys.VerifyKey
	KEMHash [32]byte // SHA-256 of the KEM public key
	Tags    Tags     // namespaces it may write to
	Revoked bool
}

// ID returns the id of the device with these keys (SPEC.md, "Keys").
func (r *Registration) ID() keys.DeviceID {
	h := sha256.New()
	h.Write([]byte("kist/v1/device-id\x00"))
	h.Write(r.Sign[:])
	h.Write(r.Auth[:])
	h.Write(r.KEMHash[:])
	return keys.DeviceID(h.Sum(nil)[:16])
}

func (r *Registration) check() error {
	if r.Device.IsZero() || !r.Sign.Valid() || !r.Auth.Valid() {
		return malformed("registration without id or usable keys")
	}
	return r.Tags.check()
}

// Uploaded answers the commits of one UPLOAD, each of them: UPLOADED. Answers
// come in the order of the commits. A commit in parts is answered with its last.
type Uploaded struct {
	_       struct{} `cbor:",toarray"`
	Results []Result
}

func (*Uploaded) Type() Type { return TypeUploaded }

func (u *Uploaded) check() error {
	if len(u.Results) == 0 || len(u.Results) > maxElements {
		return malformed("%d results", len(u.Results))
	}
	for i := range u.Results {
		if err := u.Results[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// Result says what became of one commit. A commit with an ID is durable in the
// log; one with a code is not in the log. As an error it is the sentinel of its
// code.
type Result struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64
	ID   commitlog.CommitID // 0: refused
	Code Code               // 0: appended, now or before
	Text string             // for a person; printable ASCII
}

func (r *Result) check() error {
	if (r.ID == 0) == (r.Code == 0) || r.ID >= commitlog.MaxLog || r.Code == 0 && r.Text != "" {
		return malformed("result with ID %d and code %d", r.ID, r.Code)
	}
	return checkText(r.Text)
}

// Err returns the refusal, nil if there is none.
func (r *Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return &Error{Code: r.Code, Text: r.Text, Action: r.Code.Action()}
}
