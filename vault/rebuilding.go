package vault

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A store that [Rebuild] made gets the log from the secondary like that of a new
// device, but as the device that it was: its own commits come in full, and those
// that it does not know are believed, since it has signed them. It signs nothing
// before all of that is here. What it signs then follows on from its last commit
// in the log, under a sequence number far above all that it can have used: where
// a secondary keeps back a commit that was signed before the damage, and that
// could not be read any more, the others will see that the device wrote twice in
// one place, and the secondary is the only one that can have done it.

// rebuilding reports whether the log has not come to its end since Rebuild, and
// the commit that it has to hold.
func (s *state) rebuilding() (bool, floor) {
	b := s.meta.Get(metaRebuild)
	if len(b) != 8+commitlog.HeaderSize {
		return b != nil, floor{}
	}
	return true, floor{commitlog.CommitID(be.Uint64(b)), b[8:]}
}

// Rebuilding reports whether the vault's store was made anew and the log has not
// all come since. The next sync ends it.
func (v *Vault) Rebuilding() (is bool, err error) {
	err = v.view(func(s *state) error {
		is, _ = s.rebuilding()
		return nil
	})
	return is, err
}

// reached checks what the secondary served against the commit that the damaged store
// had. That may be in a log that a reset has ended, which is returned then; one that
// BOUND has named may be still to come.
func (f floor) reached(s *state, size uint64, named commitlog.CommitID) (*reset, error) {
	if f.id == 0 {
		return nil, nil
	}
	var err error
	if size < uint64(f.id) {
		err = &commitlog.CommitError{ID: f.id, Err: commitlog.ErrRollback, Reason: fmt.Sprintf("the secondary has %d commits, this device has had %d", size, f.id)}
	} else if uint64(f.id) <= s.log.Size() {
		header, herr := s.log.Header(f.id)
		if herr != nil {
			return nil, herr
		}
		if !bytes.Equal(header, f.header) {
			err = &commitlog.CommitError{ID: f.id, Err: commitlog.ErrFork, Reason: "this device has had another commit there"}
		}
	}
	if err == nil || uint64(named) > s.log.Size() {
		return nil, nil
	}
	all, rerr := s.resets()
	if rerr != nil {
		return nil, rerr
	}
	leaf := commitlog.LeafHash(f.header)
	for i := range all {
		lost := &all[i].lost
		if at := uint64(f.id) - lost.Kept - 1; uint64(f.id) > lost.Kept && at < uint64(len(lost.Leaves)) && lost.Leaves[at] == leaf {
			return &all[i], nil
		}
	}
	return nil, err
}

// rebuilt ends a rebuild, once the log is here as far as the secondary named it.
func (s *state) rebuilt() error {
	is, f := s.rebuilding()
	if !is {
		return nil
	}
	met, err := f.reached(s, s.log.Size(), 0)
	if err != nil {
		return err
	}
	if met != nil {
		if err := s.unname(commitlog.CommitID(met.lost.Kept)); err != nil {
			return err
		}
	}
	if err := s.dropLogged(); err != nil {
		return err
	}
	author, err := s.log.Author(s.v.keys.device)
	if err != nil {
		return err
	}
	if author != nil { // otherwise it was never admitted, and has signed nothing
		if err := s.rechain(author); err != nil {
			return err
		}
		if err := s.meta.Put(metaSequence, localKey(max(s.sequence(), author.LastSeq+jump))); err != nil {
			return err
		}
	}
	s.queued = true
	return s.meta.Delete(metaRebuild)
}

// rechain gives up the signed commits that do not follow on from the device's
// last one in the log, or whose content is not all here.
func (s *state) rechain(author *commitlog.Author) error {
	prev, from := author.LastLeaf, uint64(0)
	err := s.sent.Scan(nil, func(k, b []byte) (bool, error) {
		c, err := parseSent(b)
		if err != nil {
			return false, err
		}
		whole := !slices.ContainsFunc(c.locals, func(l uint64) bool { return l != 0 && s.outbox.Get(localKey(l)) == nil })
		if c.commit.Header.PrevLeaf != prev || !whole {
			from = be.Uint64(k)
			return false, nil
		}
		prev = c.commit.Leaf()
		return true, nil
	})
	if err != nil || from == 0 {
		return err
	}
	_, err = s.giveUp(from)
	return err
}

// unname has the outbox name nothing after a commit: what it names there was in a log
// that is lost. A removal of that is none any more; what was written instead of it
// stands beside what there is.
func (s *state) unname(after commitlog.CommitID) error {
	var named []*pendingChange
	err := s.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), bytes.Clone(b))
		if err == nil && slices.ContainsFunc(p.refs, func(r pendingRef) bool { return r.id.Commit > after }) {
			named = append(named, p)
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	for _, p := range named {
		p.refs = slices.DeleteFunc(p.refs, func(r pendingRef) bool { return r.id.Commit > after })
		if err := s.setPending(p); err != nil {
			return err
		}
		e, err := s.record(p.key)
		if err == nil && e != nil {
			err = s.join(e)
		}
		if err == nil && e != nil {
			err = errors.Join(s.touch(p.key, e), s.setRecord(p.key, e))
		}
		if err != nil {
			return err
		}
	}
	s.fed = s.fed || len(named) > 0
	return nil
}

// dropLogged takes those changes out of the outbox that are in the log by a commit
// that was not known any more, or for which a later one of this device stands.
func (s *state) dropLogged() error {
	var drop []*pendingChange
	err := s.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), bytes.Clone(b))
		if err != nil {
			return false, err
		}
		logged, err := s.logged(p)
		if logged {
			drop = append(drop, p)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for _, p := range drop {
		if err := s.forget(p); err != nil {
			return err
		}
	}
	return nil
}

// logged reports whether a change of this device in the log is, or follows, a
// pending one.
func (s *state) logged(p *pendingChange) (bool, error) {
	e, err := s.record(p.key)
	if err != nil || e == nil {
		return false, err
	}
	ids := slices.Clone(e.live)
	err = s.versions.ScanPrefix(p.key[:], nil, func(k, _ []byte) (bool, error) {
		ids = append(ids, parseChangeKey(k[32:]))
		return true, nil
	})
	if err != nil {
		return false, err
	}
	sum := commitlog.Hash(sha256.Sum256(p.blob))
	for _, id := range ids {
		header, err := s.log.Header(id.Commit)
		if err != nil {
			return false, err
		}
		if keys.DeviceID(header[22:38]) != s.v.keys.device {
			continue
		}
		ch, _, err := s.log.Entry(id)
		if err != nil {
			return false, err
		}
		if ch.BlobHash == sum {
			return true, nil
		}
		h, err := s.openChange(id)
		if err != nil {
			return false, err
		}
		if h != nil && p.clock > 0 && h.payload.HLC >= p.clock {
			return true, nil
		}
	}
	return false, nil
}
