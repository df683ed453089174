package secondary_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// direct is a session without a connection: what it is told and what it says are
// in an order that the test decides.
type direct struct {
	*secondary.Session
	f *fixture
}

func (f *fixture) direct(v *rawvault.Vault, role wire.Role, id keys.DeviceID, key keys.SigningKey) *direct {
	f.t.Helper()
	s := &direct{f.server.NewSession(nil, func() {}), f}
	f.t.Cleanup(s.Close)
	h := &wire.Hello{Proto: wire.Proto, Audience: f.client.URL + "/"}
	rand.Read(h.Nonce[:])
	hello := s.tell(h)[0].(*wire.SHello)
	t := &wire.Transcript{Audience: h.Audience, Proto: h.Proto, ClientNonce: h.Nonce, ServerNonce: hello.Nonce, Server: hello.Server, Binding: hello.Binding, Time: hello.Time}
	if m := s.tell(proof(t, v.ID(), role, id, key)); len(m) != 1 || m[0].Type() != wire.TypeOK {
		f.t.Fatalf("sign-in: %+v", m)
	}
	return s
}

func (f *fixture) directDevice(v *rawvault.Vault, d *rawvault.Device) *direct {
	f.t.Helper()
	return f.direct(v, wire.RoleDevice, d.ID, d.Auth)
}

// encoded returns the message as it arrives: every one can be sent.
func (s *direct) encoded(m wire.Message) wire.Message {
	s.f.t.Helper()
	frame, err := wire.Append(nil, m)
	if err != nil {
		s.f.t.Fatal(err)
	}
	if m, err = wire.Parse(frame); err != nil {
		s.f.t.Fatal(err)
	}
	return m
}

// tell returns the answers to a message.
func (s *direct) tell(m wire.Message) (replies []wire.Message) {
	s.f.t.Helper()
	frame, err := wire.Append(nil, m)
	if err != nil {
		s.f.t.Fatal(err)
	}
	for _, r := range s.Handle(s.f.ctx, frame) {
		replies = append(replies, s.encoded(r))
	}
	return replies
}

// next returns what the session says next, nil for nothing.
func (s *direct) next() wire.Message {
	s.f.t.Helper()
	m := s.Next(s.f.ctx)
	if m == nil {
		return nil
	}
	return s.encoded(m)
}

// says returns what the session says next, which must be an M.
func says[M wire.Message](s *direct) M {
	s.f.t.Helper()
	m, ok := s.next().(M)
	if !ok {
		s.f.t.Fatalf("it says %+v, want a %T", m, m)
	}
	return m
}

// refuses checks that a request alone is refused, and the session goes on.
func (s *direct) refuses(m wire.Message, request uint32, want error) {
	s.f.t.Helper()
	replies := s.tell(m)
	e, ok := replies[0].(*wire.Error)
	if len(replies) != 1 || !ok || e.Request != request || !errors.Is(e, want) {
		s.f.t.Errorf("%v is answered with %+v, want %v for request %d", m.Type(), replies, want, request)
	}
	if s.SignedIn() != true {
		s.f.t.Error("the session is over")
	}
}

// ends checks that a message ends the session.
func (s *direct) ends(m wire.Message, want error) {
	s.f.t.Helper()
	replies := s.tell(m)
	if len(replies) != 1 || !secondary.Final(replies[0]) || !errors.Is(replies[0].(*wire.Error), want) {
		s.f.t.Errorf("%v is answered with %+v, want the end with %v", m.Type(), replies, want)
	}
}

// aLog is a vault whose every commit is known.
type aLog struct {
	*rawvault.Vault
	f       *fixture
	commits []*commitlog.Bundle
}

// aLog makes a vault without commits.
func (f *fixture) aLog() *aLog {
	f.t.Helper()
	l := &aLog{Vault: rawvault.New(), f: f}
	token := wire.Token{1}
	if err := f.engine.Invite(f.ctx, token, 1, time.Now().Add(time.Hour), nil); err != nil {
		f.t.Fatal(err)
	}
	if err := f.engine.Create(f.ctx, token, l.Authority.Public(), time.Now()); err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (l *aLog) append(b *commitlog.Bundle, c *wire.Control) {
	l.f.t.Helper()
	out, _, err := l.f.engine.Append(l.f.ctx, engine.AppendRequest{Vault: l.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: time.Now()})
	if err != nil || out[0].Err != nil || uint64(out[0].ID) != l.Size()+1 {
		l.f.t.Fatalf("append: %+v, %v", out, err)
	}
	l.Appended(b.Commit.Leaf())
	l.commits = append(l.commits, b)
}

// data appends a commit of a device.
func (l *aLog) data(b *commitlog.Bundle) { l.append(b, nil) }

// devices registers n devices in one control commit.
func (l *aLog) devices(n int) (devices []*rawvault.Device) {
	l.f.t.Helper()
	var all []wire.Registration
	for range n {
		d := l.NewDevice()
		devices, all = append(devices, d), append(all, d.Registration(false))
	}
	l.append(l.ControlCommit(all...))
	return devices
}

// testLog returns a fixture with a log of seven commits by two devices, with
// changes that are live and some that were, in three namespaces beside the control
// log.
func testLog(t *testing.T, change func(*secondary.Config)) (*aLog, []*rawvault.Device) {
	t.Helper()
	l := start(t, change).aLog()
	d := l.devices(2)
	l.data(d[0].Commit(keys.Tag{2}, 3))
	l.data(d[1].Commit(keys.Tag{1}, 2))
	l.data(d[0].Edit(keys.Tag{2}, commitlog.ChangeID{Commit: 2, Index: 1}))
	l.append(l.ControlCommit())
	l.data(d[1].Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 3}, commitlog.ChangeID{Commit: 3, Index: 1}))
	l.data(d[1].Commit(keys.Tag{3}, 1))
	return l, d
}
