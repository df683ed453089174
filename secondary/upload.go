package secondary

import (
	"context"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// arrival is a commit of an UPLOAD with what becomes of it.
type arrival struct {
	seq     uint64
	leaf    commitlog.Hash
	prev    commitlog.Hash
	bundle  *commitlog.Bundle // nil: it does not parse
	outcome engine.Outcome
}

// upload appends the commits of a frame, those that it completes.
func (s *Session) upload(ctx context.Context, m *wire.Upload) (wire.Message, error) {
	if !s.flow.bound() {
		return nil, fmt.Errorf("%w: UPLOAD without BIND", wire.ErrProtocol)
	}
	var arrivals []arrival
	var bundles []*commitlog.Bundle
	for _, item := range m.Items {
		data, err := s.assemble(&s.parts, item)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		a, err := s.arrive(data)
		if err != nil {
			return nil, err
		}
		if a.bundle != nil && (a.bundle.Commit.Header.Kind == commitlog.KindControl) != (m.Control != nil) {
			return nil, fmt.Errorf("%w: registrations go with a control commit, and with no other", wire.ErrProtocol)
		}
		arrivals = append(arrivals, a)
		if a.bundle != nil {
			bundles = append(bundles, a.bundle)
		}
	}
	if len(arrivals) == 0 {
		return nil, nil
	}
	if err := s.append(ctx, m, arrivals, bundles); err != nil {
		return nil, err
	}

	reply := &wire.Uploaded{Results: make([]wire.Result, len(arrivals))}
	for i := range arrivals {
		a := &arrivals[i]
		r := wire.Result{Seq: a.seq, ID: a.outcome.ID}
		if err := a.outcome.Err; err != nil {
			// A commit that was built on a refused one says nothing about itself.
			if a.prev == s.refused && !s.refused.IsZero() {
				err = wire.ErrAfterRefused
			}
			s.refused = a.leaf
			e := s.answer(err)
			r.Code, r.Text = e.Code, e.Text
			s.noteQuota(e.Code)
		}
		reply.Results[i] = r
	}
	return reply, nil
}

// arrive parses a bundle. One that does not parse is refused in its place; one
// that is not the client's to send is an error.
func (s *Session) arrive(data []byte) (arrival, error) {
	header := data[8 : 8+commitlog.HeaderSize] // the wire's shortest bundle is longer
	h, headerErr := commitlog.ParseHeader(header)
	a := arrival{seq: h.Seq, leaf: commitlog.LeafHash(header), prev: h.PrevLeaf}
	b, err := commitlog.ParseBundle(data)
	switch {
	case headerErr == nil && h.Device != s.me.device, err == nil && b.ID != 0:
		return a, fmt.Errorf("%w: a commit that is not the client's own, or not new", wire.ErrProtocol)
	case err != nil && h.Seq == 0:
		return a, fmt.Errorf("UPLOAD: %w", err)
	case err != nil:
		a.outcome.Err = err
	default:
		a.bundle = b
	}
	return a, nil
}

// append has the engine decide on the bundles and files the outcomes.
func (s *Session) append(ctx context.Context, m *wire.Upload, arrivals []arrival, bundles []*commitlog.Bundle) error {
	if len(bundles) == 0 {
		return nil
	}
	// Here and not in the transaction, in which one after the other is decided on: it
	// takes longer than all else. The engine finds the result.
	for _, b := range bundles {
		b.Commit.Verify(s.vault(), s.sign)
	}
	outcomes, size, err := s.server.config.Engine.Append(ctx, engine.AppendRequest{
		Vault: s.vault(), Bundles: bundles, Condition: m.Condition, Control: m.Control, Now: s.server.config.Now(),
	})
	if err != nil {
		return err
	}
	for i := range arrivals {
		if arrivals[i].bundle != nil {
			arrivals[i].outcome, outcomes = outcomes[0], outcomes[1:]
			if arrivals[i].outcome.Err == nil {
				s.server.counts.commits.Add(1)
			}
		}
	}
	s.server.config.Hub.Publish(s.vault(), size)
	if m.Control != nil && arrivals[0].outcome.Err == nil {
		s.server.tellMoved(m.Control, size)
		return s.endRevoked(ctx, m.Control)
	}
	return nil
}

// object takes bytes of an object, or says how many are there.
func (s *Session) object(ctx context.Context, m *wire.Object) (wire.Message, error) {
	e := s.server.config.Engine
	reply := &wire.Have{Hash: m.Hash}
	if m.Size > s.server.config.MaxObject {
		reply.Code = wire.CodeTooLarge
		return reply, nil
	}
	var err error
	reply.Bytes, err = e.WriteObject(ctx, s.vault(), m.Hash, m.Size, m.Offset, m.Data)
	if code := wire.CodeOf(err); code == wire.CodeBlob || code == wire.CodeQuota {
		s.noteQuota(code)
		reply.Code = code
		return reply, nil
	}
	reply.Whole = reply.Bytes == m.Size
	return reply, err
}
