package vault

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kistvault/kist/commitlog"
)

// An incoming commit is one that the secondary served, with what its blobs say,
// opened before the transaction that applies it.
type incoming struct {
	bundle *commitlog.Bundle
	opened []opened // one a change; empty for control commits
	locals []uint64 // for own commits: the outbox entries of the changes
	own    bool     // an own commit of which the outbox has nothing: an attempt
}

// applied counts what a transaction took in.
type applied struct {
	changes   int // changes by others
	own       int // own changes, verified in the log
	conflicts int // records that came to have several versions, or an edit beside a removal

	bytes, ownBytes uint64 // of these
}

// apply checks a commit against the log and, if it holds, appends it and brings
// the indexes up to it. A refusal is an error of package commitlog, and then
// nothing of the transaction may be kept.
func (s *state) apply(in *incoming, done *applied) error {
	c := in.bundle.Commit
	if at := commitlog.CommitID(s.log.Size() + 1); in.bundle.ID != at {
		return &commitlog.CommitError{ID: at, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("commit %d came instead", in.bundle.ID)}
	}
	eff, err := commitlog.Check(s.log, c)
	if err != nil {
		return err
	}
	if c.Header.Device == s.v.keys.device {
		if in, err = s.confirm(in, eff); err != nil {
			return err
		}
	} else if eff.ID > s.excused && s.acked.Get(localKey(uint64(eff.ID))) != nil {
		return &commitlog.CommitError{ID: eff.ID, Err: commitlog.ErrOwnCommitMissing, Reason: "a commit of this device was acknowledged at this place"}
	}
	keeping, err := s.keeping()
	if err != nil {
		return err
	}
	left := c.Header.Kind != commitlog.KindControl && !keeping.has(c.Header.Tag)
	if left {
		in.leaveOut()
	}
	if err := s.log.Append(c, in.bundle.Blobs, eff, millis(s.v.conf.Now())); err != nil {
		return err
	}
	if eff.Unresolved {
		if err := s.note(eff.ID); err != nil {
			return err
		}
	}
	if err := s.decide(); err != nil {
		return err
	}
	switch size := uint64(in.bundle.EncodedSize()); {
	case in.own:
		done.ownBytes += size
	case in.locals == nil:
		done.bytes += size
	}
	if c.Header.Kind == commitlog.KindControl {
		return s.control(s.log, metaControl, in.bundle)
	}
	if c.Header.Device != s.v.keys.device {
		var last clock
		for i := range in.opened {
			last = max(last, in.opened[i].clock)
		}
		if err := s.heardOf(uint64(last) >> 16); err != nil {
			return err
		}
	}
	superseded := make(map[commitlog.ChangeID]bool, len(eff.Superseded))
	for _, id := range eff.Superseded {
		superseded[id] = true
		if err := s.settle(id); err != nil {
			return err
		}
	}
	ended := maps.Clone(superseded)
	ix := &indexer{s: s, superseded: superseded, done: done, own: in.own}
	for i := range c.Changes {
		id := commitlog.ChangeID{Commit: eff.ID, Index: uint16(i)}
		var local uint64
		if in.locals != nil {
			local = in.locals[i]
		}
		if err := ix.add(id, &c.Changes[i], &in.opened[i], in.bundle.Blobs[i] != nil, local, eff.IsVoid(i)); err != nil {
			return err
		}
		if local == 0 {
			ix.meet(&in.opened[i], &c.Changes[i], eff.Named[i], ended)
		}
	}
	if err := ix.unlist(); err != nil {
		return err
	}
	if err := ix.flush(); err != nil {
		return err
	}
	for _, id := range eff.Superseded {
		if err := s.awaited(id); err != nil {
			return err
		}
	}
	if !left {
		return nil
	}
	return s.forgetDead(in, eff)
}

// confirm matches a commit of this device in the log with the one it signed, and
// returns it as the device kept it: with its own blobs, whatever came along.
func (s *state) confirm(in *incoming, eff *commitlog.Effects) (*incoming, error) {
	seq := in.bundle.Commit.Header.Seq
	refuse := func(err error, reason string) (*incoming, error) {
		return nil, &commitlog.CommitError{ID: eff.ID, Err: err, Reason: reason}
	}
	if is, _ := s.rebuilding(); is && s.signedAs(seq) == nil {
		in.own = true // of before the damage
		return in, nil
	}
	own, sc, err := s.own(eff.ID, seq)
	if err != nil {
		return nil, err
	}
	if sc.commit.Leaf() != eff.Leaf {
		return refuse(commitlog.ErrEquivocation, "this device signed another commit with the same sequence number")
	}
	if eff.ID > s.excused && sc.acked != 0 && sc.acked != eff.ID {
		return refuse(commitlog.ErrOwnCommitMissing, fmt.Sprintf("it was acknowledged as commit %d", sc.acked))
	}
	if err := s.acked.Delete(localKey(uint64(sc.acked))); err != nil {
		return nil, err
	}
	if s.sent.Get(localKey(seq)) != nil {
		if err := s.sent.Delete(localKey(seq)); err != nil {
			return nil, err
		}
	} else if _, err := s.giveUp(0); err != nil {
		// It was refused, and is there all the same: what was signed instead of
		// it does not follow on from it and is built anew.
		return nil, err
	}
	// Sequence numbers rise in the log: what was refused before this cannot
	// turn up any more.
	var old [][]byte
	err = s.refused.Scan(nil, func(k, _ []byte) (bool, error) {
		if be.Uint64(k) > seq {
			return false, nil
		}
		old = append(old, slices.Clone(k))
		return true, nil
	})
	for _, k := range old {
		if err := s.refused.Delete(k); err != nil {
			return nil, err
		}
	}
	return own, err
}

// settle takes a superseded change off the lists of what is wanting.
func (s *state) settle(id commitlog.ChangeID) error {
	k := changeKey(id)
	if s.missing.Get(k) != nil {
		if err := s.missing.Delete(k); err != nil {
			return err
		}
	}
	if s.quarantine.Get(k) != nil {
		return s.quarantine.Delete(k)
	}
	return nil
}
