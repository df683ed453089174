package vault

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/wire"
)

// objectUpload is an object on its way to the secondary.
type objectUpload struct {
	hash  commitlog.Hash
	size  uint64
	local uint64 // of a change in the outbox that names it; 0: of none
	asked bool   // the secondary was asked how much it has
	known bool   // … and has answered
	sent  uint64 // bytes sent, or there before
	there uint64 // of these, bytes that the secondary has
	wait  int    // OBJECT messages unanswered
	stuck uint64 // bytes there when all had been sent and it was not whole
}

func (e *engine) onUploaded(u *wire.Uploaded) error {
	e.frames--
	if e.frames < 0 {
		return fmt.Errorf("%w: UPLOADED without UPLOAD", wire.ErrProtocol)
	}
	if e.owner != nil {
		return e.owner.answered(e, u)
	}
	err := e.v.update(func(s *state) error {
		for i := range u.Results {
			if err := e.result(s, &u.Results[i]); err != nil {
				return err
			}
		}
		if e.frames > 0 {
			return nil
		}
		return s.answered(e.sent)
	})
	e.drained = false
	return err
}

// answered returns an error if a signed commit, up to a sequence number, is
// neither acknowledged nor refused though there was an answer to every frame.
// Nothing more would come of it in this session.
func (s *state) answered(upTo uint64) error {
	return s.sent.Scan(nil, func(k, b []byte) (bool, error) {
		if seq := be.Uint64(k); seq <= upTo && be.Uint64(b) == 0 {
			return false, fmt.Errorf("%w: UPLOADED without the result of commit %d of this device", wire.ErrProtocol, seq)
		}
		return true, nil
	})
}

// result takes the answer for one commit.
func (e *engine) result(s *state, r *wire.Result) error {
	b := s.sent.Get(localKey(r.Seq))
	if r.ID != 0 {
		e.need = max(e.need, uint64(r.ID))
		e.waits()
		e.acked = max(e.acked, uint64(r.ID))
		if b == nil {
			// It came back in the log before the answer did, or it was given up.
			id, err := s.log.OwnCommit(s.v.keys.device, r.Seq)
			if err != nil {
				return err
			}
			if id != 0 && id != r.ID {
				return &commitlog.CommitError{ID: id, Err: commitlog.ErrOwnCommitMissing, Reason: fmt.Sprintf("it was acknowledged as commit %d", r.ID)}
			}
			return nil
		}
		sc, err := parseSent(slices.Clone(b))
		if err != nil {
			return err
		}
		h := &sc.commit.Header
		elsewhere := h.Kind == commitlog.KindSerialised && uint64(r.ID) != h.SeenSize+1
		if sc.acked != 0 && sc.acked != r.ID || uint64(r.ID) <= s.log.Size() || elsewhere {
			return &commitlog.CommitError{ID: r.ID, Err: commitlog.ErrOwnCommitMissing, Reason: "acknowledged at a place where it is not"}
		}
		if err := s.acked.Put(localKey(uint64(r.ID)), localKey(r.Seq)); err != nil {
			return err
		}
		sc.acked = r.ID
		return s.sent.Put(localKey(r.Seq), sc.encode())
	}
	err := r.Err()
	if b != nil && be.Uint64(b) != 0 {
		return &commitlog.CommitError{ID: commitlog.CommitID(be.Uint64(b)), Err: commitlog.ErrOwnCommitMissing, Reason: "acknowledged, and then refused"}
	}
	if !refusal(err) {
		return err // nobody knows what became of it: it is sent again as it is
	}
	at, _, _ := s.attempt()
	attempt := b != nil && at == r.Seq
	if b == nil || errors.Is(err, wire.ErrAfterRefused) && !attempt {
		return nil // a consequence of a refusal dealt with before
	}
	switch {
	case errors.Is(err, commitlog.ErrRevoked), errors.Is(err, commitlog.ErrUnknownSigner):
		// Whether it is so, the log will say. The word of the secondary ends
		// the session, and no more.
		return err
	case errors.Is(err, commitlog.ErrEquivocation):
		return fmt.Errorf("the secondary says that another copy of this device has written: %w", err)
	case attempt:
		return e.refuseAttempt(s, r.Seq, err)
	case errors.Is(err, wire.ErrQuota):
		return s.noRoom(r.Seq, err.Error())
	case r.Code.Action() == wire.ActionRetry && e.refusals < maxRefusals:
		// It was right when it was signed and the log has moved on: build it anew.
		e.refusals++
		e.uploaded = make(map[commitlog.Hash]bool)
		if err := s.refuse(r.Seq, err.Error()); err != nil {
			return err
		}
		return s.retryAside()
	}
	return s.refuse(r.Seq, err.Error())
}

// refusal reports whether an answer says that a commit is not in the log. Other
// errors say that the secondary does not know.
func refusal(err error) bool {
	code := wire.CodeOf(err)
	switch code {
	case wire.CodeCondition, wire.CodeAfterRefused, wire.CodeObjectMissing, wire.CodeTooLarge, wire.CodeRegistration, wire.CodeQuota:
		return true
	}
	return code >= 100
}

