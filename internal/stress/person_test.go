//go:build linux

package stress

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A person has a vault at a server, with devices that run in this process.
type person struct {
	t       testing.TB
	dir     string
	root    keys.Root
	invite  wire.Invite
	devices int
	keys    []*keys.DeviceKeys // of the devices

	records map[string]string // what the vault has to hold
	serial  int
}

func newPerson(t testing.TB, i wire.Invite) *person {
	return &person{t: t, dir: t.TempDir(), root: keys.GenerateRoot(), invite: i, records: make(map[string]string)}
}

// meet returns a person who has the server's first invite.
func meet(t testing.TB, s *server) *person {
	t.Helper()
	i, err := wire.ParseInvite(s.first)
	fatal(t, err)
	return newPerson(t, i)
}

// tryDevice makes another device, the first with the vault.
func (p *person) tryDevice() (*vault.Vault, string, error) {
	p.t.Helper()
	ctx := p.t.Context()
	name := fmt.Sprint("device", p.devices)
	dir := filepath.Join(p.dir, name)
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	fatal(p.t, err)
	fatal(p.t, vault.Create(dir, &keyfile.Device{
		Vault: p.root.VaultID(), ID: k.ID(), Seed: seed, Authority: p.root.Authority().Public(),
		TagSecret: p.root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: p.root.Epoch(1)}},
		Servers: []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: keyfile.Binding(p.invite.Binding.String())}},
	}, name))
	v, err := vault.Open(ctx, dir, vault.Config{})
	fatal(p.t, err)
	p.t.Cleanup(func() { v.Close() })
	var token *wire.Token
	if p.devices == 0 {
		token = &p.invite.Token
	}
	p.devices++
	p.keys = append(p.keys, k)
	_, err = v.Enrol(ctx, p.root.Authority(), token, vault.SyncOptions{})
	return v, dir, err
}

func (p *person) device() *vault.Vault {
	p.t.Helper()
	v, _, err := p.tryDevice()
	fatal(p.t, err)
	return v
}

// write puts a record with a value of so many bytes, which is not in the log yet.
func (p *person) write(v *vault.Vault, size int) string {
	p.t.Helper()
	p.serial++
	name := fmt.Sprint("record", p.serial)
	value := fmt.Sprintf("%0*d", size, p.serial)
	_, err := v.Namespace("notes").Put(p.t.Context(), name, []byte(value))
	fatal(p.t, err)
	p.records[name] = value
	return name
}

// sync syncs devices, which must go well.
func (p *person) sync(devices ...*vault.Vault) {
	p.t.Helper()
	for _, v := range devices {
		r, err := v.Sync(p.t.Context(), vault.SyncOptions{})
		if err != nil {
			p.t.Fatalf("sync: %v", err)
		}
		if r.Pending+r.Aside+r.Missing+r.Quarantine > 0 {
			p.t.Fatalf("sync: %+v", r)
		}
	}
}

func (p *person) has(v *vault.Vault, name string) bool {
	p.t.Helper()
	_, err := v.Namespace("notes").Get(p.t.Context(), name)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		p.t.Fatal(err)
	}
	return err == nil
}

// right checks that devices hold what they have to, and are equal.
func (p *person) right(devices ...*vault.Vault) {
	p.t.Helper()
	first, _, err := devices[0].Digest(p.t.Context())
	fatal(p.t, err)
	for i, v := range devices {
		d, _, err := v.Digest(p.t.Context())
		fatal(p.t, err)
		if d != first {
			p.t.Errorf("device %d has another state than the first", i)
		}
		n := 0
		for rec, err := range v.Namespace("notes").List(p.t.Context()) {
			fatal(p.t, err)
			n++
			if rec.Value == nil { // a long one
				rec, err = v.Namespace("notes").Get(p.t.Context(), rec.Name)
				fatal(p.t, err)
			}
			if p.records[rec.Name] != string(rec.Value) {
				p.t.Errorf("device %d: %s is wrong", i, rec.Name)
			}
		}
		if n != len(p.records) {
			p.t.Errorf("device %d has %d records, want %d", i, n, len(p.records))
		}
		st, err := v.Status(p.t.Context())
		fatal(p.t, err)
		if st.Alarm != "" {
			p.t.Errorf("device %d: alarm: %s", i, st.Alarm)
		}
	}
}

// honest has two devices of a person write and sync for as long as something goes on
// beside them, and once more after it.
func (p *person) honest(a, b *vault.Vault, beside func()) {
	p.t.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		beside()
	}()
	rounds := 0
	for going := true; going; rounds++ {
		select {
		case <-over:
			going = false
		case <-time.After(50 * time.Millisecond): // people are slower
		}
		p.write(a, 100)
		p.sync(a, b)
		p.write(b, 3000)
		p.sync(b, a)
	}
	p.right(a, b)
	p.t.Logf("honest devices have synced %d times beside it", rounds)
}
