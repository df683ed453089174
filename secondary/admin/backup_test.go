package admin_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
)

// restarting is an engine that loses the objects of a vault as soon as its store was
// copied: as a server does that begins anew, compacts, and knows of no backup.
type restarting struct {
	*embedded.Engine
	dir   string
	vault *rawvault.Vault // nil: it does not
}

func (r *restarting) Snapshot(ctx context.Context, begin func(int64) (io.Writer, error)) error {
	err := r.Engine.Snapshot(ctx, begin)
	if err == nil && r.vault != nil {
		err = os.RemoveAll(filepath.Join(r.dir, "objects", r.vault.ID().String()))
	}
	return err
}

// backups is a server with a directory for its backups.
type backups struct {
	t      *testing.T
	client *admin.Client
	data   *secondary.DataDir
	engine *restarting
	dir    string
}

func newBackups(t *testing.T) *backups {
	t.Helper()
	d, err := secondary.InitDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &backups{t: t, data: d, client: admin.NewClient(d.AdminSocket()), dir: filepath.Join(t.TempDir(), "backup")}
	b.serve()
	return b
}

// serve opens the engine and answers, until the test ends or stop.
func (b *backups) serve() {
	b.t.Helper()
	e, err := b.data.OpenEngine()
	if err != nil {
		b.t.Fatal(err)
	}
	b.engine = &restarting{Engine: e, dir: b.data.Path()}
	s, err := admin.Listen(b.data.AdminSocket(), &admin.Operator{Data: b.data, Engine: b.engine, DeletedDays: 7}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := errors.Join(s.Close(), e.Close()); err != nil {
			b.t.Error(err)
		}
	})
}

// run makes a backup, and checks whether it takes the place of the one before.
func (b *backups) run(o admin.BackupOptions, kept bool, faults, lost int) {
	b.t.Helper()
	s, err := b.client.Backup(b.t.Context(), b.data.Path(), b.dir, o)
	if err != nil {
		b.t.Fatal(err)
	}
	if (s.Kept != nil) != kept || len(s.Faults) != faults || s.Lost != lost {
		b.t.Errorf("backup: kept %v, faults %q, %d lost; want %v, %d, %d", s.Kept, s.Faults, s.Lost, kept, faults, lost)
	}
}

// holds checks what the backup has.
func (b *backups) holds(vaults, faults int) {
	b.t.Helper()
	e, err := embedded.Open(b.dir, embedded.Options{MustExist: true})
	if err != nil {
		b.t.Fatal(err)
	}
	var found []string
	done, err := e.Verify(b.t.Context(), engine.VerifyOptions{Pages: true}, func(f engine.Fault) { found = append(found, f.Text) })
	if err = errors.Join(err, e.Close()); err != nil || done.Vaults != vaults || len(found) != faults {
		b.t.Errorf("the backup has %d vaults, faults %q, %v; want %d and %d", done.Vaults, found, err, vaults, faults)
	}
}

// A good backup stays until there is one as good: not one of a server that restarts while
// it is made, nor one with what rots there.
func TestGoodBackupStays(t *testing.T) {
	b := newBackups(t)
	fill(t, b.engine)
	b.run(admin.BackupOptions{}, false, 0, 0)
	b.engine.vault = fill(t, b.engine)
	b.run(admin.BackupOptions{}, true, 1, 0)
	b.holds(1, 0)
	b.run(admin.BackupOptions{}, true, 1, 0)
	// Whoever knows better has it; then there is no good one that could be lost.
	b.run(admin.BackupOptions{Replace: true}, false, 1, 0)
	b.holds(2, 1)
	b.run(admin.BackupOptions{}, false, 1, 0)
}

// Nor does one of a server that began anew under its old key take its place.
func TestBackupOfLess(t *testing.T) {
	b := newBackups(t)
	fill(t, b.engine)
	b.run(admin.BackupOptions{}, false, 0, 0)
	if err := b.engine.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{embedded.StoreFile, "objects"} {
		if err := os.RemoveAll(filepath.Join(b.data.Path(), name)); err != nil {
			t.Fatal(err)
		}
	}
	b.serve()
	b.run(admin.BackupOptions{}, true, 0, 1)
	fill(t, b.engine) // another
	b.run(admin.BackupOptions{}, true, 0, 1)
	b.holds(1, 0)
	b.run(admin.BackupOptions{Replace: true}, false, 0, 1)
	b.holds(1, 0)
}

// What rots in a backup is copied anew.
func TestBackupMends(t *testing.T) {
	b := newBackups(t)
	fill(t, b.engine)
	b.run(admin.BackupOptions{}, false, 0, 0)
	files, err := filepath.Glob(filepath.Join(b.dir, "objects", "*", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[1000] ^= 1
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.holds(1, 1)
	b.run(admin.BackupOptions{}, false, 0, 0)
	b.holds(1, 0)
}

// Links lead nobody who makes a backup, root above all, to other files: neither to write
// there, nor to copy what is there.
func TestBackupLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	link := func(path string) {
		t.Helper()
		if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, path); err != nil {
			t.Skipf("no links here: %v", err)
		}
	}
	unharmed := func() {
		t.Helper()
		if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
			t.Errorf("a file outside of the backup has become %.20q, %v", text, err)
		}
	}
	for _, name := range []string{embedded.StoreFile + ".new", "server.key", "server.key.tmp", "version", "backup.json.tmp"} {
		t.Run(name, func(t *testing.T) {
			b := newBackups(t)
			fill(t, b.engine)
			b.run(admin.BackupOptions{}, false, 0, 0)
			link(filepath.Join(b.dir, name))
			b.run(admin.BackupOptions{}, false, 0, 0)
			unharmed()
			b.holds(1, 0)
		})
	}
	t.Run("objects", func(t *testing.T) {
		b := newBackups(t)
		b.run(admin.BackupOptions{}, false, 0, 0)
		elsewhere := t.TempDir()
		if err := os.RemoveAll(filepath.Join(b.dir, "objects")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, filepath.Join(b.dir, "objects")); err != nil {
			t.Skipf("no links here: %v", err)
		}
		fill(t, b.engine)
		if _, err := b.client.Backup(t.Context(), b.data.Path(), b.dir, admin.BackupOptions{}); err == nil {
			t.Error("objects go through a link")
		}
		if names := files(t, elsewhere); len(names) > 0 {
			t.Errorf("written elsewhere: %q", names)
		}
	})
	t.Run("identity", func(t *testing.T) {
		b := newBackups(t)
		link(filepath.Join(b.data.Path(), "tls.key"))
		if _, err := b.client.Backup(t.Context(), b.data.Path(), b.dir, admin.BackupOptions{}); err == nil {
			t.Error("a file from outside was copied")
		}
		if _, err := os.Lstat(filepath.Join(b.dir, "tls.key")); err == nil {
			t.Error("a file from outside is in the backup")
		}
	})
}
