package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kistvault/kist/internal/durable"
)

func setHook(t *testing.T, hook func(op durable.Op, done bool, path string) error) {
	t.Helper()
	durable.Hook = hook
	t.Cleanup(func() { durable.Hook = nil })
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOrder writes down what each call does and in which order.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	old, path := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	var log []string
	setHook(t, func(op durable.Op, done bool, p string) error {
		if done {
			log = append(log, fmt.Sprint(op, " ", filepath.Base(p)))
		}
		return nil
	})
	base := filepath.Base(dir)
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"CreateExclusive", func() error { return durable.CreateExclusive(old, []byte("1"), 0o600) },
			[]string{"create old", "write old", "sync old", "sync-dir " + base}},
		{"WriteFile", func() error { return durable.WriteFile(path, []byte("2"), 0o600) },
			[]string{"create new.tmp", "write new.tmp", "sync new.tmp", "rename new", "sync-dir " + base}},
		{"Remove", func() error { return durable.Remove(path) },
			[]string{"remove new", "sync-dir " + base}},
		{"Link", func() error { return durable.Link(old, path) },
			[]string{"link new", "sync-dir " + base}},
		{"Rename", func() error { return durable.Rename(old, path) },
			[]string{"rename new", "sync-dir " + base}},
		{"MkdirAll", func() error { return durable.MkdirAll(filepath.Join(dir, "a", "b"), 0o700) },
			[]string{"mkdir a", "sync-dir " + base, "mkdir b", "sync-dir a"}},
		{"MkdirAll again", func() error { return durable.MkdirAll(filepath.Join(dir, "a", "b"), 0o700) }, nil},
	} {
		log = nil
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !slices.Equal(log, c.want) {
			t.Errorf("%s:\n got  %q\n want %q", c.name, log, c.want)
		}
	}
}

// TestFailures makes every step of every call fail, once before it happened and
// once after, and crash there. The file at the target is then the old one or
// the new one, and never anything else.
func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	const before, after = "old content", "new content"
	for _, c := range []struct {
		name  string
		setUp func(path string) error
		do    func(path string) error
		old   string // content at path before
	}{
		{"CreateExclusive", nil,
			func(path string) error { return durable.CreateExclusive(path, []byte(after), 0o600) }, "none"},
		{"WriteFile", func(path string) error { return os.WriteFile(path, []byte(before), 0o600) },
			func(path string) error { return durable.WriteFile(path, []byte(after), 0o600) }, before},
		{"WriteFile new", nil,
			func(path string) error { return durable.WriteFile(path, []byte(after), 0o600) }, "none"},
		{"Rename", func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(before), 0o600), os.WriteFile(path+"2", []byte(after), 0o600))
		}, func(path string) error { return durable.Rename(path+"2", path) }, before},
		{"RenameNoReplace", func(path string) error { return os.WriteFile(path+"2", []byte(after), 0o600) },
			func(path string) error { return durable.RenameNoReplace(path+"2", path) }, "none"},
		{"Link", func(path string) error { return os.WriteFile(path+"2", []byte(after), 0o600) },
			func(path string) error { return durable.Link(path+"2", path) }, "none"},
	} {
		for point := 0; ; point++ {
			for _, crash := range []bool{false, true} {
				path := filepath.Join(t.TempDir(), "file")
				if c.setUp != nil {
					if err := c.setUp(path); err != nil {
						t.Fatal(err)
					}
				}
				n, reached := 0, ""
				setHook(t, func(op durable.Op, done bool, p string) error {
					n++
					if n != point+1 {
						return nil
					}
					reached = fmt.Sprintf("%s, done %v", op, done)
					if crash {
						panic(broken)
					}
					return broken
				})
				var err error
				crashed := func() (crashed bool) {
					defer func() { crashed = recover() != nil }()
					err = c.do(path)
					return
				}()
				durable.Hook = nil
				if reached == "" {
					if err != nil || read(t, path) != after {
						t.Errorf("%s without a failure: %v, %q", c.name, err, read(t, path))
					}
					goto next
				}
				if !crashed && !errors.Is(err, broken) {
					t.Errorf("%s, %s: got %v", c.name, reached, err)
				}
				got := read(t, path)
				torn := c.name == "CreateExclusive" && crashed && got == "" // created, and not yet written
				if got != c.old && got != after && !torn {
					t.Errorf("%s, %s: file holds %q", c.name, reached, got)
				}
				// Whatever was left behind, the same call works again.
				if c.name == "WriteFile" || c.name == "WriteFile new" {
					if err := c.do(path); err != nil || read(t, path) != after {
						t.Errorf("%s, %s, again: %v, %q", c.name, reached, err, read(t, path))
					}
				}
			}
		}
	next:
	}
}

func TestTakenNames(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for path, content := range map[string]string{a: "a", b: "b"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, do := range map[string]func() error{
		"CreateExclusive": func() error { return durable.CreateExclusive(b, []byte("c"), 0o600) },
		"Link":            func() error { return durable.Link(a, b) },
		"RenameNoReplace": func() error { return durable.RenameNoReplace(a, b) },
		"MkdirAll":        func() error { return durable.MkdirAll(b, 0o700) },
	} {
		err := do()
		if name == "RenameNoReplace" && errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		if read(t, a) != "a" || read(t, b) != "b" {
			t.Errorf("%s changed a file", name)
		}
	}
}

func TestMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := durable.WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestUnsupportedLink(t *testing.T) {
	setHook(t, func(op durable.Op, done bool, path string) error {
		if op == durable.OpLink {
			return &os.LinkError{Op: "link", Err: errors.ErrUnsupported}
		}
		return nil
	})
	if err := durable.Link("a", "b"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}
