package secondary_test

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// Sessions of a suspended vault end, and none begins; only who proves to belong to it
// is told why. Afterwards all is as before.
func TestSuspend(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	other, others := f.vault(1)
	d := devices[0]
	session, bystander := f.device(v, d), f.device(other, others[0])
	session.bind(v, 1, wire.BindLive)
	for _, state := range []engine.State{engine.StateSuspended, engine.StateDeleted} {
		if err := f.engine.SetState(f.ctx, v.ID(), state, time.Now()); err != nil {
			t.Fatal(err)
		}
		f.server.EndSessions(v.ID(), wire.ErrSuspended)
		if state == engine.StateSuspended {
			session.fails(wire.ErrSuspended)
		}
		for who, test := range map[string]struct {
			id   client.Identity
			want error
		}{
			"device":         {client.Device(v.ID(), d.ID, d.Auth), wire.ErrSuspended},
			"owner":          {client.Owner(v.Authority), wire.ErrSuspended},
			"creator":        {client.NewVault(v.Authority, f.invite()), wire.ErrSuspended},
			"wrong key":      {client.Device(v.ID(), d.ID, d.Sign), wire.ErrDenied},
			"unknown device": {client.Device(v.ID(), keys.DeviceID{1}, d.Auth), wire.ErrDenied},
			"unknown vault":  {client.Device(keys.VaultID{1}, d.ID, d.Auth), wire.ErrDenied},
		} {
			if _, err := client.Dial(f.ctx, f.client, test.id); !errors.Is(err, test.want) {
				t.Errorf("%v: %s: %v, want %v", state, who, err, test.want)
			}
		}
	}
	bystander.send(&wire.Snapshot{Request: 1, Size: 1})
	receive[*wire.State](bystander)

	if err := f.engine.SetState(f.ctx, v.ID(), engine.StateActive, time.Now()); err != nil {
		t.Fatal(err)
	}
	p := f.device(v, d)
	p.bind(v, 1, 0)
	p.append(v, d.Commit(keys.Tag{1}, 1))
	if n := f.server.Sessions(v.ID()); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// What is over the quota is refused, and the session goes on; when there is room it
// ends, and the device comes back with it.
func TestQuota(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	set := func(q engine.Quota) {
		t.Helper()
		if err := f.engine.SetQuota(f.ctx, v.ID(), &q); err != nil {
			t.Fatal(err)
		}
	}
	p := f.device(v, d)
	p.bind(v, 1, 0)
	p.append(v, d.Commit(keys.Tag{1}, 1))
	set(engine.Quota{Bytes: 1000})
	b := d.Commit(keys.Tag{1}, 1)
	if r := p.upload(b)[0]; !errors.Is(r.Err(), wire.ErrQuota) || r.Code.Action() != wire.ActionRetryAfter {
		t.Errorf("over the quota: %+v, want ErrQuota", r)
	}
	p.send(&wire.Object{Hash: commitlog.Hash{1}, Size: 5000})
	if h := receive[*wire.Have](p); !errors.Is(h.Err(), wire.ErrQuota) {
		t.Errorf("an object over the quota: %+v, want ErrQuota", h)
	}
	set(engine.Quota{})
	f.server.MadeRoom()
	_, err := p.Receive(f.ctx)
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeBusy || e.RetryAfter == 0 {
		t.Errorf("the session ends with %v, want busy with a time", err)
	}
	again := f.device(v, d)
	again.bind(v, 2, 0)
	again.append(v, b)
	f.server.MadeRoom() // nobody waits any more
	again.send(&wire.Snapshot{Request: 1, Size: 1})
	receive[*wire.State](again)
}

// away has the server take all connections for those of one address, and its clock
// stand still.
func away(l secondary.Limits) func(*secondary.Config) {
	now := time.Now()
	return func(c *secondary.Config) {
		c.Limits = l
		c.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
		c.Now = func() time.Time { return now }
	}
}

func TestConnectLimits(t *testing.T) {
	f := start(t, away(secondary.Limits{Connects: secondary.Rate{PerSecond: 0.1, Burst: 3}}))
	for range 3 {
		if err := client.Probe(f.ctx, f.client); err != nil {
			t.Fatal(err)
		}
	}
	err := client.Probe(f.ctx, f.client)
	var e *wire.Error
	if !errors.Is(err, wire.ErrBusy) || !errors.As(err, &e) || e.RetryAfter != 10_000 {
		t.Errorf("one connection too many: %v, want ErrBusy for 10 s", err)
	}

	f = start(t, away(secondary.Limits{Conns: 2}))
	first, second := dialRaw(t, f), dialRaw(t, f)
	second.hello()
	if err := client.Probe(f.ctx, f.client); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("a third connection: %v, want ErrBusy", err)
	}
	first.Close()
	for err := error(wire.ErrBusy); errors.Is(err, wire.ErrBusy); { // until the server knows
		err = client.Probe(f.ctx, f.client)
	}

	// Without limits, and from this machine.
	f = start(t, away(secondary.Limits{Connects: secondary.Rate{PerSecond: -1}, Conns: -1}))
	near := start(t, func(c *secondary.Config) {
		c.Limits = secondary.Limits{Connects: secondary.Rate{PerSecond: 0.001, Burst: 1}, Conns: 1}
	})
	for _, f := range []*fixture{f, near} {
		dialRaw(t, f).hello()
		for range 5 {
			if err := client.Probe(f.ctx, f.client); err != nil {
				t.Error(err)
			}
		}
	}
}

