package vault

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A log that began at a checkpoint is made whole: the commits below the base are
// pulled and checked from the first one on, beside the log in use, and in the end
// must come to the checkpoint. The session goes on meanwhile. A Run does it bit by
// bit, with pauses; a Sync does some of it; a full sync does all of it at once.

const (
	pastPause = 100 * time.Millisecond // between two pieces
	pastShare = 4                      // pieces that a Sync does
)

// pastSession is the part of a session that pulls the log below the base.
type pastSession struct {
	request uint32 // under way; 0: none
	parts   wire.Assembler
	pieces  int       // that have come
	rest    time.Time // when the next is to be asked for
	urgent  bool      // the log cannot go on without
}

// pastDue reports whether a piece of the log below the base has its turn, or has
// been asked for.
func (e *engine) pastDue() bool {
	if e.bottom == 0 || e.owner != nil || e.errand {
		return false
	}
	return e.full || e.mode != PushOnly && (e.stay || e.past.pieces < pastShare)
}

// askPast asks for the next piece. Where all have come it ends the log below the
// base, and asks for nothing.
func (e *engine) askPast() (out []wire.Message, err error) {
	p := &e.past
	if p.request != 0 || !p.urgent && e.now.Before(p.rest) {
		return nil, nil
	}
	err = e.v.view(func(s *state) error {
		m := &wire.Read{To: commitlog.CommitID(e.bottom)}
		past, err := s.tx.Past(bucketLog, false)
		switch {
		case err == nil:
			m.After = commitlog.CommitID(past.Size())
		case err != store.ErrNotFound:
			return err
		}
		k, err := s.keeping()
		if err != nil {
			return err
		}
		m.Tags = k.bindTags()
		if m.After < m.To {
			e.request++
			p.request, m.Request = e.request, e.request
			out = []wire.Message{m}
		}
		return nil
	})
	if err == nil && out == nil {
		err = e.endPast() // it was cut between the last piece and its end
	}
	return out, err
}

// onCommits takes a piece of the log below the base.
func (e *engine) onCommits(m *wire.Commits) error {
	if e.reset.request != 0 && m.Request == e.reset.request {
		return e.onReset(m)
	}
	p := &e.past
	if p.request == 0 || m.Request != p.request {
		return fmt.Errorf("%w: COMMITS that were not asked for", wire.ErrProtocol)
	}
	var in []*incoming
	for _, item := range m.Items {
		data, err := p.parts.Add(item)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			return &commitlog.CommitError{Err: err, Reason: "below the checkpoint that this device began with"}
		}
		in = append(in, &incoming{bundle: b})
	}
	if p.parts.Partial() {
		return nil
	}
	e.v.openAll(in)
	if err := e.v.verifyAhead(in, func(s *state) (*store.Log, error) {
		past, err := s.tx.Past(bucketLog, false)
		if err != nil {
			return s.log, nil // nobody knows more than this
		}
		return past.Log, nil
	}); err != nil {
		return err
	}
	var size uint64
	for at := 0; at < len(in); {
		next := at
		err := e.v.update(func(s *state) error {
			past, err := s.tx.Past(bucketLog, true)
			if err != nil {
				return err
			}
			next = at
			for n := 0; next < len(in) && n < applyChanges; next++ {
				if err := s.applyPast(past, in[next]); err != nil {
					return err
				}
				n += len(in[next].bundle.Commit.Changes)
			}
			size = past.Size()
			return nil
		})
		if err != nil {
			return err
		}
		at = next
	}
	p.request = 0
	p.pieces++
	if e.stay && !p.urgent && !e.full {
		p.rest = e.now.Add(pastPause)
	}
	if size < e.bottom {
		return nil
	}
	return e.endPast()
}

