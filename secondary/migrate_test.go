package secondary_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// household is a data directory with several vaults, of which the last was removed.
type household struct {
	t      *testing.T
	d      *secondary.DataDir
	vaults []*rawvault.Vault
	object commitlog.Hash // of the first
}

func newHousehold(t *testing.T) *household {
	t.Helper()
	d, err := secondary.InitDataDir(filepath.Join(t.TempDir(), "data"))
	fatal(t, err)
	t.Cleanup(func() { d.Close() })
	h := &household{t: t, d: d}
	fatal(t, d.SetAddress(secondary.Address{URL: "wss://vault.example.org/", Binding: wire.BindingExporter}))
	_, err = d.Certificate()
	fatal(t, err)
	fatal(t, os.MkdirAll(filepath.Join(d.Path(), "acme"), 0o700))
	fatal(t, os.WriteFile(filepath.Join(d.Path(), "acme", "account"), []byte("key"), 0o600))
	e, err := d.OpenEngine()
	fatal(t, err)
	defer func() { fatal(t, e.Close()) }()
	ctx, now := t.Context(), time.UnixMilli(1795280000000)
	fatal(t, e.Invite(ctx, wire.Token{1}, 9, now.Add(time.Hour), &engine.Quota{Commits: 1000}))
	fatal(t, e.Invite(ctx, wire.Token{}, engine.Unlimited, now.Add(time.Hour), nil))
	for i := range 4 {
		v := rawvault.New()
		dev := v.NewDevice()
		h.vaults = append(h.vaults, v)
		fatal(t, e.Create(ctx, wire.Token{1}, v.Authority.Public(), now))
		var log []*commitlog.Bundle
		add := func(b *commitlog.Bundle, c *wire.Control) {
			t.Helper()
			out, _, err := e.Append(ctx, engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now})
			fatal(t, err)
			fatal(t, out[0].Err)
			v.Appended(b.Commit.Leaf())
			log = append(log, b)
		}
		add(v.ControlCommit(dev.Registration(false)))
		for range 1 + 15*(i/3) {
			add(dev.Commit(keys.Tag{1}, 20), nil)
			add(dev.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: commitlog.CommitID(len(log))}), nil)
		}
		_, data := rawvault.Put(70_000)
		ch, blob := rawvault.Put(commitlog.MinBlob)
		ch.ObjectHash, ch.ObjectSize = sha256.Sum256(data), uint64(len(data))
		_, err := e.WriteObject(ctx, v.ID(), ch.ObjectHash, ch.ObjectSize, 0, data)
		fatal(t, err)
		add(dev.CommitOf(keys.Tag{1}, []commitlog.Change{ch}, [][]byte{blob}), nil)
		fatal(t, e.PutCheckpoint(ctx, dev.Checkpoint(v.Comes(log), 5)))
		if i == 0 {
			h.object = ch.ObjectHash
		}
	}
	_, err = e.Compact(ctx, now)
	fatal(t, err)
	fatal(t, e.SetQuota(ctx, h.vaults[1].ID(), &engine.Quota{Bytes: 7})) // it has more
	fatal(t, e.SetState(ctx, h.vaults[1].ID(), engine.StateSuspended, now.Add(time.Minute)))
	fatal(t, e.SetState(ctx, h.vaults[2].ID(), engine.StateDeleted, now.Add(2*time.Minute)))
	fatal(t, e.SetState(ctx, h.vaults[3].ID(), engine.StateDeleted, now))
	if n, err := e.Remove(ctx, now); n != 1 || err != nil {
		t.Fatalf("removed %d, %v", n, err)
	}
	return h
}

// content returns what every file of a directory has.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	fatal(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(b)
		return err
	}))
	return out
}

// all returns what an engine has of vaults and invites.
func all(t *testing.T, d *secondary.DataDir) (tenants []engine.Tenant, invites []engine.StoredInvite) {
	t.Helper()
	e, err := d.OpenEngine()
	fatal(t, err)
	defer func() { fatal(t, e.Close()) }()
	fatal(t, e.EachTenant(t.Context(), func(x *engine.Tenant) error {
		tenants = append(tenants, *x)
		return nil
	}))
	fatal(t, e.EachInvite(t.Context(), func(x *engine.StoredInvite) error {
		invites = append(invites, *x)
		return nil
	}))
	return tenants, invites
}

