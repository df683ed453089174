package vault

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/wire"
)

// An attempt is a serialised commit of this device that is signed and not
// decided yet (SPEC.md, "Serialised commits"). There is one at a time. It is
// signed while no other commit is under way, and none is signed beside it: so
// nothing ever follows on from it that it could take down when it is refused.
//
// It stands in the bucket sent like any signed commit, with local ids of 0,
// since the outbox has nothing of it: no index shows it before it is in the
// verified log. Its blobs are in the bucket meta, until it is decided:
//
//	attempt → sequence u64 ‖ seen size u64 ‖ encoded bundle
//
// It is decided when the verified log is longer than its seen size: it stands
// there at the next place, or never will. Where the secondary refuses it before
// that, it is in the bucket refused, is not sent again, and other commits go on.

// attempt returns the sequence number and the seen size of the attempt that is
// under way, and its encoded bundle, which shares the store's memory. The
// number is 0 if there is none.
func (s *state) attempt() (seq, seen uint64, bundle []byte) {
	b := s.meta.Get(metaAttempt)
	if len(b) < 16 || s.sent.Get(b[:8]) == nil {
		return 0, 0, nil
	}
	return be.Uint64(b), be.Uint64(b[8:]), b[16:]
}

// signAttempt builds the attempt of the transaction that has just been written,
// over the log as it is. It is nil if nothing was written. The caller rolls the
// store's transaction back, so that nothing but the attempt is left of it.
func (s *state) signAttempt(t *txn) (*commitlog.Bundle, error) {
	if t.changes == 0 {
		return nil, nil
	}
	var changes []*pendingChange
	err := s.outbox.Scan(localKey(t.first), func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), b)
		changes = append(changes, p)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	author, err := s.author()
	if err != nil {
		return nil, err
	}
	c, err := s.sign(changes, author.LastLeaf, commitlog.KindSerialised)
	if errors.Is(err, commitlog.ErrLimit) {
		return nil, fmt.Errorf("%w: %v", ErrTooLarge, err)
	}
	if err != nil || c == nil {
		return nil, err
	}
	sc, err := parseSent(slices.Clone(s.sent.Get(localKey(c.Header.Seq))))
	if err != nil {
		return nil, err
	}
	b, err := s.bundle(sc)
	if err != nil {
		return nil, err
	}
	for i := range b.Blobs { // they outlive the transaction
		b.Blobs[i] = slices.Clone(b.Blobs[i])
	}
	return b, nil
}

// keepAttempt stores an attempt, to be sent. It reports false if something has come
// between since it was signed, and it is not valid any more.
func (s *state) keepAttempt(b *commitlog.Bundle) (bool, error) {
	h := &b.Commit.Header
	if !s.sent.Empty() || s.log.Size() != h.SeenSize || s.sequence()+1 != h.Seq {
		return false, nil
	}
	sc := &sentCommit{commit: b.Commit, locals: make([]uint64, len(b.Commit.Changes))}
	value := be.AppendUint64(localKey(h.Seq), h.SeenSize)
	value, _ = b.AppendBinary(value)
	s.queued = true
	return true, errors.Join(
		s.meta.Put(metaSequence, localKey(h.Seq)),
		s.sent.Put(localKey(h.Seq), sc.encode()),
		s.meta.Put(metaAttempt, value),
	)
}

// decide forgets the attempt when the log has passed its place: if it is there,
// it was confirmed like any own commit.
func (s *state) decide() error {
	b := s.meta.Get(metaAttempt)
	if len(b) < 16 || s.log.Size() <= be.Uint64(b[8:]) {
		return nil
	}
	seq := slices.Clone(b[:8])
	return errors.Join(s.sent.Delete(seq), s.meta.Delete(metaAttempt))
}

// ownAttempt returns the attempt, as the log says it stands at id. It is nil if
// the sequence number is another's, or if the disk has spoilt what was kept: its
// content is fetched then, like that of any commit.
func (s *state) ownAttempt(id commitlog.CommitID, sc *sentCommit) *incoming {
	seq, _, bundle := s.attempt()
	if seq != sc.commit.Header.Seq {
		return nil
	}
	b, err := parseAttempt(slices.Clone(bundle), sc.commit)
	if err != nil {
		return nil
	}
	b.ID = id
	in := &incoming{bundle: b, own: true}
	s.v.openAll([]*incoming{in})
	return in
}

// parseAttempt decodes what was kept of an attempt, which is as it was signed.
func parseAttempt(bundle []byte, signed *commitlog.Commit) (*commitlog.Bundle, error) {
	b, err := commitlog.ParseBundle(bundle)
	if err == nil && b.Commit.Leaf() != signed.Leaf() {
		err = errors.New("it is another commit")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: kept transaction: %v", ErrDamaged, err)
	}
	return b, nil
}

// A fate is what has become of an attempt.
type fate uint8

const (
	fateSent    fate = iota // under way
	fateRefused             // refused, by the word of the secondary alone
	fateTaken               // in the verified log
	fatePassed              // the verified log has passed its place
	fateLost                // it may have been in a log that was reset
)

// fate returns what has become of an attempt.
func (s *state) fate(seq, seen uint64) (fate, error) {
	if s.over(seq) {
		return fateLost, nil
	}
	if s.log.Size() > seen {
		id, err := s.log.OwnCommit(s.v.keys.device, seq)
		if err != nil || id != 0 {
			return fateTaken, err
		}
		return fatePassed, nil
	}
	if s.sent.Get(localKey(seq)) != nil {
		return fateSent, nil
	}
	return fateRefused, nil
}

// undecided counts the attempts whose place the verified log has not reached.
func (s *state) undecided() (n int, err error) {
	for _, b := range []*store.Bucket{s.sent, s.refused} {
		err := b.Scan(nil, func(_, v []byte) (bool, error) {
			c, err := parseSent(v)
			if err == nil && c.commit.Header.Kind == commitlog.KindSerialised && c.commit.Header.SeenSize >= s.log.Size() {
				n++
			}
			return true, err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// sendAttempt returns the UPLOAD of the attempt, once a session. under says
// whether there is one, and nothing else may be signed.
func (e *engine) sendAttempt() (out []wire.Message, under bool, err error) {
	var seq, seen uint64
	var data []byte
	var sc *sentCommit
	err = e.v.view(func(s *state) (err error) {
		var bundle []byte
		if seq, seen, bundle = s.attempt(); seq > e.sent {
			data = slices.Clone(bundle)
			sc, err = parseSent(slices.Clone(s.sent.Get(localKey(seq))))
		}
		return err
	})
	if err != nil || data == nil || e.size < e.first { // it may be in what has not come yet
		return nil, seq != 0, err
	}
	if _, err := parseAttempt(data, sc.commit); err != nil { // it cannot go up
		return nil, false, e.v.update(func(s *state) error { return e.refuseAttempt(s, seq, err) })
	}
	e.sent = seq
	e.frames++
	items := wire.Cut(data)
	for i, item := range items {
		u := &wire.Upload{Items: []wire.Item{item}}
		if i == len(items)-1 {
			u.Condition = &seen
		}
		out = append(out, u)
	}
	return out, true, nil
}

// A why is why an attempt was refused.
type why struct {
	seq uint64
	err error
}

// refuseAttempt deals with the refusal of an attempt. It is not sent again; the
// log alone will say whether it is true.
func (e *engine) refuseAttempt(s *state, seq uint64, err error) error {
	if _, err := s.giveUp(seq); err != nil {
		return err
	}
	e.v.why.Store(&why{seq, err})
	return s.meta.Delete(metaAttempt)
}
