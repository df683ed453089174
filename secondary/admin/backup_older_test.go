package admin_test

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
)

// age makes a backup one of the second version of the layout, with another vault.
func (b *backups) age() {
	b.t.Helper()
	f, err := os.Open("../engine/embedded/testdata/layout2.db.gz")
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		b.t.Fatal(err)
	}
	old, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "kist.db"), old, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.version(b.dir, "2\n")
}

func (b *backups) version(dir, v string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte(v), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// What an earlier program has backed up stays, too, where the server has begun anew.
func TestBackupOverOlder(t *testing.T) {
	b := newBackups(t)
	fill(t, b.engine)
	b.run(admin.BackupOptions{}, false, 0, 0)
	b.age()
	for range 2 {
		b.run(admin.BackupOptions{}, true, 0, 1)
	}
	b.holds(1, 1) // whose object was never there
	d, err := secondary.OpenDataDir(b.dir)
	if err != nil || len(d.Remarks()) > 0 {
		t.Fatalf("%v, %v", d, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	b.age()
	b.run(admin.BackupOptions{Replace: true}, false, 0, 1)
	b.holds(1, 0)

	// One of a newer program is refused, and so is a server of another that still runs.
	b.version(b.dir, "99\n")
	if _, err := b.client.Backup(t.Context(), b.data.Path(), b.dir, admin.BackupOptions{}); !errors.Is(err, secondary.ErrNewerDataDir) {
		t.Errorf("over a newer backup: %v", err)
	}
	now, err := os.ReadFile(filepath.Join(b.data.Path(), "version"))
	if err != nil {
		t.Fatal(err)
	}
	b.version(b.dir, string(now))
	b.version(b.data.Path(), "2\n")
	if _, err := b.client.Backup(t.Context(), b.data.Path(), b.dir, admin.BackupOptions{}); !errors.Is(err, secondary.ErrOtherProgram) {
		t.Errorf("of another layout: %v", err)
	}
	b.version(b.data.Path(), string(now))
}
