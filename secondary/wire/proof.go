package wire

import "github.com/kistvault/kist/commitlog"

// Proof asks for the proof that the log of From commits is the beginning of the
// log of To commits, and answers that: PROOF. A question has no hashes. ERROR
// with the request's number and [ErrNotFound] answers where the log has fewer
// than To commits. [commitlog.CheckTree] checks an answer.
type Proof struct {
	_       struct{} `cbor:",toarray"`
	Request uint32   // the client's number for it, from 1
	From    uint64   // from 1
	To      uint64   // at least From
	Hashes  []commitlog.Hash
}

func (*Proof) Type() Type { return TypeProof }

func (p *Proof) check() error {
	if p.Request == 0 || p.From == 0 || p.From > p.To || p.To >= commitlog.MaxLog || len(p.Hashes) > MaxProof {
		return malformed("proof %d from %d to %d with %d hashes", p.Request, p.From, p.To, len(p.Hashes))
	}
	return nil
}