// Guessing tokens is slow, and says nothing.
func TestCreateLimit(t *testing.T) {
	f := start(t, away(secondary.Limits{Creates: secondary.Rate{PerSecond: 0.01, Burst: 2}}))
	f.dial(client.NewVault(rawvault.New().Authority, f.invite()))
	if _, err := client.Dial(f.ctx, f.client, client.NewVault(rawvault.New().Authority, wire.Token{7})); !errors.Is(err, wire.ErrInvite) {
		t.Errorf("a guess: %v, want ErrInvite", err)
	}
	if _, err := client.Dial(f.ctx, f.client, client.NewVault(rawvault.New().Authority, f.invite())); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("a third attempt: %v, want ErrBusy", err)
	}
}

func TestVaultLimits(t *testing.T) {
	f := start(t, away(secondary.Limits{Scans: secondary.Rate{PerSecond: 0.1, Burst: 2}, Sessions: 2}))
	v, devices := f.vault(2)
	p := f.device(v, devices[0])
	for range 2 {
		p.send(&wire.Snapshot{Request: 1, Size: 1})
		receive[*wire.State](p)
	}
	p.send(&wire.Snapshot{Request: 2, Size: 1})
	_, err := p.Receive(f.ctx)
	if e := new(wire.Error); errors.As(err, &e) {
		t.Fatalf("the session has ended: %v", err)
	}
	other, others := f.vault(1)
	q := f.device(other, others[0])
	q.send(&wire.Snapshot{Request: 1, Size: 1})
	receive[*wire.State](q) // another vault's share is its own

	f.device(v, devices[1])
	if _, err := client.Dial(f.ctx, f.client, client.Owner(v.Authority)); !errors.Is(err, wire.ErrBusy) {
		t.Errorf("a third session of the vault: %v, want ErrBusy", err)
	}
	f.device(v, devices[0]) // takes the place of its own
}

// A vault that sends more than it may is read from later, and loses nothing.
func TestMessageLimit(t *testing.T) {
	inBubble(t, func(c *secondary.Config) {
		c.Limits.Messages = secondary.Rate{PerSecond: 10, Burst: 20}
	}, func(t *testing.T, f *fixture) {
		v, devices := f.vault(1)
		p := f.device(v, devices[0])
		begun := time.Now()
		const n = 70
		go func() {
			for i := range uint32(n) {
				if p.Send(f.ctx, &wire.Checkpoint{Request: i + 1}) != nil {
					return
				}
			}
		}()
		for i := range uint32(n) {
			if m := receive[*wire.Checkpoint](p); m.Request != i+1 {
				t.Fatalf("answer %d, want %d", m.Request, i+1)
			}
		}
		if took := time.Since(begun); took < 4*time.Second || took > 8*time.Second {
			t.Errorf("%d messages took %v", n, took)
		}
	})
}