// applyPast checks the next commit below the base and adds it.
func (s *state) applyPast(past *store.Past, in *incoming) error {
	c := in.bundle.Commit
	at := commitlog.CommitID(past.Size() + 1)
	if in.bundle.ID != at {
		return &commitlog.CommitError{ID: at, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("commit %d came instead", in.bundle.ID)}
	}
	if base := s.log.Base(); uint64(at) > base {
		return fmt.Errorf("%w: COMMITS beyond those that were asked for", wire.ErrProtocol)
	}
	eff, err := commitlog.Check(past, c)
	if err != nil {
		return err
	}
	control := c.Header.Kind == commitlog.KindControl
	keeping, err := s.keeping()
	if err != nil {
		return err
	}
	if !control && !keeping.has(c.Header.Tag) {
		in.leaveOut()
	}
	if err := past.Append(c, in.bundle.Blobs, eff, millis(s.v.conf.Now())); err != nil {
		return err
	}
	if control {
		return s.control(past.Log, metaPastControl, in.bundle)
	}
	for i := range c.Changes {
		id := commitlog.ChangeID{Commit: at, Index: uint16(i)}
		if !in.opened[i].known || s.log.Live(c.Header.Tag, id) {
			continue
		}
		if err := s.log.SetBlob(id, in.bundle.Blobs[i]); err != nil { // it may have come without
			return err
		}
		if err := s.pastVersion(&in.opened[i], id); err != nil {
			return err
		}
	}
	return nil
}

// pastVersion adds a change that ended below the base to its record, which may be one
// that is no more: that takes its place in the feed, as one that was removed.
func (s *state) pastVersion(o *opened, id commitlog.ChangeID) error {
	e, err := s.record(o.key)
	if err != nil {
		return err
	}
	if e == nil || e.clock < o.clock {
		if e == nil {
			e = &entry{key: o.key, name: o.name}
			if err := s.touch(o.key, e); err != nil {
				return err
			}
		}
		e.clock = max(e.clock, o.clock)
		if err := s.setRecord(o.key, e); err != nil {
			return err
		}
	}
	return s.version(o.key, id)
}

