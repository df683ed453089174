package vault

import (
	"maps"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
)

// over reports whether this device signed a commit of this sequence number before it
// changed over to the log that it has, or before it learned of a reset by which that
// commit is in a lost log.
func (s *state) over(seq uint64) bool {
	b := s.meta.Get(metaOver)
	return len(b) == 8 && seq <= be.Uint64(b)
}

// afterReset brings the outbox up to resets that have come into the log: nothing that
// was acknowledged or signed before counts, and what is known to be in a lost log is
// not sent again: the maker of the reset has carried it over, as far as it still counts.
func (s *state) afterReset(lost []commitlog.LostLog) error {
	if err := s.forgetAcked(0); err != nil {
		return err
	}
	if seq, _, _ := s.attempt(); seq != 0 {
		sc, err := parseSent(slices.Clone(s.sent.Get(localKey(seq))))
		if err != nil {
			return err
		}
		if isIn(lost, sc) {
			if err := s.meta.Put(metaOver, localKey(seq)); err != nil {
				return err
			}
		}
		if err := s.meta.Delete(metaAttempt); err != nil {
			return err
		}
	}
	if _, err := s.giveUp(0); err != nil {
		return err
	}
	there, err := s.sentInto(lost)
	if err != nil {
		return err
	}
	c := &carrying{own: s, other: s}
	for _, local := range slices.Sorted(maps.Keys(there)) {
		if s.outbox.Get(localKey(local)) == nil {
			continue
		}
		if err := c.confirm(local); err != nil {
			return err
		}
	}
	return nil
}

// sentInto returns the changes of the outbox that are known to be in lost logs, by
// their local ids.
func (s *state) sentInto(lost []commitlog.LostLog) (map[uint64]bool, error) {
	there := make(map[uint64]bool)
	for _, b := range []*store.Bucket{s.sent, s.refused} {
		err := b.Scan(nil, func(_, v []byte) (bool, error) {
			sc, err := parseSent(v)
			if err == nil && isIn(lost, sc) {
				for _, local := range sc.locals {
					there[local] = true
				}
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	delete(there, 0) // of an attempt
	return there, nil
}

func isIn(lost []commitlog.LostLog, sc *sentCommit) bool {
	leaf := sc.commit.Leaf()
	return slices.ContainsFunc(lost, func(l commitlog.LostLog) bool { return slices.Contains(l.Leaves, leaf) })
}

// confirm takes a change out of the outbox that is in a lost log. What follows on from
// it names what another device has written anew in its place or, if that has come to
// nothing, what it had named.
func (c *carrying) confirm(local uint64) error {
	s := c.own
	p, err := s.pendingChange(local)
	if err != nil {
		return err
	}
	p.blob = slices.Clone(p.blob)
	h, err := s.openPending(p)
	if err != nil {
		return err
	}
	stands := p.refs
	ref, ok, err := c.logged(p.key, h.payload)
	if err != nil {
		return err
	}
	if ok {
		stands = []pendingRef{ref}
	}
	e, err := s.record(p.key)
	if err != nil {
		return err
	}
	if e != nil {
		for _, l := range e.pending {
			if err := s.instead(l, local, stands); err != nil {
				return err
			}
		}
	}
	return s.forget(p)
}

// instead has a pending change name others in the place of a pending one that it names.
func (s *state) instead(l, local uint64, others []pendingRef) error {
	q, err := s.pendingChange(l)
	if err != nil {
		return err
	}
	i := slices.Index(q.refs, pendingRef{local: local})
	if i < 0 {
		return nil
	}
	q.refs = union(slices.Delete(q.refs, i, i+1), others)
	q.blob = slices.Clone(q.blob)
	return s.setPending(q)
}

// lostBy returns the lost logs of the resets among statements.
func lostBy(statements []*commitlog.Statement) (out []commitlog.LostLog, err error) {
	var open commitlog.LostLog
	for _, st := range statements {
		if st.Reset == nil {
			continue
		}
		if err := open.Add(st.Reset); err != nil {
			return nil, err
		}
		if !st.Reset.More {
			out, open = append(out, open), commitlog.LostLog{}
		}
	}
	return out, nil
}
