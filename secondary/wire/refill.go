package wire

import "github.com/kistvault/kist/commitlog"

// Refill carries commits of any author from the owner to a secondary that has
// lost them, or is new, in the order of the log and with their commit IDs: REFILL.
// Blobs that the owner's device does not have are left out. With a control commit
// the frame holds that one commit, whole or its last part.
type Refill struct {
	_       struct{} `cbor:",toarray"`
	Control *Control // goes with a control commit, and with no other
	Items   []Item   `cbor:"-"`
}

func (*Refill) Type() Type       { return TypeRefill }
func (r *Refill) items() *[]Item { return &r.Items }

func (r *Refill) check() error {
	if err := checkItems(r.Items, false); err != nil || r.Control == nil {
		return err
	}
	if len(r.Items) != 1 || r.Items[0].Kind == ItemPart {
		return malformed("a control commit beside other items")
	}
	return r.Control.check()
}

// Refilled answers a REFILL that completed a commit: REFILLED. What of it the log
// holds up to Size is durable; a code says why the next one is not.
type Refilled struct {
	_    struct{} `cbor:",toarray"`
	Size uint64   // commits in the log
	Code Code     // 0: all of the frame is in it
	Text string   // for a person; printable ASCII
}

func (*Refilled) Type() Type { return TypeRefilled }

func (r *Refilled) check() error {
	if r.Size >= commitlog.MaxLog || r.Code == 0 && r.Text != "" {
		return malformed("refilled to %d with code %d", r.Size, r.Code)
	}
	return checkText(r.Text)
}

// Err returns the refusal, nil if there is none.
func (r *Refilled) Err() error {
	if r.Code == 0 {
		return nil
	}
	return &Error{Code: r.Code, Text: r.Text, Action: r.Code.Action()}
}
