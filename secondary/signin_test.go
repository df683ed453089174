package secondary_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func TestSignIn(t *testing.T) {
	for _, binding := range []wire.Binding{wire.BindingNone, wire.BindingExporter} {
		t.Run(binding.String(), func(t *testing.T) {
			f := start(t, func(c *secondary.Config) { c.Binding = binding })
			if err := client.Probe(f.ctx, f.client); err != nil {
				t.Fatalf("probe: %v", err)
			}
			v, devices := f.vault(1)
			f.dial(client.Owner(v.Authority))
			f.device(v, devices[0])
		})
	}
}

func TestSignInRefused(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	d := devices[0]
	owner := f.dial(client.Owner(v.Authority))
	owner.bind(v, 1, 0)
	owner.control(v, devices[1].Registration(true))

	stranger := rawvault.New()
	expired := wire.Token{7}
	if err := f.engine.Invite(f.ctx, expired, 1, time.Now().Add(-time.Minute), nil); err != nil {
		t.Fatal(err)
	}
	used := f.invite()
	f.dial(client.NewVault(rawvault.New().Authority, used))

	tests := map[string]struct {
		id   client.Identity
		want error
	}{
		"unknown vault, as device":    {client.Device(stranger.ID(), d.ID, d.Auth), wire.ErrDenied},
		"unknown vault, as owner":     {client.Owner(stranger.Authority), wire.ErrDenied},
		"unknown device":              {client.Device(v.ID(), stranger.NewDevice().ID, d.Auth), wire.ErrDenied},
		"another device's key":        {client.Device(v.ID(), d.ID, devices[1].Auth), wire.ErrDenied},
		"the signing key":             {client.Device(v.ID(), d.ID, d.Sign), wire.ErrDenied},
		"owner with a device's key":   {client.Owner(keys.Authority{Sign: v.Authority.Sign, Auth: d.Auth}), wire.ErrDenied},
		"revoked":                     {client.Device(v.ID(), devices[1].ID, devices[1].Auth), commitlog.ErrRevoked},
		"revoked, with another's key": {client.Device(v.ID(), devices[1].ID, d.Auth), wire.ErrDenied},
		"unknown invite":              {client.NewVault(stranger.Authority, wire.Token{9}), wire.ErrInvite},
		"expired invite":              {client.NewVault(stranger.Authority, expired), wire.ErrInvite},
		"used invite":                 {client.NewVault(stranger.Authority, used), wire.ErrInvite},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := client.Dial(f.ctx, f.client, test.id)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// CREATE whose answer was lost is sent again, and is good.
func TestCreateAgain(t *testing.T) {
	f := start(t, nil)
	v := rawvault.New()
	token := f.invite()
	for range 3 {
		f.dial(client.NewVault(v.Authority, token)).Close()
	}
	if n, err := f.engine.Vaults(f.ctx); n != 1 || err != nil {
		t.Errorf("vaults: %d, %v; want 1", n, err)
	}
}

// What refuses a device says nothing about what exists: the same bytes for a
// vault, a device and a signature that are not known.
func TestRefusalsAreAlike(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d, stranger := devices[0], rawvault.New()
	var answers []string
	for _, sign := range []func(*wire.Transcript) *wire.Auth{
		func(tr *wire.Transcript) *wire.Auth { return deviceProof(tr, stranger, d) },
		func(tr *wire.Transcript) *wire.Auth { return deviceProof(tr, v, v.NewDevice()) },
		func(tr *wire.Transcript) *wire.Auth { return proof(tr, v.ID(), wire.RoleDevice, d.ID, d.Sign) },
		func(tr *wire.Transcript) *wire.Auth {
			return proof(tr, stranger.ID(), wire.RoleOwner, keys.DeviceID{}, stranger.Authority.Auth)
		},
		func(tr *wire.Transcript) *wire.Auth {
			return proof(tr, v.ID(), wire.RoleOwner, keys.DeviceID{}, d.Auth)
		},
	} {
		r := dialRaw(t, f)
		r.send(sign(r.hello()))
		answers = append(answers, string(r.read()))
		if _, err := r.tryRead(); err == nil {
			t.Error("the connection is still open")
		}
	}
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("answers differ: %x", answers)
	}
}

// A sign-in that was overheard is worth nothing on another connection.
func TestReplay(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	d := devices[0]
	r := dialRaw(t, f)
	overheard := deviceProof(r.hello(), v, d)
	r.send(overheard)
	if m := r.message(); m.Type() != wire.TypeOK {
		t.Fatalf("the real one: %v", m.Type())
	}
	again := dialRaw(t, f)
	again.hello()
	again.send(overheard)
	if m := again.message(); m.Type() != wire.TypeFail {
		t.Errorf("replayed: %v, want FAIL", m.Type())
	}
}

func TestAudience(t *testing.T) {
	f := start(t, func(c *secondary.Config) { c.URLs = []string{"wss://vault.example.org"} })
	if err := client.Probe(f.ctx, f.client); !errors.Is(err, wire.ErrServerIdentity) {
		t.Errorf("address that is not the server's: %v, want ErrServerIdentity", err)
	}
	known := start(t, func(c *secondary.Config) { c.URLs = []string{"wss://vault.example.org"} })
	r := dialRaw(t, known)
	r.send(&wire.Hello{Proto: wire.Proto, Audience: "wss://vault.example.org/"})
	if m := r.message(); m.Type() != wire.TypeSHello {
		t.Errorf("address that is the server's: %v, want SHELLO", m.Type())
	}
}

func TestOtherVersion(t *testing.T) {
	f := start(t, nil)
	for _, proto := range []uint16{0, 2, 65535} {
		r := dialRaw(t, f)
		r.send(&wire.Hello{Proto: proto, Audience: f.client.URL + "/"})
		m := r.message()
		if e, ok := m.(*wire.Error); !ok || e.Code != wire.CodeVersion || e.Action != wire.ActionUpgrade {
			t.Errorf("version %d: %+v, want ERROR with version and upgrade", proto, m)
		}
	}
}

// A device's second session ends the first, when that has done what it was at.
func TestSecondSession(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	d, other := devices[0], devices[1]
	first, bystander := f.device(v, d), f.device(v, other)
	first.bind(v, 1, wire.BindLive)
	bystander.bind(v, 1, 0)
	b := d.Commit(keys.Tag{1}, 1)
	first.send(uploadOf(b))

	second := f.device(v, d)
	bound := second.bind(v, 1, 0)
	first.fails(wire.ErrReplaced)
	// Either the upload was in time or it was not; the log and BOUND agree.
	head, err := f.engine.Head(f.ctx, v.ID(), 0)
	if err != nil || bound.Size != head.Size || (head.Size == 2) != bytes.Equal(bound.Last, b.Commit.Raw) {
		t.Errorf("BOUND with size %d and a last header of %d bytes; the log has %d, %v", bound.Size, len(bound.Last), head.Size, err)
	}
	bystander.send(&wire.Ping{Token: 1})
	bystander.send(&wire.Mark{Token: 5})
	for {
		m, err := bystander.Receive(f.ctx)
		if err != nil {
			t.Fatalf("another device's session ended: %v", err)
		}
		if m.Type() == wire.TypeMarked {
			break
		}
	}
}

// A sign-in that was on its way when its connection broke does not end the session
// with which the device has come back.
func TestLateSignIn(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	late := dialRaw(t, f)
	proof := deviceProof(late.hello(), v, devices[0])
	back := f.device(v, devices[0])
	late.send(proof)
	if e, ok := late.message().(*wire.Error); !ok || e.Code != wire.CodeReplaced {
		t.Errorf("late sign-in: %+v, want ERROR with replaced", e)
	}
	back.bind(v, 1, 0)
}

// Revoking a device ends its session.
func TestRevokedWhileSignedIn(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	gone, stays := f.device(v, devices[0]), f.device(v, devices[1])
	gone.bind(v, 1, wire.BindLive)
	stays.bind(v, 1, wire.BindLive)
	owner := f.dial(client.Owner(v.Authority))
	owner.bind(v, 1, 0)
	owner.control(v, devices[0].Registration(true))
	gone.fails(commitlog.ErrRevoked)
	stays.download(2, 2)
}

func TestSilenceBeforeSignIn(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		for name, say := range map[string]func(r *raw){
			"silent client":                 func(*raw) {},
			"client that stops after HELLO": func(r *raw) { r.hello() }, // words do not prolong it
		} {
			r := dialRaw(t, f)
			began := time.Now()
			say(r)
			if e, ok := r.message().(*wire.Error); !ok || e.Code != wire.CodeTimeout {
				t.Errorf("%s: %+v, want ERROR with timeout", name, e)
			}
			if took := time.Since(began); took != 30*time.Second {
				t.Errorf("%s: had %v, want 30 s", name, took)
			}
		}
	})
}

