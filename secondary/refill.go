package secondary

import (
	"context"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// refill takes commits from the owner that the log has lost, or never had.
func (s *Session) refill(ctx context.Context, m *wire.Refill) (wire.Message, error) {
	if !s.me.device.IsZero() {
		return nil, fmt.Errorf("%w: REFILL from another than the owner", wire.ErrProtocol)
	}
	var bundles []*commitlog.Bundle
	for _, item := range m.Items {
		data, err := s.assemble(&s.refills, item)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			return nil, fmt.Errorf("REFILL: %w", err)
		}
		if b.ID == 0 || (b.Commit.Header.Kind == commitlog.KindControl) != (m.Control != nil) {
			return nil, fmt.Errorf("%w: REFILL of a commit without its place, or without its registrations", wire.ErrProtocol)
		}
		bundles = append(bundles, b)
	}
	if len(bundles) == 0 {
		return nil, nil
	}
	c := &s.server.config
	size, err := c.Engine.Refill(ctx, engine.AppendRequest{Vault: s.vault(), Bundles: bundles, Control: m.Control, Now: c.Now()})
	if err != nil && wire.CodeOf(err) == 0 {
		return nil, err
	}
	c.Hub.Publish(s.vault(), size)
	if err == nil && m.Control != nil {
		if m.Control.Moved == wire.MovedHere {
			s.server.tellMoved(m.Control, size)
		}
		// A backup that is in use again may have let in whom this commit revokes.
		if err := s.endRevoked(ctx, m.Control); err != nil {
			return nil, err
		}
	}
	reply := &wire.Refilled{Size: size}
	if err != nil {
		e := s.answer(err)
		reply.Code, reply.Text = e.Code, e.Text
	}
	return reply, nil
}
