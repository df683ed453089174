package vault

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/wire"
)

func (e *engine) onDownload(d *wire.Download) error {
	switch e.phase {
	case phaseBound:
	case phaseUnbinding:
		return nil // sent before the secondary read UNBIND; it comes again
	default:
		return fmt.Errorf("%w: DOWNLOAD before BOUND", wire.ErrProtocol)
	}
	if e.leave {
		return nil
	}
	e.announced, e.left = max(e.announced, d.Size), d.Left
	var in []*incoming
	type stub struct {
		id  commitlog.CommitID
		seq uint64
	}
	stubs := make(map[int]stub)
	for _, item := range d.Items {
		data, err := e.parts.Add(item)
		if err != nil {
			return err
		}
		if item.Kind == wire.ItemStub {
			if !e.stubs() {
				return fmt.Errorf("%w: a stub that was not asked for", wire.ErrProtocol)
			}
			id, seq := item.Stub()
			stubs[len(in)] = stub{id, seq}
			in = append(in, nil)
			continue
		}
		if data == nil {
			continue
		}
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			return &commitlog.CommitError{ID: commitlog.CommitID(e.size) + commitlog.CommitID(len(in)) + 1, Err: err}
		}
		in = append(in, &incoming{bundle: b})
	}
	var err error
	if e.unproven, err = e.doubt(in); err != nil {
		return err
	}
	if len(e.unproven) > 0 {
		e.leave = true // and it comes again
		return nil
	}
	come := slices.DeleteFunc(slices.Clone(in), func(i *incoming) bool { return i == nil })
	for _, x := range come {
		if err := e.reset.asShown(x.bundle); err != nil {
			return err
		}
	}
	e.v.openAll(come)
	if err := e.v.verifyAhead(come, func(s *state) (*store.Log, error) { return s.log, nil }); err != nil {
		return err
	}
	for at := 0; at < len(in); {
		var done applied
		var next int
		var leaves bool
		err := e.v.update(func(s *state) error {
			done, next, leaves = applied{}, at, false
			s.excused = e.reset.known
			for n := 0; next < len(in) && n < applyChanges && !leaves; next++ {
				x := in[next]
				if x == nil {
					var err error
					if x, _, err = s.own(stubs[next].id, stubs[next].seq); errors.Is(err, commitlog.ErrDeviceStateRollback) {
						return errUnknownStub // a stub proves nothing: the commit itself has to be seen
					} else if err != nil {
						return err
					}
				}
				if err := s.take(x, commitlog.CommitID(e.size)+commitlog.CommitID(next-at)+1, &done); err != nil {
					return err
				}
				n += len(x.bundle.Commit.Changes)
				size := e.size + uint64(next-at) + 1
				if size == e.first || x.bundle.Commit.Header.Kind == commitlog.KindControl {
					var err error
					if leaves, err = s.leaves(e, size); err != nil {
						return err
					}
				}
			}
			e.wants(s)
			return nil
		})
		if errors.Is(err, commitlog.ErrNeedsHistory) {
			e.past.urgent, e.leave = true, true
			return nil
		}
		if err != nil {
			if next < len(in) && in[next] != nil {
				e.said.Header = in[next].bundle.Commit.Raw
			}
			return err
		}
		e.size += uint64(next - at)
		e.report.Pulled += done.changes
		e.report.Pushed += done.own
		e.report.Conflicts += done.conflicts
		e.pulledBytes += done.bytes
		e.pushedBytes += done.ownBytes
		if leaves {
			return errElsewhere // and takes nothing that comes behind
		}
		at = next
	}
	e.planned = false
	e.drained = false
	return nil
}

// signedAs returns the commit that this device has signed with a sequence number,
// as far as it is not known to be in the log; nil: none.
func (s *state) signedAs(seq uint64) []byte {
	if b := s.sent.Get(localKey(seq)); b != nil {
		return b
	}
	return s.refused.Get(localKey(seq))
}

// own returns a commit of this device, as the log says it stands at id, from
// what the device kept when it signed it.
func (s *state) own(id commitlog.CommitID, seq uint64) (*incoming, *sentCommit, error) {
	b := s.signedAs(seq)
	if b == nil {
		return nil, nil, &commitlog.CommitError{ID: id, Err: commitlog.ErrDeviceStateRollback, Reason: fmt.Sprintf("this device does not know its own commit with sequence number %d", seq)}
	}
	sc, err := parseSent(slices.Clone(b))
	if err != nil {
		return nil, nil, err
	}
	if in := s.ownAttempt(id, sc); in != nil {
		return in, sc, nil
	}
	in := &incoming{
		bundle: &commitlog.Bundle{ID: id, Commit: sc.commit, Blobs: make([][]byte, len(sc.locals))},
		opened: make([]opened, len(sc.locals)), locals: make([]uint64, len(sc.locals)),
	}
	for i, local := range sc.locals {
		if s.outbox.Get(localKey(local)) == nil {
			continue // it was replaced, or is in the log by another commit: the blob is fetched like any other
		}
		p, err := s.pendingChange(local)
		if err != nil {
			return nil, nil, err
		}
		e, err := s.record(p.key)
		if err != nil {
			return nil, nil, err
		}
		if e == nil {
			return nil, nil, fmt.Errorf("%w: pending change without its record", ErrDamaged)
		}
		in.locals[i] = local
		in.opened[i] = opened{known: true, understood: true, key: p.key, name: e.name, clock: p.clock}
		if commitlog.CheckBlob(&sc.commit.Changes[i], p.blob) == nil { // it may have been sealed anew
			in.bundle.Blobs[i] = p.blob
		}
	}
	return in, sc, nil
}
