package commitlog

import (
	"fmt"

	"github.com/kistvault/kist/keys"
)

// CheckBaseControl decides whether a control commit may be the next one of a log
// that begins at a checkpoint, in which the log between control commits is not
// known: it checks what [Check] does, but for the root at the seen size (SPEC.md,
// "Starting from a checkpoint"). after is the control commit before, 0 for none.
func CheckBaseControl(s State, after, id CommitID, c *Commit) error {
	h := &c.Header
	refuse := func(err error, format string, args ...any) error {
		return &CommitError{ID: id, Err: err, Reason: fmt.Sprintf(format, args...)}
	}
	if h.Kind != KindControl {
		return refuse(ErrMalformed, "not a control commit")
	}
	if after == 0 && id != 1 {
		return refuse(ErrNoGenesis, "the first control commit is commit %d", id)
	}
	author, err := s.Author(keys.DeviceID{})
	if err != nil {
		return err
	}
	switch {
	case id <= after:
		return refuse(ErrOrder, "after control commit %d", after)
	case !c.Verify(s.Vault(), author.Sign):
		return refuse(ErrSignature, "the authority")
	case h.Seq <= author.LastSeq:
		return refuse(ErrEquivocation, "sequence number %d after %d", h.Seq, author.LastSeq)
	case h.PrevLeaf != author.LastLeaf:
		return refuse(ErrOmission, "the control commit before is not here")
	case h.SeenSize+1 != uint64(id):
		return refuse(ErrOrder, "valid only as commit %d", h.SeenSize+1)
	}
	epoch, err := s.EpochAt(h.SeenSize)
	if err != nil {
		return err
	}
	if h.Epoch != epoch {
		return refuse(ErrEpoch, "epoch %d, in force was %d", h.Epoch, epoch)
	}
	return nil
}

// CheckRefs checks the refs of a commit that were not known when it was checked,
// in a log that has come to be whole (SPEC.md, "What is checked", 11).
func CheckRefs(s State, id CommitID, c *Commit) error {
	refuse := func(i int, err error) error {
		return &CommitError{ID: id, Err: err, Reason: fmt.Sprintf("change %d names what is not there", i)}
	}
	for i := range c.Changes {
		for _, r := range c.Changes[i].Refs {
			at := CommitID(r.At)
			if r.Own {
				var err error
				if at, err = s.OwnCommit(c.Header.Device, r.At); err != nil {
					return err
				}
				if uint64(at) <= c.Header.SeenSize {
					return refuse(i, ErrMalformed)
				}
			}
			info, ok, err := s.Change(ChangeID{at, r.Index})
			switch {
			case err != nil:
				return err
			case !ok || info.Op == OpDelete || at >= id:
				return refuse(i, ErrMalformed)
			case info.Tag != c.Header.Tag:
				return refuse(i, ErrScope)
			}
		}
	}
	return nil
}
