package vault

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/wire"
)

// Where the log began at a checkpoint, roots below are not known. One that is
// needed is proven: the log with that root continues into the base's. The device
// is unbound while it asks, so that nothing has to be held meanwhile.

// A claim is that the log of size commits, below the base, has a root.
type claim struct {
	size uint64
	root commitlog.Hash
}

// maxProofs is the number of PROOFs under way.
const maxProofs = 16

// errFloorReset: a checkpoint does not tell whether a reset meets the floor.
var errFloorReset = fmt.Errorf("%w: the key file's floor may be of a log that was reset since", ErrNoBase)

// unproven returns the claim if it is one about the log below the base that was
// not proven. One that is known to be false is proven: whoever asks for the root
// finds another.
func (s *state) unproven(c claim, to []claim) ([]claim, error) {
	if c.size == 0 || c.size >= s.log.Base() {
		return to, nil
	}
	_, err := s.log.RootAt(c.size)
	if errors.Is(err, store.ErrNotFound) {
		return append(to, c), nil
	}
	return to, err
}

// claims returns what has to be proven of the base itself before it is used: that
// it continues the log which the authority saw last, and the floor.
func (e *engine) claims() (out []claim, err error) {
	err = e.v.view(func(s *state) error {
		out = nil
		if e.bottom = s.log.Base(); e.bottom == 0 {
			return nil
		}
		id, err := s.lastControl(commitlog.CommitID(e.bottom))
		if err != nil {
			return err
		}
		raw, err := s.log.Header(id)
		if err != nil {
			return err
		}
		h, err := commitlog.ParseHeader(raw)
		if err != nil {
			return fmt.Errorf("%w: commit %d: %v", ErrDamaged, id, err)
		}
		if out, err = s.unproven(claim{h.SeenSize, h.SeenRoot}, nil); err != nil {
			return err
		}
		if e.owner != nil && e.owner.floor != nil && e.owner.unmet == nil {
			if e.owner.floor.Resets < s.log.Resets(e.bottom) {
				return errFloorReset
			}
			out, err = s.unproven(claim{e.owner.floor.Size, e.owner.floor.Root}, out)
		}
		return err
	})
	return out, err
}

// prove asks for the proofs that are wanting, some at a time.
func (e *engine) prove() (out []wire.Message) {
	if e.bottom == 0 { // the log has become whole: every root is known
		e.unproven = nil
	}
	for len(e.unproven) > 0 && len(e.proofs) < maxProofs {
		c := e.unproven[0]
		e.unproven = e.unproven[1:]
		e.request++
		if e.proofs == nil {
			e.proofs = make(map[uint32]claim)
		}
		e.proofs[e.request] = c
		out = append(out, &wire.Proof{Request: e.request, From: c.size, To: e.bottom})
	}
	return out
}

func (e *engine) onProof(m *wire.Proof) error {
	c, ok := e.proofs[m.Request]
	if ok && e.bottom == 0 {
		delete(e.proofs, m.Request)
		return nil // it was asked for before the log became whole
	}
	if !ok || m.From != c.size || m.To != e.bottom {
		return fmt.Errorf("%w: PROOF that was not asked for", wire.ErrProtocol)
	}
	delete(e.proofs, m.Request)
	return e.v.update(func(s *state) error {
		base, err := s.log.RootAt(e.bottom)
		if err != nil {
			return err
		}
		if err := commitlog.CheckTree(m.Hashes, c.size, c.root, e.bottom, base); err != nil {
			err := &commitlog.CommitError{ID: commitlog.CommitID(c.size), Err: err, Reason: "below the checkpoint that this device began with"}
			if e.owner != nil && e.owner.floor != nil && c == (claim{e.owner.floor.Size, e.owner.floor.Root}) {
				e.owner.unmet = err // unless a reset explains it, which may be still to come
				return nil
			}
			return err
		}
		return s.log.Prove(c.size, c.root)
	})
}

// doubt returns what has to be proven before commits can be checked.
func (e *engine) doubt(in []*incoming) (out []claim, err error) {
	if e.bottom == 0 {
		return nil, nil
	}
	asked := make(map[claim]bool)
	err = e.v.view(func(s *state) error {
		for _, x := range in {
			if x == nil {
				continue
			}
			c := claim{x.bundle.Commit.Header.SeenSize, x.bundle.Commit.Header.SeenRoot}
			if asked[c] {
				continue
			}
			asked[c] = true
			if out, err = s.unproven(c, out); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
