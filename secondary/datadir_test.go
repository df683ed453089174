package secondary_test

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

func TestDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := secondary.OpenDataDir(dir); !errors.Is(err, secondary.ErrNoDataDir) {
		t.Errorf("opening nothing: %v, want ErrNoDataDir", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening made something: %v", err)
	}
	d, err := secondary.InitDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := d.Key().Public()
	if _, err := d.Address(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("address of a server that never ran: %v, want ErrNotExist", err)
	}
	address := secondary.Address{URL: "wss://vault.example.org/", Binding: wire.BindingExporter}
	if err := d.SetAddress(address); err != nil {
		t.Fatal(err)
	}
	e, err := d.OpenEngine()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	cert, err := d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(string) (*secondary.DataDir, error){"init": secondary.InitDataDir, "open": secondary.OpenDataDir} {
		if _, err := open(dir); !errors.Is(err, store.ErrInUse) {
			t.Errorf("%s while it is open: %v, want ErrInUse", name, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	for _, open := range []func(string) (*secondary.DataDir, error){secondary.InitDataDir, secondary.OpenDataDir} {
		d, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.Key().Public() != key {
			t.Error("opened again, the server has another key")
		}
		if a, err := d.Address(); a != address || err != nil {
			t.Errorf("address: %+v, %v; want %+v", a, err, address)
		}
		if again, err := d.Certificate(); err != nil || string(again.Certificate[0]) != string(cert.Certificate[0]) {
			t.Errorf("opened again, the certificate is another, %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x509.ParseCertificate(cert.Certificate[0]); err != nil {
		t.Error(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDataDirRefuses(t *testing.T) {
	newDir := func() string {
		t.Helper()
		dir := t.TempDir()
		d, err := secondary.InitDataDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		damage func(dir string)
		want   error
	}{
		"newer layout": {func(dir string) { write(filepath.Join(dir, "version"), "99\n") }, secondary.ErrNewerDataDir},
		"key gone":     {func(dir string) { os.Remove(filepath.Join(dir, "server.key")) }, secondary.ErrNoKey},
		"key mistyped": {func(dir string) { write(filepath.Join(dir, "server.key"), "KIST-SERVER-KEY-1QQQ\n") }, store.ErrDamaged},
		"other kind of key": {func(dir string) {
			write(filepath.Join(dir, "server.key"), "KIST-ROOT-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SGV3DNM\n")
		}, store.ErrDamaged},
	}
	for name, test := range tests {
		dir := newDir()
		test.damage(dir)
		before, _ := os.ReadFile(filepath.Join(dir, "server.key"))
		if _, err := secondary.InitDataDir(dir); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "server.key")); string(after) != string(before) {
			t.Errorf("%s: the key was changed", name)
		}
	}

	// Nor is somebody's home directory made one.
	dir := t.TempDir()
	write(filepath.Join(dir, "thesis.txt"), "")
	if _, err := secondary.InitDataDir(dir); !errors.Is(err, secondary.ErrNoDataDir) || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("a directory of other things: %v, want ErrNoDataDir", err)
	}
}

// Cut off at any step, making a data directory goes on where it was, and the
// key that was made first stays.
func TestDataDirCutOff(t *testing.T) {
	defer func() { durable.Hook = nil }()
	for stop := 0; ; stop++ {
		dir := filepath.Join(t.TempDir(), "data")
		n := 0
		type crash struct{}
		durable.Hook = func(durable.Op, bool, string) error {
			if n++; n > stop {
				panic(crash{})
			}
			return nil
		}
		done := func() (done bool) {
			defer func() {
				if p := recover(); p != nil {
					if _, ok := p.(crash); !ok {
						panic(p)
					}
				}
			}()
			d, err := secondary.InitDataDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			return d.Close() == nil
		}()
		durable.Hook = nil
		key, _ := os.ReadFile(filepath.Join(dir, "server.key"))
		d, err := secondary.InitDataDir(dir)
		if err != nil {
			t.Fatalf("cut off at step %d, then: %v", stop, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "server.key")); len(key) > 0 && string(after) != string(key) {
			t.Errorf("cut off at step %d: another key", stop)
		}
		if done {
			if stop < 5 {
				t.Errorf("only %d steps", stop)
			}
			return
		}
	}
}
