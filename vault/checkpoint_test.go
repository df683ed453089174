package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// posts syncs and returns the checkpoints that were posted.
func posts(t *testing.T, v *vault.Vault, o vault.SyncOptions) (out []*commitlog.Checkpoint) {
	t.Helper()
	l := &tapped{}
	l.onSend = func(m wire.Message) {
		if c, ok := m.(*wire.Checkpoint); ok && len(c.Data) > 0 {
			made, err := commitlog.ParseCheckpoint(c.Data)
			fatal(t, err)
			out = append(out, made)
		}
	}
	o.Dial = l.options().Dial
	_, err := v.Sync(t.Context(), o)
	fatal(t, err)
	return out
}

// A device posts a checkpoint with its first sync, then one a day, and one when the
// log has grown much; never in a pull.
func TestCheckpointsArePosted(t *testing.T) {
	clock := &manual{t: time.Now()}
	p := newPerson(t)
	a := p.device(vault.Config{Now: clock.now, KeepEach: true})
	if got := posts(t, a, vault.SyncOptions{Mode: vault.PullOnly}); len(got) != 0 {
		t.Errorf("a pull has posted %d", len(got))
	}
	put(t, a, "x", "1")
	if got := posts(t, a, vault.SyncOptions{}); len(got) != 1 || got[0].Size != p.commits() {
		t.Fatalf("the first sync has posted %d", len(got))
	}
	put(t, a, "x", "2")
	if got := posts(t, a, vault.SyncOptions{}); len(got) != 0 {
		t.Errorf("the next sync has posted %d", len(got))
	}
	clock.t = clock.t.Add(24*time.Hour - time.Second)
	if got := posts(t, a, vault.SyncOptions{}); len(got) != 0 {
		t.Errorf("before a day was over it has posted %d", len(got))
	}
	clock.t = clock.t.Add(time.Second)
	if got := posts(t, a, vault.SyncOptions{}); len(got) != 1 || got[0].Time != uint64(clock.t.UnixMilli()) {
		t.Errorf("after a day it has posted %d", len(got))
	}
	for i := range 1100 { // of two namespaces in turn, a commit each
		ns := []string{"notes", "others"}[i%2]
		write(t, a, ns, fmt.Sprint("name ", i), "v")
	}
	sync(t, a)
	grown := p.commits()
	if got := posts(t, a, vault.SyncOptions{}); grown > 1000 && len(got) != 0 {
		t.Errorf("%d commits, and it posts again", grown)
	}
}

// What the secondary serves as another device's checkpoint shows a fork before any
// commit does, and a false one is an alarm.
func TestCheckpointsAreCompared(t *testing.T) {
	sign := func(t *testing.T, c *commitlog.Checkpoint, d *keyfile.Device) *commitlog.Checkpoint {
		own, err := d.Seed.Keys()
		fatal(t, err)
		made := *c
		made.Device = d.ID
		fatal(t, made.Sign(func(m []byte) [64]byte { return own.Sign.Sign(keys.PurposeCheckpoint, c.Vault, m) }))
		return &made
	}
	for _, tt := range []struct {
		name   string
		change func(c *commitlog.Checkpoint)
		want   error
	}{
		{"as it is", func(c *commitlog.Checkpoint) {}, nil},
		{"another tree", func(c *commitlog.Checkpoint) { c.Peaks = slices.Clone(c.Peaks); c.Peaks[0][0] ^= 1 }, commitlog.ErrFork},
		{"another state", func(c *commitlog.Checkpoint) {
			c.Namespaces = slices.Clone(c.Namespaces)
			c.Namespaces[0].Hash[0] ^= 1
		}, commitlog.ErrCheckpoint},
		{"another control log", func(c *commitlog.Checkpoint) { c.Control.Hash[0] ^= 1 }, commitlog.ErrCheckpoint},
		{"of another vault", func(c *commitlog.Checkpoint) { c.Vault[0] ^= 1 }, commitlog.ErrVaultIDMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPerson(t)
			a := p.device(vault.Config{})
			dir := t.TempDir() + "/vault"
			b, _ := p.deviceIn(dir, vault.Config{})
			put(t, b, "x", "1")
			got := posts(t, b, vault.SyncOptions{})
			if len(got) != 1 {
				t.Fatalf("%d checkpoints", len(got))
			}
			sync(t, b)
			fatal(t, b.Close())
			file, err := keyfile.ReadDevice(dir + "/device.key")
			fatal(t, err)
			c := *got[0]
			tt.change(&c)
			served := sign(t, &c, file)
			l := &tapped{change: func(m wire.Message) []wire.Message {
				if c, ok := m.(*wire.Checkpoint); ok && len(c.Data) > 0 {
					c.Size, c.Device, c.Data = served.Size, served.Device, served.Raw
				}
				return []wire.Message{m}
			}}
			_, err = a.Sync(t.Context(), l.options())
			if !errors.Is(err, tt.want) || vault.IsAlarm(err) != (tt.want != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// C8 of the attacks: news that are held back are found out by their absence.
func TestStale(t *testing.T) {
	clock := &manual{t: time.Now().Add(-30 * 24 * time.Hour)} // the secondary's clock does not move
	p := newPerson(t)
	a := p.device(vault.Config{Now: clock.now})
	stale := func() bool {
		t.Helper()
		st, err := a.Status(t.Context())
		fatal(t, err)
		return st.Stale
	}
	sync(t, a)
	clock.t = clock.t.Add(8 * 24 * time.Hour)
	sync(t, a)
	if stale() {
		t.Error("stale, and there is no other device")
	}
	b := p.device(vault.Config{Now: clock.now})
	sync(t, b, a)
	put(t, b, "x", "1")
	sync(t, b, a)
	if stale() {
		t.Error("stale, and the other device has just written")
	}
	clock.t = clock.t.Add(6 * 24 * time.Hour)
	sync(t, a)
	if stale() {
		t.Error("stale after six days")
	}
	clock.t = clock.t.Add(2 * 24 * time.Hour)
	if stale() {
		t.Error("stale, and this device was not in contact itself")
	}
	sync(t, a)
	if !stale() {
		t.Error("not stale after eight days")
	}
	sync(t, b) // a checkpoint is a sign of life
	clock.t = clock.t.Add(25 * time.Hour)
	sync(t, a)
	if stale() {
		t.Error("stale, and the other device has signed a checkpoint")
	}
}
