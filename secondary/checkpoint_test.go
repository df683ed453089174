package secondary_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

var checkpointNow = time.UnixMilli(1_795_280_000_000)

func atCheckpointNow(c *secondary.Config) { c.Now = func() time.Time { return checkpointNow } }

// post returns the message that posts a checkpoint.
func post(request uint32, c *commitlog.Checkpoint) *wire.Checkpoint {
	return &wire.Checkpoint{Request: request, Data: c.Raw}
}

// posts checks that a checkpoint is taken.
func (s *direct) posts(request uint32, c *commitlog.Checkpoint) {
	s.f.t.Helper()
	m := s.tell(post(request, c))
	r, ok := m[0].(*wire.Checkpoint)
	if len(m) != 1 || !ok || r.Request != request || r.Size != 0 || !r.Device.IsZero() || len(r.Data) != 0 {
		s.f.t.Errorf("a posted checkpoint is answered with %+v", m)
	}
}

// asks checks which checkpoint comes before a size and device, nil for none.
func (s *direct) asks(size uint64, device keys.DeviceID, want *commitlog.Checkpoint) {
	s.f.t.Helper()
	if want == nil {
		want = &commitlog.Checkpoint{}
	}
	m := s.tell(&wire.Checkpoint{Request: 77, Size: size, Device: device})
	r, ok := m[0].(*wire.Checkpoint)
	if len(m) != 1 || !ok || r.Request != 77 || r.Size != want.Size || r.Device != want.Device || !bytes.Equal(r.Data, want.Raw) {
		s.f.t.Errorf("before %d of %v: %+v, want that of %d of %v", size, device, m, want.Size, want.Device)
	}
}

// A device posts what its log comes to, and everybody can ask for it.
func TestCheckpoint(t *testing.T) {
	l, d := testLog(t, atCheckpointNow)
	now := uint64(checkpointNow.UnixMilli())
	a, b := l.f.directDevice(l.Vault, d[0]), l.f.directDevice(l.Vault, d[1])
	owner := l.f.direct(l.Vault, wire.RoleOwner, keys.DeviceID{}, l.Authority.Auth)
	for _, s := range []*direct{a, b, owner} {
		s.asks(0, keys.DeviceID{}, nil)
	}
	old := d[0].Checkpoint(l.Comes(l.commits[:5]), now-1000)
	a.posts(1, old)
	a.posts(2, old) // the same again
	for _, s := range []*direct{a, b, owner} {
		s.asks(0, keys.DeviceID{}, old)
		s.asks(6, keys.DeviceID{}, old)
		s.asks(5, keys.DeviceID{}, nil)
	}
	// A day ahead is a clock that is wrong, and good enough.
	newer := d[1].Checkpoint(l.Comes(l.commits), now+24*3600*1000)
	b.posts(1, newer)
	a.asks(0, keys.DeviceID{}, newer)
	a.asks(7, d[1].ID, old)
	newest := d[0].Checkpoint(l.Comes(l.commits[:6]), now-1000)
	a.posts(3, newest)
	a.asks(7, d[1].ID, newest)
	a.asks(6, d[0].ID, nil)

	// Of one that is revoked nothing is kept, and nothing more is taken.
	l.append(l.ControlCommit(d[1].Registration(true)))
	owner.asks(0, keys.DeviceID{}, newest)
	owner.asks(6, d[0].ID, nil)
	b.refuses(post(4, d[1].Checkpoint(l.Comes(l.commits), now+24*3600*1000)), 4, commitlog.ErrRevoked)
	owner.asks(0, keys.DeviceID{}, newest)
}

func TestCheckpointRefuses(t *testing.T) {
	l, d := testLog(t, atCheckpointNow)
	scoped := l.NewDevice()
	r := scoped.Registration(false)
	r.Tags = wire.Tags{{1}}
	l.append(l.ControlCommit(r))
	l.data(scoped.Commit(keys.Tag{1}, 1))
	now := uint64(checkpointNow.UnixMilli())
	kept := d[0].Checkpoint(l.Comes(l.commits[:6]), now)
	a := l.f.directDevice(l.Vault, d[0])
	a.posts(1, kept)

	comes := l.Comes(l.commits)
	changed := func(change func(c *commitlog.Checkpoint)) *commitlog.Checkpoint {
		c := l.Comes(l.commits)
		change(c)
		return d[0].Checkpoint(c, now)
	}
	spoilt := d[0].Checkpoint(comes, now)
	spoilt.Raw = bytes.Clone(spoilt.Raw)
	spoilt.Raw[len(spoilt.Raw)-1] ^= 1
	foreign := rawvault.New()
	tests := []struct {
		name string
		m    *wire.Checkpoint
	}{
		{"no checkpoint", &wire.Checkpoint{Request: 5, Data: []byte{1, 2, 3}}},
		{"a byte more", &wire.Checkpoint{Request: 5, Data: append(bytes.Clone(kept.Raw), 0)}},
		{"with a size", &wire.Checkpoint{Request: 5, Size: 6, Data: kept.Raw}},
		{"with a device", &wire.Checkpoint{Request: 5, Device: d[0].ID, Data: kept.Raw}},
		{"of another device", post(5, d[1].Checkpoint(comes, now))},
		{"of another vault", post(5, changed(func(c *commitlog.Checkpoint) { c.Vault = foreign.ID() }))},
		{"another signature", post(5, spoilt)},
		{"a longer log", post(5, changed(func(c *commitlog.Checkpoint) { c.Size = 16; c.Peaks = c.Peaks[:1] }))},
		{"another log", post(5, changed(func(c *commitlog.Checkpoint) { c.Peaks[0][0] ^= 1 }))},
		{"another author", post(5, changed(func(c *commitlog.Checkpoint) { c.Authors[1].Leaf[0] ^= 1 }))},
		{"another state", post(5, changed(func(c *commitlog.Checkpoint) { c.Namespaces[0].Hash[0] ^= 1 }))},
		{"another number of statements", post(5, changed(func(c *commitlog.Checkpoint) { c.Control.Number-- }))},
		{"from the future", post(5, d[0].Checkpoint(comes, now+24*3600*1000+1))},
		{"an older time", post(5, d[0].Checkpoint(comes, now-1))},
		{"an older size", post(5, d[0].Checkpoint(l.Comes(l.commits[:5]), now))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.refuses(tt.m, 5, wire.ErrProtocol)
			a.asks(0, keys.DeviceID{}, kept)
		})
	}

	// One that may not read all asks, and does not post.
	s := l.f.directDevice(l.Vault, scoped)
	s.asks(0, keys.DeviceID{}, kept)
	s.refuses(post(6, scoped.Checkpoint(comes, now)), 6, commitlog.ErrScope)
	// The owner has no checkpoint of its own.
	owner := l.f.direct(l.Vault, wire.RoleOwner, keys.DeviceID{}, l.Authority.Auth)
	owner.refuses(post(7, kept), 7, wire.ErrProtocol)
	owner.asks(0, keys.DeviceID{}, kept)

	a.posts(8, d[0].Checkpoint(comes, now))
}