func TestMigrate(t *testing.T) {
	h := newHousehold(t)
	before := content(t, h.d.Path())
	dir := filepath.Join(t.TempDir(), "a", "b")
	m, err := h.d.Migrate(t.Context(), dir)
	if err != nil || m.Vaults != 3 || m.Invites != 2 || m.Missing != 0 || len(m.Faults) > 0 || m.Verified.Vaults != 3 || m.Verified.Objects != 3 {
		t.Fatalf("migrated: %+v, %v", m, err)
	}
	if m.After >= m.Before {
		t.Errorf("the store has %d bytes, and had %d", m.After, m.Before)
	}
	if diff := cmp.Diff(before, content(t, h.d.Path())); diff != "" {
		t.Error("the source has changed")
	}
	to, err := secondary.OpenDataDir(dir)
	fatal(t, err)
	defer to.Close()
	if to.Key().Public() != h.d.Key().Public() || len(to.Remarks()) > 0 {
		t.Errorf("the copy is another server, or %q", to.Remarks())
	}
	for _, name := range []string{"address.json", "tls.crt", "tls.key", "acme/account", "version"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != before["/"+name] {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	oldTenants, oldInvites := all(t, h.d)
	tenants, invites := all(t, to)
	if diff := cmp.Diff(oldTenants, tenants); diff != "" {
		t.Errorf("vaults (-before +after):\n%s", diff)
	}
	if !reflect.DeepEqual(oldInvites, invites) {
		t.Errorf("invites: %+v, and were %+v", invites, oldInvites)
	}

	// Never over anything.
	if _, err := h.d.Migrate(t.Context(), dir); !errors.Is(err, secondary.ErrNotEmpty) {
		t.Errorf("over a data directory: %v, want ErrNotEmpty", err)
	}
	for _, name := range []string{"thesis.txt", "kist.db"} {
		cut := t.TempDir()
		fatal(t, os.WriteFile(filepath.Join(cut, name), nil, 0o600))
		if name != "kist.db" { // which nobody but a migration had for its own
			fatal(t, os.WriteFile(filepath.Join(cut, "copying"), nil, 0o600))
		}
		if _, err := h.d.Migrate(t.Context(), cut); !errors.Is(err, secondary.ErrNotEmpty) || len(content(t, cut)) == 0 {
			t.Errorf("over %s: %v, %q", name, err, content(t, cut))
		}
	}
	other := t.TempDir()
	fatal(t, os.WriteFile(filepath.Join(other, "thesis.txt"), nil, 0o600))
	if _, err := h.d.Migrate(t.Context(), other); !errors.Is(err, secondary.ErrNotEmpty) || len(content(t, other)) != 1 {
		t.Errorf("over somebody's files: %v, %q", err, content(t, other))
	}
}

// What is spoilt in the source does not come along; that it lacks is said. Where a log
// is, nothing comes of it.
func TestMigrateDamaged(t *testing.T) {
	h := newHousehold(t)
	fatal(t, os.Truncate(embedded.ObjectFile(h.d.Path(), h.vaults[0].ID(), h.object), 1000))
	dir := filepath.Join(t.TempDir(), "new")
	m, err := h.d.Migrate(t.Context(), dir)
	if err != nil || m.Missing != 1 || len(m.Faults) != 1 || !strings.Contains(m.Faults[0], "its object is missing") || m.Vaults != 3 {
		t.Fatalf("migrated: %+v, %v", m, err)
	}

	db, err := store.Open(filepath.Join(h.d.Path(), embedded.StoreFile), store.Options{})
	fatal(t, err)
	fatal(t, db.Update(func(tx *store.Tx) error { // the signature of a commit
		b := tx.Bucket("log/" + h.vaults[1].ID().String())
		second := []byte{'c', 0, 0, 0, 0, 0, 0, 0, 2, 0}
		header := append([]byte(nil), b.Get(second)...)
		header[len(header)-1] ^= 1
		return b.Put(second, header)
	}))
	fatal(t, db.Close())
	dir = filepath.Join(t.TempDir(), "new")
	if _, err := h.d.Migrate(t.Context(), dir); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), h.vaults[1].ID().String()) {
		t.Errorf("a damaged log: %v, want ErrDamaged", err)
	}
	if left := content(t, dir); len(left) > 0 {
		t.Errorf("it has left %d files", len(left))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.d.Migrate(ctx, dir); !errors.Is(err, context.Canceled) || len(content(t, dir)) > 0 {
		t.Errorf("cut off: %v", err)
	}
}

// Killed at any step it leaves no data directory, or all of it.
func TestMigrateKilled(t *testing.T) {
	h := newHousehold(t)
	states := t.TempDir()
	dir := filepath.Join(t.TempDir(), "new")
	n := 0
	durable.Hook = func(durable.Op, bool, string) error {
		if _, err := os.Stat(dir); err != nil {
			return nil
		}
		n++
		return os.CopyFS(filepath.Join(states, fmt.Sprint(n)), os.DirFS(dir))
	}
	_, err := h.d.Migrate(t.Context(), dir)
	durable.Hook = nil
	fatal(t, err)
	want, _ := all(t, h.d)
	whole := 0
	for i := range n {
		d, err := secondary.OpenDataDir(filepath.Join(states, fmt.Sprint(i+1)))
		if errors.Is(err, secondary.ErrNoDataDir) { // the next one begins with what is there
			if _, err := h.d.Migrate(t.Context(), filepath.Join(states, fmt.Sprint(i+1))); err != nil {
				t.Errorf("step %d: again: %v, with %q", i, err, content(t, filepath.Join(states, fmt.Sprint(i+1))))
			}
			continue
		}
		fatal(t, err)
		whole++
		if got, _ := all(t, d); !reflect.DeepEqual(got, want) {
			t.Errorf("step %d: %+v", i, got)
		}
		fatal(t, d.Close())
	}
	if n < 15 || whole == 0 || whole > 8 {
		t.Errorf("%d steps, whole at %d of them", n, whole)
	}
}