// endPast compares what the log below the base has come to with the checkpoint,
// and makes the log whole.
func (e *engine) endPast() error {
	err := e.v.view(func(s *state) error {
		past, err := s.tx.Past(bucketLog, false)
		if err != nil {
			return err
		}
		c, err := s.base()
		if err != nil {
			return err
		}
		own, err := past.Comes(past.Size())
		if err != nil {
			return err
		}
		own.Control, own.Resets = parseControlHead(s.meta.Get(metaPastControl)), past.Resets(past.Size())
		return c.Same(own)
	})
	if err != nil {
		return err
	}
	err = e.v.update(func(s *state) error {
		past, err := s.tx.Past(bucketLog, false)
		if err != nil {
			return err
		}
		if err := past.Done(); err != nil {
			return err
		}
		if err := s.checkNoted(); err != nil {
			return err
		}
		// What stands in for a change that cannot be used may be here by now.
		for _, k := range [][]byte{metaBase, metaPastControl, metaNoted, metaUnderstands, metaCompacted} {
			if err := s.meta.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := e.v.reread(); err != nil {
		return err
	}
	e.v.conf.Logger.Info("the whole history is verified", "commits", e.bottom)
	e.bottom, e.past = 0, pastSession{}
	return nil
}

// dropPast forgets what has come of the log below the base: after an alarm it may be
// false, and what is true would not follow on from it.
func (s *state) dropPast() error {
	past, err := s.tx.Past(bucketLog, false)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := past.Drop(); err != nil {
		return err
	}
	base := s.log.Base()
	var gone [][]byte
	err = s.versions.Scan(nil, func(k, _ []byte) (bool, error) {
		id := parseChangeKey(k[32:])
		if uint64(id.Commit) > base {
			return true, nil
		}
		_, here, err := s.log.Change(id)
		if err == nil && !here {
			gone = append(gone, slices.Clone(k))
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for _, k := range gone {
		if err := s.versions.Delete(k); err != nil {
			return err
		}
	}
	for _, k := range gone {
		if err := s.dropEmpty(recordKey(k[:32])); err != nil {
			return err
		}
	}
	if err := s.meta.Delete(metaPastControl); err != nil {
		return err
	}
	return s.noteAgain()
}

// dropEmpty takes a record out of the index that has no version any more.
func (s *state) dropEmpty(key recordKey) error {
	e, err := s.record(key)
	if err != nil || e == nil || len(e.live) > 0 || len(e.pending) > 0 {
		return err
	}
	any := false
	err = s.versions.ScanPrefix(key[:], nil, func(_, _ []byte) (bool, error) {
		any = true
		return false, nil
	})
	if err != nil || any {
		return err
	}
	return errors.Join(s.feed.Delete(localKey(uint64(e.rev))), s.dropRecord(key, e))
}

// noteAgain keeps in mind, too, what commits above the base name that was here and is
// not any more.
func (s *state) noteAgain() error {
	noted := make(map[commitlog.CommitID]bool)
	for b := s.meta.Get(metaNoted); len(b) >= 8; b = b[8:] {
		noted[commitlog.CommitID(be.Uint64(b))] = true
	}
	for id := commitlog.CommitID(s.log.Base() + 1); uint64(id) <= s.log.Size(); id++ {
		if noted[id] {
			continue
		}
		b, err := s.log.Commit(id)
		if err != nil {
			return err
		}
		for i := range b.Commit.Changes {
			if noted[id], err = s.namesAbsent(b.Commit.Header.Device, b.Commit.Changes[i].Refs); err != nil {
				return err
			}
			if noted[id] {
				if err := s.note(id); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

// namesAbsent reports whether one of an author's refs names a change that is not here.
func (s *state) namesAbsent(author keys.DeviceID, refs []commitlog.Ref) (bool, error) {
	for _, r := range refs {
		at := commitlog.CommitID(r.At)
		if r.Own {
			var err error
			if at, err = s.log.OwnCommit(author, r.At); err != nil {
				return false, err
			}
		}
		if _, here, err := s.log.Change(commitlog.ChangeID{Commit: at, Index: r.Index}); err != nil || !here {
			return !here, err
		}
	}
	return false, nil
}

// note keeps in mind that a commit names what could not be looked at.
func (s *state) note(id commitlog.CommitID) error {
	return s.meta.Put(metaNoted, be.AppendUint64(append([]byte(nil), s.meta.Get(metaNoted)...), uint64(id)))
}

// checkNoted looks at what could not be looked at.
func (s *state) checkNoted() error {
	for b := s.meta.Get(metaNoted); len(b) >= 8; b = b[8:] {
		id := commitlog.CommitID(be.Uint64(b))
		bundle, err := s.log.Commit(id)
		if err != nil {
			return err
		}
		if err := commitlog.CheckRefs(s.log, id, bundle.Commit); err != nil {
			return err
		}
	}
	return nil
}

func parseControlHead(b []byte) (h commitlog.ControlHead) {
	if len(b) == 40 {
		h.Number = be.Uint64(b)
		copy(h.Hash[:], b[8:])
	}
	return h
}

// verifyAhead verifies the signatures of commits on all cores, those of authors
// that the log knows. What is found out is asked for by commitlog.Check.
func (v *Vault) verifyAhead(in []*incoming, log func(*state) (*store.Log, error)) error {
	if len(in) < 4 {
		return nil
	}
	signers := make(map[keys.DeviceID]keys.VerifyKey)
	err := v.view(func(s *state) error {
		l, err := log(s)
		if err != nil {
			return err
		}
		return l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
			signers[id] = a.Sign
			return nil
		})
	})
	if err != nil {
		return err
	}
	onAllCores(len(in), func(i int) {
		if c := in[i].bundle.Commit; signers[c.Header.Device] != (keys.VerifyKey{}) {
			c.Verify(v.keys.vault, signers[c.Header.Device])
		}
	})
	return nil
}