// upload returns the next UPLOAD, or the objects that have to go before it, or
// nothing if there is nothing to send now.
func (e *engine) upload() ([]wire.Message, error) {
	if out, under, err := e.sendAttempt(); under || err != nil {
		return out, err
	}
	for {
		out, err := e.nextUpload()
		if err != nil || out != nil || e.object != nil || e.drained || e.v.hold.Load() {
			return out, err
		}
		if !e.maySign() {
			return nil, nil
		}
		err = e.v.update(func(s *state) error {
			more, err := s.build(buildBytes)
			e.drained = !more
			return err
		})
		if err != nil {
			return nil, err
		}
		if e.drained {
			return e.nextUpload()
		}
	}
}

// nextUpload returns messages for commits that are signed and not sent in this
// session. Where there are none, it sees whether anything is left to sign.
func (e *engine) nextUpload() (out []wire.Message, err error) {
	if e.object != nil {
		if out, err := e.pushObject(); err != nil || e.object != nil {
			return out, err
		}
	}
	var items []wire.Item
	size := 0
	err = e.v.view(func(s *state) error {
		err := s.sent.Scan(localKey(e.sent+1), func(k, b []byte) (bool, error) {
			c, err := parseSent(slices.Clone(b))
			if err != nil || c.commit.Header.Kind == commitlog.KindSerialised {
				return false, err // sendAttempt's
			}
			for i := range c.commit.Changes {
				ch := &c.commit.Changes[i]
				if ch.HasObject() && !e.uploaded[ch.ObjectHash] {
					e.object = &objectUpload{hash: ch.ObjectHash, size: ch.ObjectSize}
					if s.outbox.Get(localKey(c.locals[i])) != nil {
						e.object.local = c.locals[i]
					}
					return false, nil
				}
			}
			bundle, err := s.bundle(c)
			if err != nil {
				return false, err
			}
			if size > 0 && size+bundle.EncodedSize() > wire.MaxFrame/2 {
				return false, nil
			}
			data, _ := bundle.AppendBinary(make([]byte, 0, bundle.EncodedSize()))
			cut := wire.Cut(data)
			if len(cut) > 1 && size > 0 {
				return false, nil
			}
			items = append(items, cut...)
			e.sent = be.Uint64(k)
			size += len(data)
			return size < uploadBytes && len(cut) == 1, nil
		})
		if err == nil && len(items) == 0 && s.unsent.Empty() {
			e.drained = true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		if e.object != nil {
			return e.pushObject()
		}
		return nil, nil
	}
	e.frames++
	if items[0].Kind == wire.ItemBundle {
		return []wire.Message{&wire.Upload{Items: items}}, nil
	}
	for _, i := range items { // the parts of one large commit
		out = append(out, &wire.Upload{Items: []wire.Item{i}})
	}
	return out, nil
}

// pushObject returns OBJECT messages for the object under way: first a question
// for what the secondary has of it, then the rest.
func (e *engine) pushObject() (out []wire.Message, err error) {
	o := e.object
	if !o.asked {
		o.asked = true
		o.wait++
		return []wire.Message{&wire.Object{Hash: o.hash, Size: o.size}}, nil
	}
	if !o.known || o.sent == o.size || o.wait >= objectWindow {
		return nil, nil
	}
	f, err := e.v.objects.Open(o.hash)
	if err == nil {
		defer f.Close()
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && uint64(f.Size) != o.size {
		// The disk has lost or cut it, or it never was here and the secondary has
		// dropped it since. The commit goes up without it and is refused; the others
		// go on.
		if o.wait == 0 {
			e.untaken(o, ErrNotAll)
			e.uploaded[o.hash], e.object = true, nil
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	for o.wait < objectWindow && o.sent < o.size {
		data := make([]byte, min(uint64(wire.MaxRange), o.size-o.sent))
		if _, err := f.ReadAt(data, int64(o.sent)); err != nil {
			return nil, fmt.Errorf("%w: object: %v", ErrDamaged, err)
		}
		out = append(out, &wire.Object{Hash: o.hash, Size: o.size, Offset: o.sent, Data: data})
		o.sent += uint64(len(data))
		o.wait++
	}
	return out, nil
}

func (e *engine) onHave(h *wire.Have) error {
	o := e.object
	if o == nil || h.Hash != o.hash || o.wait == 0 {
		return fmt.Errorf("%w: HAVE for an object that was not sent", wire.ErrProtocol)
	}
	o.wait--
	if !o.known {
		o.known, o.sent = true, min(h.Bytes, o.size)
	}
	o.there = min(h.Bytes, o.size)
	if h.Whole {
		e.up.arrived(o.local, o.size)
	}
	// Where it cannot be taken, the commit that names it goes up without it and
	// is refused with the secondary's reason.
	if h.Whole || h.Code != 0 {
		e.uploaded[o.hash] = true
	}
	if !h.Whole && h.Code != 0 {
		e.untaken(o, h.Code.Err())
	}
	switch {
	case o.wait > 0:
	case e.uploaded[o.hash]:
		e.object = nil
	case o.sent == o.size:
		// All was sent, and something was dropped on the way.
		if o.stuck > 0 && h.Bytes <= o.stuck || h.Bytes >= o.size {
			return fmt.Errorf("%w: an object does not become whole", wire.ErrProtocol)
		}
		o.stuck, o.sent = max(h.Bytes, 1), h.Bytes
	}
	return nil
}
