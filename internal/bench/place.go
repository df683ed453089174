package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A place is a secondary as kistd runs it: with TLS of its own on a loopback
// port, in a data directory.
type place struct {
	data   *secondary.DataDir
	engine *embedded.Engine
	at     secondary.Address
	plain  client.Server // the same without TLS, to count frames
	ends   []func() error
}

// newPlace starts a secondary; tap, if not nil, sees the frames that it gets.
func newPlace(dir string, tap func([]byte)) (p *place, err error) {
	p = new(place)
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.data, err = secondary.InitDataDir(dir); err != nil {
		return p, err
	}
	p.ends = append(p.ends, p.data.Close)
	if p.engine, err = p.data.OpenEngine(); err != nil {
		return p, err
	}
	p.ends = append(p.ends, p.engine.Close)
	cert, err := p.data.Certificate()
	if err != nil {
		return p, err
	}
	secure, err := p.serve(wire.BindingExporter, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, tap)
	if err != nil {
		return p, err
	}
	p.at = secondary.Address{URL: "wss://" + secure + "/", Binding: wire.BindingExporter}
	plain, err := p.serve(wire.BindingNone, nil, nil)
	p.plain = client.Server{URL: "ws://" + plain + "/", Key: p.data.Key().Public()}
	return p, err
}

func (p *place) serve(binding wire.Binding, c *tls.Config, tap func([]byte)) (address string, err error) {
	s, err := secondary.New(secondary.Config{Engine: p.engine, Key: p.data.Key(), Binding: binding, Tap: tap, MaxConns: 1 << 16})
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	if c != nil {
		l = tls.NewListener(l, c)
	}
	h := &http.Server{Handler: s}
	go h.Serve(l)
	p.ends = append(p.ends, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(s.Shutdown(ctx), h.Close())
	})
	return address, nil
}

func (p *place) stop() (err error) {
	for len(p.ends) > 0 {
		last := len(p.ends) - 1
		err = errors.Join(err, p.ends[last]())
		p.ends = p.ends[:last]
	}
	return err
}

func (p *place) invite(ctx context.Context) (wire.Invite, error) {
	return secondary.NewInvite(ctx, p.engine, p.data.Key().Public(), p.at, time.Now())
}

// inviteOf returns an invite for so many vaults.
func (p *place) inviteOf(ctx context.Context, uses uint32) (wire.Invite, error) {
	i, err := p.invite(ctx)
	if err != nil {
		return i, err
	}
	rand.Read(i.Token[:])
	return i, p.engine.Invite(ctx, i.Token, uses, i.Expires, nil)
}

// A person has devices of one vault.
type person struct {
	dir    string // of the devices, and of the scene's secondary
	root   keys.Root
	invite wire.Invite

	devices int
	open    []*vault.Vault
}

func newPerson(dir string, i wire.Invite) *person {
	return &person{dir: dir, root: keys.GenerateRoot(), invite: i}
}

// device makes a device, and admits it, which pulls all there is.
func (p *person) device(ctx context.Context, conf vault.Config) (*vault.Vault, *vault.Report, error) {
	v, _, r, err := p.identified(ctx, conf, vault.SyncOptions{})
	return v, r, err
}

// restored is device, which may be told to take the whole log.
func (p *person) restored(ctx context.Context, whole bool) (*vault.Vault, *vault.Report, error) {
	v, _, r, err := p.identified(ctx, vault.Config{}, vault.SyncOptions{Whole: whole})
	return v, r, err
}

// identified is device, and tells who it is.
func (p *person) identified(ctx context.Context, conf vault.Config, o vault.SyncOptions) (*vault.Vault, client.Identity, *vault.Report, error) {
	p.devices++
	dir := p.deviceDir(p.devices)
	none := func(err error) (*vault.Vault, client.Identity, *vault.Report, error) {
		return nil, client.Identity{}, nil, err
	}
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	if err != nil {
		return none(err)
	}
	d := &keyfile.Device{
		Vault: p.root.VaultID(), ID: k.ID(), Seed: seed, Authority: p.root.Authority().Public(),
		TagSecret: p.root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: p.root.Epoch(1)}},
		Servers: []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: keyfile.Binding(p.invite.Binding.String())}},
	}
	if err := vault.Create(dir, d, filepath.Base(dir)); err != nil {
		return none(err)
	}
	v, err := vault.Open(ctx, dir, conf)
	if err != nil {
		return none(err)
	}
	p.open = append(p.open, v)
	var token *wire.Token
	if p.devices == 1 {
		token = &p.invite.Token
	}
	r, err := v.Enrol(ctx, p.root.Authority(), token, o)
	return v, client.Device(d.Vault, d.ID, k.Auth), r, err
}

func (p *person) deviceDir(n int) string {
	return filepath.Join(p.dir, fmt.Sprintf("device-%d", n))
}

// close closes the devices.
func (p *person) close() (err error) {
	for _, v := range p.open {
		err = errors.Join(err, v.Close())
	}
	p.open = nil
	return err
}

// fill writes n records, 1,000 in a transaction.
func fill(ctx context.Context, v *vault.Vault, n int) error {
	for i := 0; i < n; i += 1000 {
		err := v.Update(ctx, "bench", func(tx *vault.Tx) error {
			for j := i; j < min(i+1000, n); j++ {
				if _, err := tx.Put(name(j), value(j)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("record-%017d", i) }

func value(i int) []byte { return fmt.Appendf(nil, "%0200d", i) }

// sync syncs devices one after the other, wholly.
func sync(ctx context.Context, vs ...*vault.Vault) error {
	for _, v := range vs {
		r, err := v.Sync(ctx, vault.SyncOptions{})
		if err != nil {
			return err
		}
		if r.Pending+r.Missing+r.Quarantine > 0 {
			return fmt.Errorf("a sync left %+v", r)
		}
	}
	return nil
}

// scene starts a secondary for part of a measure, and returns a person of it, and
// what ends both. tap is that of newPlace.
func (b *bench) scene(ctx context.Context, name string, tap func([]byte)) (*place, *person, func(), error) {
	dir, err := b.sub(name)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := newPlace(filepath.Join(dir, "secondary"), tap)
	if err != nil {
		return nil, nil, nil, err
	}
	i, err := p.invite(ctx)
	if err != nil {
		return nil, nil, nil, errors.Join(err, p.stop())
	}
	ada := newPerson(dir, i)
	return p, ada, func() {
		ada.close()
		p.stop()
	}, nil
}

// sub returns a new directory for part of a measure.
func (b *bench) sub(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}
