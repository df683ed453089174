package secondary

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// blobs answers a FETCH.
func (s *Session) blobs(ctx context.Context, m *wire.Fetch) (wire.Message, error) {
	reply, err := s.readRange(ctx, m)
	if err != nil {
		return s.notFound(m.Request, err)
	}
	return reply, nil
}

// prove answers a PROOF.
func (s *Session) prove(ctx context.Context, m *wire.Proof) (wire.Message, error) {
	if len(m.Hashes) > 0 {
		return nil, fmt.Errorf("%w: PROOF that asks with hashes", wire.ErrProtocol)
	}
	hashes, err := s.server.config.Engine.Proof(ctx, s.vault(), m.From, m.To)
	if err != nil {
		return s.notFound(m.Request, err)
	}
	return &wire.Proof{Request: m.Request, From: m.From, To: m.To, Hashes: hashes}, nil
}

// notFound answers a request with the error if that is ErrNotFound. Any other
// ends the session.
func (s *Session) notFound(request uint32, err error) (wire.Message, error) {
	if !errors.Is(err, wire.ErrNotFound) {
		return nil, err
	}
	return s.refuse(request, err)
}

// refuse answers a request with an error that has a code. Any other ends the
// session.
func (s *Session) refuse(request uint32, err error) (wire.Message, error) {
	if wire.CodeOf(err) == 0 {
		return nil, err
	}
	e := s.answer(err)
	e.Request = request
	return e, nil
}

func (s *Session) readRange(ctx context.Context, m *wire.Fetch) (*wire.Blobs, error) {
	id := commitlog.ChangeID{Commit: m.Commit, Index: m.Index}
	ch, blob, err := s.server.config.Engine.Change(ctx, s.vault(), id)
	if err != nil {
		return nil, err
	}
	reply := &wire.Blobs{Request: m.Request}
	if !m.Object {
		if blob == nil {
			reply.Absent = true
			return reply, nil
		}
		reply.Size = uint64(len(blob))
		if m.Offset < reply.Size {
			reply.Data = blob[m.Offset:][:rangeLen(m, reply.Size)]
		}
		return reply, nil
	}
	if !ch.HasObject() {
		return nil, fmt.Errorf("%w: change %v has no object", wire.ErrNotFound, id)
	}
	o, err := s.server.config.Engine.OpenObject(ctx, s.vault(), ch.ObjectHash)
	if errors.Is(err, wire.ErrNotFound) {
		reply.Absent = true
		return reply, nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Close()
	reply.Size = o.Size()
	if m.Offset < reply.Size {
		reply.Data = make([]byte, rangeLen(m, reply.Size))
		if _, err := o.ReadAt(reply.Data, int64(m.Offset)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return reply, nil
}

// rangeLen returns how many bytes a FETCH within a blob of size bytes is sent.
func rangeLen(m *wire.Fetch, size uint64) uint64 {
	return min(uint64(m.Length), wire.MaxRange, size-m.Offset)
}
