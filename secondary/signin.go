package secondary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// hello proves the server to the client, which has named nobody yet.
func (s *Session) hello(m *wire.Hello) (wire.Message, error) {
	c := &s.server.config
	if m.Proto != wire.Proto {
		return nil, fmt.Errorf("%w: %d, not %d", wire.ErrVersion, m.Proto, wire.Proto)
	}
	if len(c.URLs) > 0 && !slices.Contains(c.URLs, m.Audience) {
		return nil, wire.ErrAudience
	}
	reply := &wire.SHello{Server: c.Key.Public(), Binding: c.Binding, Time: uint64(c.Now().UnixMilli())}
	if _, err := io.ReadFull(c.Random, reply.Nonce[:]); err != nil {
		return nil, err
	}
	s.proof = wire.Transcript{
		Audience: m.Audience, Proto: m.Proto, ClientNonce: m.Nonce, ServerNonce: reply.Nonce,
		Server: reply.Server, Binding: c.Binding, Time: reply.Time,
	}
	if c.Binding == wire.BindingExporter {
		if len(s.exporter) != wire.ExporterSize {
			return nil, errors.New("binding to TLS on a connection without it")
		}
		s.proof.Exporter = s.exporter
	}
	reply.Signature = c.Key.Sign(keys.PurposeServerHello, keys.VaultID{}, s.proof.Bytes())
	s.state = stateProved
	return reply, nil
}

// auth signs a device or the owner in. A vault, a device and a signature that
// are not known fail alike, after the same work.
func (s *Session) auth(ctx context.Context, m *wire.Auth) (wire.Message, error) {
	author, err := s.server.config.Engine.Author(ctx, m.Vault, m.Device)
	if err != nil && !errors.Is(err, wire.ErrNotFound) {
		return nil, err
	}
	known := err == nil
	key := author.Auth
	if !known {
		key = s.server.config.Key.Public() // verifies as slowly as any
	}
	signed := s.proof.ClientBytes(m.Role, m.Device)
	if !key.Verify(keys.PurposeClientAuth, m.Vault, signed, m.Signature[:]) || !known {
		return &wire.Fail{Code: wire.CodeDenied}, nil
	}
	s.sign = author.Sign
	return s.signedIn(ctx, who{m.Vault, m.Device})
}

// create makes a vault with an invite and signs its owner in.
func (s *Session) create(ctx context.Context, m *wire.Create) (wire.Message, error) {
	if s.counts {
		if wait := s.server.creates.take(s.from, s.server.config.Now(), 1); wait > 0 {
			return nil, busy(wait, "too many vaults were tried to be created from this address")
		}
	}
	vault := m.Authority().VaultID()
	signed := s.proof.ClientBytes(wire.RoleCreate, m.Token)
	if !m.Auth.Verify(keys.PurposeClientAuth, vault, signed, m.Signature[:]) {
		return &wire.Fail{Code: wire.CodeDenied}, nil
	}
	err := s.server.config.Engine.Create(ctx, m.Token, m.Authority(), s.server.config.Now())
	if errors.Is(err, wire.ErrInvite) {
		return &wire.Fail{Code: wire.CodeInvite}, nil
	}
	if errors.Is(err, wire.ErrSuspended) {
		return &wire.Fail{Code: wire.CodeSuspended}, nil
	}
	if err != nil {
		return nil, err
	}
	s.sign = m.Authority().Sign
	return s.signedIn(ctx, who{vault, keys.DeviceID{}})
}

// signedIn lets a client in that has proved itself, unless it is barred. It takes
// over from the device's older session, if there is one.
func (s *Session) signedIn(ctx context.Context, w who) (wire.Message, error) {
	if code, err := s.barred(ctx, w); code != 0 || err != nil {
		return failed(code, err)
	}
	if err := s.server.sessions.enter(w, s, wire.ErrReplaced); err != nil {
		if errors.Is(err, wire.ErrBusy) {
			s.server.counts.sessions.Add(1)
		}
		return nil, err
	}
	s.me = w
	s.state = stateSigned
	// A revocation or suspension that was under way has looked for this session
	// before it was there to be ended.
	if code, err := s.barred(ctx, w); code != 0 || err != nil {
		return failed(code, err)
	}
	return &wire.OK{}, nil
}

func failed(code wire.Code, err error) (wire.Message, error) {
	if err != nil {
		return nil, err
	}
	return &wire.Fail{Code: code}, nil
}

// endRevoked ends the sessions of the devices that a control commit revoked: of
// those that the log says are, since the commit may be an old one sent again.
func (s *Session) endRevoked(ctx context.Context, c *wire.Control) error {
	for i := range c.Devices {
		d := who{s.vault(), c.Devices[i].Device}
		if !c.Devices[i].Revoked || d == s.me {
			continue
		}
		author, err := s.server.config.Engine.Author(ctx, d.vault, d.device)
		if err != nil {
			return err
		}
		if author.Revoked == 0 {
			continue
		}
		if other := s.server.sessions.of(d); other != nil && other != s {
			other.End(commitlog.ErrRevoked)
		}
	}
	return nil
}
