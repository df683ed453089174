package admin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// fill makes a vault with a long value.
func fill(t *testing.T, e engine.Engine) *rawvault.Vault {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	v := rawvault.New()
	d := v.NewDevice()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(e.Invite(ctx, wire.Token(v.ID()), 1, now.Add(time.Hour), nil))
	fatal(e.Create(ctx, wire.Token(v.ID()), v.Authority.Public(), now))
	add := func(b *commitlog.Bundle, c *wire.Control) {
		t.Helper()
		out, _, err := e.Append(ctx, engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now})
		fatal(err)
		fatal(out[0].Err)
		v.Appended(b.Commit.Leaf())
	}
	add(v.ControlCommit(d.Registration(false)))
	_, data := rawvault.Put(100_000)
	ch, blob := rawvault.Put(commitlog.MinBlob)
	ch.ObjectHash, ch.ObjectSize = sha256.Sum256(data), uint64(len(data))
	_, err := e.WriteObject(ctx, v.ID(), ch.ObjectHash, ch.ObjectSize, 0, data)
	fatal(err)
	add(d.CommitOf(keys.Tag{1}, []commitlog.Change{ch}, [][]byte{blob}), nil)
	for range 20 {
		add(d.Commit(keys.Tag{1}, 10), nil)
	}
	return v
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestExportImport(t *testing.T) {
	ctx := t.Context()
	from, source := listen(t)
	to, target := listen(t)
	v, other := fill(t, source.Engine), fill(t, source.Engine)
	dir := t.TempDir()
	file := filepath.Join(dir, "v.kistarchive")
	done, err := from.Export(ctx, strings.ToLower(v.ID().String()[:4]+"-"+v.ID().String()[4:20]), file, nil)
	if err != nil || done.Commits != v.Size() || done.Objects != 1 || done.Missing != 0 {
		t.Fatalf("export: %+v, %v", done, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if _, err := from.Export(ctx, v.ID().String(), file, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v, want ErrExist", err)
	}
	if _, err := from.Export(ctx, "NONE", filepath.Join(dir, "none"), nil); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of no vault: %v, want ErrNotFound", err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"v.kistarchive"}) {
		t.Errorf("there are %q", got)
	}

	if _, err := from.Import(ctx, file, admin.ImportQuestion{}, nil); !errors.Is(err, engine.ErrExists) {
		t.Errorf("where it is: %v, want ErrExists", err)
	}
	target.Engine.DefaultQuota(engine.Quota{Bytes: 50_000})
	if _, err := to.Import(ctx, file, admin.ImportQuestion{}, nil); !errors.Is(err, wire.ErrQuota) {
		t.Errorf("more than the quota: %v, want ErrQuota", err)
	}
	if list, err := to.Vaults(ctx); len(list) != 0 || err != nil {
		t.Errorf("it has left %+v, %v", list, err)
	}
	want := engine.Quota{Bytes: 1 << 20}
	got, err := to.Import(ctx, file, admin.ImportQuestion{Quota: &want}, nil)
	if err != nil || got.ID != v.ID().String() || got.State != "active" || got.Quota != want || got.Commits != v.Size() || got.Objects != 100_000 {
		t.Fatalf("import: %+v, %v", got, err)
	}
	again := filepath.Join(dir, "again")
	if _, err := to.Export(ctx, v.ID().String(), again, nil); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(file)
	b, _ := os.ReadFile(again)
	if bytes.Equal(a, b) || len(a) != len(b) { // the quota is another
		t.Errorf("exported again, %d bytes are %d", len(a), len(b))
	}

	// Two at once: one of them takes it in.
	file = filepath.Join(dir, "other")
	if _, err := from.SetState(ctx, admin.StateQuestion{Vault: other.ID().String(), State: "deleted"}); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Export(ctx, other.ID().String(), file, nil); err != nil {
		t.Fatal(err)
	}
	target.Engine.DefaultQuota(engine.Quota{})
	var wg sync.WaitGroup
	var errs [4]error
	for i := range errs {
		wg.Go(func() {
			v, err := to.Import(ctx, file, admin.ImportQuestion{}, nil)
			if errs[i] = err; err == nil && v.State != "suspended" {
				t.Errorf("one that was deleted comes as %s", v.State)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		} else if !errors.Is(err, engine.ErrExists) {
			t.Errorf("one of several: %v, want ErrExists", err)
		}
	}
	if x, err := to.Verify(ctx); n != 1 || err != nil || len(x.Faults) > 0 || x.Verified.Vaults != 2 || x.Verified.Objects != 2 {
		t.Errorf("%d have taken it in; %+v, %v", n, x, err)
	}
}

// A file that was altered or torn is refused before the server is asked, and what goes
// wrong beside leaves no file.
func TestImportRefused(t *testing.T) {
	ctx := t.Context()
	c, o := listen(t)
	v := fill(t, o.Engine)
	dir := t.TempDir()
	file := filepath.Join(dir, "v")
	if _, err := c.Export(ctx, v.ID().String(), file, nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	silent := admin.NewClient(filepath.Join(dir, "none.sock"))
	if _, err := silent.Import(ctx, file, admin.ImportQuestion{}, nil); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("altered: %v, want ErrDamaged", err)
	}
	if _, err := c.Import(ctx, filepath.Join(dir, "none"), admin.ImportQuestion{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := silent.Export(ctx, "X", filepath.Join(dir, "x"), nil); !errors.Is(err, admin.ErrSilent) {
		t.Errorf("no server: %v", err)
	}

	// An export that fails on the way says why, and leaves nothing.
	socket := filepath.Join(t.TempDir(), "s")
	s, err := admin.Listen(socket, &admin.Operator{Data: o.Data, Engine: &failing{Engine: o.Engine}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c = admin.NewClient(socket)
	if _, err := c.Export(ctx, v.ID().String(), filepath.Join(dir, "half"), nil); err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("a server that fails: %v", err)
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Export(cut, v.ID().String(), filepath.Join(dir, "cut"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cut off: %v", err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"v"}) {
		t.Errorf("there are %q", got)
	}
}

// failing is an engine whose exports fail after some commits.
type failing struct{ engine.Engine }

func (f *failing) Export(ctx context.Context, vault keys.VaultID, to engine.Taker) (engine.Exported, error) {
	return f.Engine.Export(ctx, vault, &few{Taker: to, left: 5})
}

type few struct {
	engine.Taker
	left int
}

func (f *few) Commit(ctx context.Context, c *engine.WholeCommit) error {
	if f.left--; f.left < 0 {
		return errors.New("the disk is on fire")
	}
	return f.Taker.Commit(ctx, c)
}
