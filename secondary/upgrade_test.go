package secondary_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// oldDataDir makes a data directory of the first version, with an invite in its
// store, an object and part of one, and some of what a process leaves.
func oldDataDir(t *testing.T) (dir string, token wire.Token) {
	t.Helper()
	t.Cleanup(secondary.SetUpgrades()) // it is of the first version
	dir = filepath.Join(t.TempDir(), "data")
	d, err := secondary.InitDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.OpenEngine()
	if err != nil {
		t.Fatal(err)
	}
	token = wire.Token{1}
	if err := errors.Join(e.Invite(t.Context(), token, 1, time.Now().Add(time.Hour), nil), e.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"objects/v/ab/abcd": "whole", "objects/v/ab/abce.part": "half", "address.json.tmp": "x", "note": "old"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, token
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// amend is an upgrade: it changes a file in a way that shows how often.
func amend(name string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, "note")
		b, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(b), name) {
			return err
		}
		return durable.WriteFile(path, append(b, " "+name...), 0o600)
	}
}

// checkAside checks that one copy was put aside, with what was there before.
func checkAside(t *testing.T, dir string) (aside string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "before-*"))
	if err != nil || len(all) != 1 || strings.HasSuffix(all[0], "half") {
		t.Fatalf("put aside: %q, %v", all, err)
	}
	aside = all[0]
	if v := read(t, aside, "version"); v != "1\n" {
		t.Errorf("the copy has version %q", v)
	}
	for _, name := range []string{"server.key", "kist.db", "objects/v/ab/abcd", "objects/v/ab/abce.part"} {
		if read(t, aside, name) != read(t, dir, name) {
			t.Errorf("the copy has another %s", name)
		}
	}
	if note := read(t, aside, "note"); note != "old" {
		t.Errorf("the copy has the note %q", note)
	}
	return aside
}

func TestUpgrade(t *testing.T) {
	dir, token := oldDataDir(t)
	restore := secondary.SetUpgrades(amend("two"), amend("three"))
	defer restore()
	d, err := secondary.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if note, version := read(t, dir, "note"), read(t, dir, "version"); note != "old two three" || version != "3\n" {
		t.Errorf("upgraded to version %q with the note %q", version, note)
	}
	aside := checkAside(t, dir)
	if r := strings.Join(d.Remarks(), "\n"); strings.Count(r, "upgraded") != 2 || !strings.Contains(r, aside) {
		t.Errorf("remarks: %s", r)
	}
	for _, name := range []string{"upgrading", filepath.Base(aside) + "/lock", filepath.Base(aside) + "/address.json.tmp"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// Opened again, nothing happens.
	if d, err = secondary.OpenDataDir(dir); err != nil || len(d.Remarks()) > 0 {
		t.Fatalf("opened again: %v, %v", d.Remarks(), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	checkAside(t, dir)

	// The program from before does not take it, and says why. It takes the copy.
	restore()
	_, err = secondary.InitDataDir(dir)
	if !errors.Is(err, secondary.ErrNewerDataDir) || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("the older program: %v, want ErrNewerDataDir", err)
	}
	d, err = secondary.OpenDataDir(aside)
	if err != nil {
		t.Fatalf("the copy: %v", err)
	}
	defer d.Close()
	e, err := d.OpenEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Create(t.Context(), token, rawvault.New().Authority.Public(), time.Now()); err != nil {
		t.Errorf("the copy's invite: %v", err)
	}
}

// An upgrade that fails leaves the copy, says where it is, and is done again.
func TestUpgradeFails(t *testing.T) {
	dir, _ := oldDataDir(t)
	full := errors.New("no space")
	restore := secondary.SetUpgrades(amend("two"), func(string) error { return full })
	_, err := secondary.OpenDataDir(dir)
	restore()
	if !errors.Is(err, full) || !strings.Contains(err.Error(), checkAside(t, dir)) {
		t.Errorf("%v, want the reason and where the copy is", err)
	}
	defer secondary.SetUpgrades(amend("two"), amend("three"))()
	d, err := secondary.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	checkAside(t, dir)
	if note := read(t, dir, "note"); note != "old two three" {
		t.Errorf("note %q", note)
	}
}

// Cut off at any step, an upgrade goes on, and the copy is of what was there before
// it began.
func TestUpgradeCutOff(t *testing.T) {
	defer func() { durable.Hook = nil }()
	for stop := 0; ; stop++ {
		dir, _ := oldDataDir(t)
		restore := secondary.SetUpgrades(amend("two"), amend("three"))
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
			d, err := secondary.OpenDataDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			return d.Close() == nil
		}()
		durable.Hook = nil
		d, err := secondary.OpenDataDir(dir)
		if err != nil {
			t.Fatalf("cut off at step %d, then: %v", stop, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		// A copy that was whole before its name was noted is made once more; it
		// is the same.
		all, _ := filepath.Glob(filepath.Join(dir, "before-*"))
		for _, aside := range all {
			if note := read(t, aside, "note"); note != "old" {
				t.Errorf("cut off at step %d: %s has the note %q", stop, aside, note)
			}
		}
		if note, version := read(t, dir, "note"), read(t, dir, "version"); note != "old two three" || version != "3\n" || len(all) == 0 || len(all) > 2 {
			t.Errorf("cut off at step %d: version %q, note %q, aside %q", stop, version, note, all)
		}
		if _, err := os.Stat(filepath.Join(dir, "upgrading")); err == nil {
			t.Errorf("cut off at step %d: upgrading is there", stop)
		}
		restore()
		if done {
			if stop < 8 {
				t.Errorf("done after %d steps", stop)
			}
			return
		}
	}
}

// What others can read is closed, and said.
func TestModes(t *testing.T) {
	dir, _ := oldDataDir(t)
	key := filepath.Join(dir, "server.key")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(key, 0o640)); err != nil {
		t.Fatal(err)
	}
	d, err := secondary.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := strings.Join(d.Remarks(), "\n")
	for path, mode := range map[string]os.FileMode{dir: 0o700, key: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if !strings.Contains(r, "server.key (mode 0640)") || !strings.Contains(r, dir+" (mode 0755)") {
		t.Errorf("remarks: %s", r)
	}
	for text, want := range map[string]error{"0\n": store.ErrDamaged, "one\n": store.ErrDamaged, "": store.ErrDamaged, "9\n": secondary.ErrNewerDataDir} {
		other, _ := oldDataDir(t)
		if err := os.WriteFile(filepath.Join(other, "version"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := secondary.OpenDataDir(other); !errors.Is(err, want) {
			t.Errorf("version %q: %v, want %v", text, err, want)
		}
	}
}

func TestReady(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{{errors.New("network"), "<nil>"}, {fmt.Errorf("x: %w", store.ErrReadOnly), "the store is read-only"}, {fmt.Errorf("%w: page 7", store.ErrDamaged), "the store is damaged"}} {
		f := start(t, nil)
		f.server.NoteTrouble(test.err)
		if got := fmt.Sprint(f.server.Ready()); got != test.want {
			t.Errorf("after %v: %s, want %s", test.err, got, test.want)
		}
		if err := f.server.Shutdown(f.ctx); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.server.Ready()); got != "stopping" {
			t.Errorf("stopped: %s", got)
		}
	}
	if one, many := secondary.ShutdownSpread(1), secondary.ShutdownSpread(10_000); one > 6_000 || many < 50_000 || many > 60_000 {
		t.Errorf("devices come back over %d ms, %d ms", one, many)
	}
}
