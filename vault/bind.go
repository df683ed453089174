package vault

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// bind begins the session.
func (e *engine) bind() (out []wire.Message, err error) {
	e.fetching = make(map[uint32]fetchRequest)
	e.uploaded = make(map[commitlog.Hash]bool)
	if e.owner == nil && e.mode != PullOnly && e.standing == nil {
		if err := e.v.retryAside(); err != nil {
			return nil, err
		}
	}
	if e.owner == nil && !e.errand {
		if err := e.v.tidy(); err != nil {
			return nil, err
		}
	}
	if err := e.beginBase(); err != nil {
		return nil, err
	}
	return e.begin()
}

// begin does what comes before following the log: to take what is live at a
// checkpoint, to prove that it can be relied on, and, where the log cannot go on
// without it, to pull what is below.
func (e *engine) begin() (out []wire.Message, err error) {
	if e.heard.IsZero() {
		e.heard = e.now
	}
	if e.reset.id != 0 {
		return e.askReset(), nil
	}
	if e.standing != nil {
		return e.follow()
	}
	if e.indexes() {
		if err := e.indexBase(); err != nil {
			return nil, err
		}
	}
	if e.base != nil {
		return e.askBase()
	}
	if len(e.proofs) == 0 && len(e.unproven) == 0 {
		if e.unproven, err = e.claims(); err != nil {
			return nil, err
		}
	}
	if out = e.prove(); len(out) > 0 || len(e.proofs) > 0 {
		return out, nil
	}
	if e.past.urgent {
		if out, err = e.askPast(); err != nil || e.past.urgent {
			return out, err
		}
	}
	return e.follow()
}

// follow sends BIND with the device's position.
func (e *engine) follow() (out []wire.Message, err error) {
	if e.bottom == 0 && e.standing == nil { // below a base there is nothing to compare yet: it is pulled first
		e.whole = e.full || e.whole && e.size < e.first // one that was interrupted begins anew
		e.full = false
	}
	if e.whole {
		e.verifying, e.verified = true, logStart
	}
	b := &wire.Bind{Flags: wire.BindLive}
	if e.stubs() {
		b.Flags |= wire.BindStubs
	}
	e.phase, e.heard = phaseBinding, e.now
	e.parts = wire.Assembler{}
	e.marking = false // what was under way will not be answered
	err = e.v.view(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		e.selection, b.Tags = k.raw, k.bindTags()
		if !e.whole {
			b.Size = s.log.Size()
		}
		e.size = b.Size
		e.wants(s)
		if e.rebuilding, _ = s.rebuilding(); e.rebuilding && e.owner == nil {
			e.quick, b.Flags = false, b.Flags&^wire.BindStubs
		}
		b.Root, err = s.log.RootAt(b.Size)
		return err
	})
	return []wire.Message{b}, err
}

// comparing reports whether a full sync was asked for and has not come to its end.
func (e *engine) comparing() bool {
	return e.full || e.verifying || e.whole && (e.phase != phaseBound || e.size < e.first)
}

// stubs reports whether own commits may come as stubs.
func (e *engine) stubs() bool { return e.owner == nil && !e.own && !e.whole && !e.rebuilding }

// again leaves off following the log, to bind anew: with another position, or
// other wishes.
func (e *engine) again() []wire.Message {
	if e.phase != phaseBound {
		return nil
	}
	e.phase, e.heard = phaseUnbinding, e.now
	return []wire.Message{&wire.Unbind{}}
}

func (e *engine) onUnbound() error {
	if e.phase != phaseUnbinding {
		return fmt.Errorf("%w: UNBOUND without UNBIND", wire.ErrProtocol)
	}
	e.phase = phaseNew
	return nil
}

func (e *engine) onBound(b *wire.Bound) error {
	if e.phase != phaseBinding {
		return fmt.Errorf("%w: BOUND without BIND", wire.ErrProtocol)
	}
	e.phase, e.waited = phaseBound, e.now
	e.first, e.need, e.announced = b.Size, b.Size, b.Size
	e.said = Said{Bound: true, Size: b.Size, Root: b.Root, Last: b.Last}
	err := e.v.view(func(s *state) error {
		if e.owner != nil && e.owner.refill != nil {
			return e.owner.refill.onBound(s, b)
		}
		refuse := func(err error, reason string, args ...any) error {
			return e.mayBeReset(b, &commitlog.CommitError{ID: commitlog.CommitID(b.Size), Err: err, Reason: fmt.Sprintf(reason, args...)})
		}
		if err := e.early(s, b); err != nil {
			return err
		}
		ours := s.log.Size()
		if b.Size < s.log.Base() {
			return refuse(commitlog.ErrRollback, "the secondary has %d commits, this device has begun at %d", b.Size, s.log.Base())
		}
		root, err := s.log.RootAt(min(e.size, b.Size))
		if err != nil {
			return err
		}
		if root != b.Root {
			return refuse(commitlog.ErrFork, "the secondary holds another history")
		}
		if b.Size < ours {
			return refuse(commitlog.ErrRollback, "the secondary has %d commits, this device has verified %d", b.Size, ours)
		}
		if e.acked, err = s.lastAcked(); err != nil {
			return err
		}
		if uint64(b.Reset) > ours && (e.acked > 0 || e.standing != nil) && e.owner == nil && e.reset.known != b.Reset {
			e.reset, e.leave = resetSession{id: b.Reset}, true
			return nil
		}
		if e.standing != nil {
			if is, err := s.passed(); err != nil || !is {
				return errors.Join(err, e.standing)
			}
		}
		if e.reset.known != 0 && e.reset.known == b.Reset {
			e.acked = 0
		}
		if b.Size < e.acked {
			return refuse(commitlog.ErrOwnCommitMissing, "the secondary has %d commits, and has acknowledged one of this device as commit %d", b.Size, e.acked)
		}
		if is, f := s.rebuilding(); is {
			_, err := f.reached(s, b.Size, b.Reset)
			return err
		}
		if e.owner == nil && len(b.Last) > 0 {
			return s.checkLast(b.Last)
		}
		return nil
	})
	if err == nil && e.standing != nil && e.reset.id == 0 {
		err = e.caughtUp()
	}
	return err
}

// lastAcked returns the highest commit ID at which a commit of this device was
// acknowledged that is not verified there yet; 0: none.
func (s *state) lastAcked() (id uint64, err error) {
	err = s.acked.Scan(nil, func(k, _ []byte) (bool, error) {
		id = be.Uint64(k)
		return true, nil
	})
	return id, err
}

// checkLast looks whether this device knows the commit that the secondary says
// is its last. It is believed if its signature is good: no one else can have
// made it.
func (s *state) checkLast(header []byte) error {
	h, err := commitlog.ParseHeader(header)
	if err != nil || h.Device != s.v.keys.device ||
		!s.v.keys.own.Sign.Public().Verify(keys.PurposeCommit, s.v.keys.vault, header[:commitlog.SignedSize], h.Signature[:]) {
		return fmt.Errorf("%w: BOUND names a commit of this device that is not one", wire.ErrProtocol)
	}
	id, err := s.log.OwnCommit(s.v.keys.device, h.Seq)
	if err != nil {
		return err
	}
	known := id != 0 || s.sent.Get(localKey(h.Seq)) != nil || s.refused.Get(localKey(h.Seq)) != nil
	if !known {
		return &commitlog.CommitError{Err: commitlog.ErrDeviceStateRollback,
			Reason: fmt.Sprintf("the secondary has a commit of this device with sequence number %d, which this copy never made", h.Seq)}
	}
	return nil
}