func TestIdle(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		v, devices := f.vault(1)
		r := signedInRaw(t, f, v, devices[0])
		began := time.Now()
		if e, ok := r.message().(*wire.Error); !ok || e.Code != wire.CodeTimeout {
			t.Errorf("idle client: %+v, want ERROR with timeout", e)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("idle client: had %v, want 90 s", took)
		}

		p := f.device(v, devices[0]) // sends pings
		time.Sleep(3 * time.Minute)
		p.bind(v, 1, 0)
	})
}

// A revocation that the secondary had lost, and is sent again, ends sessions as one that
// is new does.
func TestRefilledRevocation(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(2)
	gone, stays := f.device(v, devices[0]), f.device(v, devices[1])
	gone.bind(v, 1, wire.BindLive)
	owner := f.dial(client.Owner(v.Authority))
	b, c := v.ControlCommit(devices[0].Registration(true))
	b.ID = 2
	owner.send(&wire.Refill{Control: c, Items: wire.Cut(rawvault.Encode(b))})
	if m := receive[*wire.Refilled](owner); m.Size != 2 || m.Code != 0 {
		t.Fatalf("refilled: %+v", m)
	}
	gone.fails(commitlog.ErrRevoked)
	stays.send(&wire.Fetch{Request: 1, Commit: 1, Length: 1})
	receive[*wire.Blobs](stays)
}
