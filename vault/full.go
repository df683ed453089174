package vault

import (
	"bytes"
	"fmt"

	"github.com/kistvault/kist/commitlog"
)

// A full sync follows the log from its beginning. What is new is applied as
// ever; what this device has verified before has to be the same, and mends what
// the disk has lost or spoilt of it. The outbox has no part in it, so that
// nothing is lost or sent twice.

// take applies the commit at a place in the log, or compares it with the one
// that is there.
func (s *state) take(in *incoming, at commitlog.CommitID, done *applied) error {
	if uint64(at) > s.log.Size() {
		return s.apply(in, done)
	}
	if in.bundle.ID != at {
		return &commitlog.CommitError{ID: at, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("commit %d came instead", in.bundle.ID)}
	}
	header, err := s.log.Header(at)
	if err != nil {
		return err
	}
	if !bytes.Equal(header, in.bundle.Commit.Raw) {
		return &commitlog.CommitError{ID: at, Err: commitlog.ErrFork, Reason: "the secondary serves another commit than before"}
	}
	for i, blob := range in.bundle.Blobs {
		id := commitlog.ChangeID{Commit: at, Index: uint16(i)}
		_, have, err := s.log.Entry(id)
		if err != nil {
			return err
		}
		if blob == nil || bytes.Equal(have, blob) || !s.log.Live(in.bundle.Commit.Header.Tag, id) {
			continue
		}
		if err := s.settle(id); err != nil {
			return err
		}
		if err := s.late(id, blob, done); err != nil {
			return err
		}
	}
	return nil
}
