package secondary_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a server on a loopback port.
type fixture struct {
	t      testing.TB
	dir    string // of the engine
	engine engine.Engine
	server *secondary.Server
	http   *httptest.Server
	client client.Server
	ctx    context.Context
}

// timeout only ends a test that hangs.
const timeout = 5 * time.Minute

// start starts a server; change may alter its config, and whether it has TLS.
func start(t testing.TB, change func(*secondary.Config)) *fixture {
	t.Helper()
	return startOn(t, nil, change)
}

// inBubble runs a test in a bubble where time goes on when everybody waits, with
// a server that is reached without a network.
func inBubble(t *testing.T, change func(*secondary.Config), test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := secondarytest.NewPipe()
		f := startOn(t, p, change)
		f.client.NetDial = p.Dial
		test(t, f)
	})
}

// startOn starts a server on a listener, nil for a port of its own.
func startOn(t testing.TB, l net.Listener, change func(*secondary.Config)) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	f := &fixture{t: t, ctx: ctx, dir: t.TempDir()}
	e, err := embedded.Open(f.dir, embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	config := secondary.Config{Engine: e, Key: keys.GenerateSigningKey()}
	if change != nil {
		change(&config)
	}
	f.engine = config.Engine
	f.server, err = secondary.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if l != nil {
		f.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: f.server}}
	} else {
		f.http = httptest.NewUnstartedServer(f.server)
	}
	if config.Binding == wire.BindingExporter {
		f.http.StartTLS()
	} else {
		f.http.Start()
	}
	f.client = client.Server{URL: "ws" + strings.TrimPrefix(f.http.URL, "http"), Key: config.Key.Public(), Binding: config.Binding}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout) // of its own: a bubble's clock may be far on
		defer cancel()
		if err := f.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if n := f.server.HeldBytes(); n != 0 {
			t.Errorf("%d bytes are held for nobody", n)
		}
		f.http.Close()
		if err := e.Close(); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	})
	return f
}

func (f *fixture) invite() wire.Token {
	f.t.Helper()
	i, err := secondary.NewInvite(f.ctx, f.engine, f.client.Key, secondary.Address{URL: f.client.URL}, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return i.Token
}

// peer is a client for tests: what goes wrong fails the test.
type peer struct {
	*client.Conn
	f *fixture
}

func (f *fixture) dial(id client.Identity) *peer {
	f.t.Helper()
	c, err := client.Dial(f.ctx, f.client, id)
	if err != nil {
		f.t.Fatalf("dial: %v", err)
	}
	f.t.Cleanup(func() { c.Close() })
	return &peer{c, f}
}

func (p *peer) send(m wire.Message) {
	p.f.t.Helper()
	if err := p.Send(p.f.ctx, m); err != nil {
		p.f.t.Fatalf("sending %v: %v", m.Type(), err)
	}
}

// receive returns the next message, which must be an M.
func receive[M wire.Message](p *peer) M {
	p.f.t.Helper()
	m, err := p.Receive(p.f.ctx)
	if err != nil {
		p.f.t.Fatalf("receiving: %v", err)
	}
	got, ok := m.(M)
	if !ok {
		p.f.t.Fatalf("received %v, want a %T", m.Type(), got)
	}
	return got
}

// fails checks that the session ends with this error.
func (p *peer) fails(want error) {
	p.f.t.Helper()
	for {
		m, err := p.Receive(p.f.ctx)
		if err == nil {
			p.f.t.Logf("before the end: %v", m.Type())
			continue
		}
		if !errors.Is(err, want) {
			p.f.t.Errorf("session ends with %v, want %v", err, want)
		}
		return
	}
}

func (p *peer) bind(v *rawvault.Vault, size uint64, flags wire.BindFlags) *wire.Bound {
	p.f.t.Helper()
	p.send(&wire.Bind{Size: size, Root: v.Root(size), Flags: flags})
	return receive[*wire.Bound](p)
}

func uploadOf(bundles ...*commitlog.Bundle) *wire.Upload {
	u := &wire.Upload{}
	for _, b := range bundles {
		u.Items = append(u.Items, wire.Cut(rawvault.Encode(b))...)
	}
	return u
}

// upload uploads commits and returns the results.
func (p *peer) upload(bundles ...*commitlog.Bundle) []wire.Result {
	p.f.t.Helper()
	p.send(uploadOf(bundles...))
	return receive[*wire.Uploaded](p).Results
}

// append uploads commits, which must become the log's next.
func (p *peer) append(v *rawvault.Vault, bundles ...*commitlog.Bundle) {
	p.f.t.Helper()
	p.appended(v, p.upload(bundles...), bundles...)
}

func (p *peer) appended(v *rawvault.Vault, results []wire.Result, bundles ...*commitlog.Bundle) {
	p.f.t.Helper()
	if len(results) != len(bundles) {
		p.f.t.Fatalf("%d results for %d commits", len(results), len(bundles))
	}
	for i, r := range results {
		if uint64(r.ID) != v.Size()+1 || r.Seq != bundles[i].Commit.Header.Seq {
			p.f.t.Fatalf("commit %d: %+v, want ID %d", i, r, v.Size()+1)
		}
		v.Appended(bundles[i].Commit.Leaf())
	}
}

// control uploads a control commit.
func (p *peer) control(v *rawvault.Vault, devices ...wire.Registration) {
	p.f.t.Helper()
	b, c := v.ControlCommit(devices...)
	size := v.Size()
	p.send(&wire.Upload{Condition: &size, Control: c, Items: wire.Cut(rawvault.Encode(b))})
	p.appended(v, receive[*wire.Uploaded](p).Results, b)
}

// vault returns a vault with n devices, in commit 1.
func (f *fixture) vault(n int) (*rawvault.Vault, []*rawvault.Device) {
	f.t.Helper()
	v := rawvault.New()
	owner := f.dial(client.NewVault(v.Authority, f.invite()))
	defer owner.Close()
	owner.bind(v, 0, 0)
	var devices []*rawvault.Device
	var registrations []wire.Registration
	for range n {
		d := v.NewDevice()
		devices, registrations = append(devices, d), append(registrations, d.Registration(false))
	}
	owner.control(v, registrations...)
	return v, devices
}

func (f *fixture) device(v *rawvault.Vault, d *rawvault.Device) *peer {
	f.t.Helper()
	return f.dial(client.Device(v.ID(), d.ID, d.Auth))
}

// download receives commits up to an ID and returns their encoded bundles, nil
// for stubs.
func (p *peer) download(from, to commitlog.CommitID) [][]byte {
	p.f.t.Helper()
	var out [][]byte
	var a wire.Assembler
	for from <= to {
		d := receive[*wire.Download](p)
		for _, item := range d.Items {
			b, err := a.Add(item)
			if err != nil {
				p.f.t.Fatal(err)
			}
			switch {
			case item.Kind == wire.ItemStub:
				if id, _ := item.Stub(); id != from {
					p.f.t.Fatalf("stub of commit %d, want %d", id, from)
				}
			case b == nil:
				continue
			default:
				parsed, err := commitlog.ParseBundle(b)
				if err != nil || parsed.ID != from {
					p.f.t.Fatalf("bundle: %v, want commit %d", err, from)
				}
			}
			out = append(out, b)
			from++
		}
		if uint64(from) > d.Size && d.Left != 0 {
			p.f.t.Errorf("at the end of the log, %d bytes are left", d.Left)
		}
	}
	return out
}

// as returns the encoded bundle with its place in the log.
func as(id commitlog.CommitID, b *commitlog.Bundle) string {
	placed := *b
	placed.ID = id
	return string(rawvault.Encode(&placed))
}
