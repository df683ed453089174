package keyfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
)

var (
	lock   = keyfile.Lock{Passphrase: []byte("p")}
	unlock = keyfile.Unlock{Passphrase: passphrase("p")}
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func mustDearmor(t *testing.T, s string) string {
	t.Helper()
	b, err := io.ReadAll(armor.NewReader(strings.NewReader(s)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func armored(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := armor.NewWriter(&b)
	io.WriteString(w, s)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func setHook(t *testing.T, hook func(op durable.Op, done bool, path string) error) {
	t.Helper()
	durable.Hook = hook
	t.Cleanup(func() { durable.Hook = nil })
}

func TestCreateOpen(t *testing.T) {
	id, _ := age.GenerateHybridIdentity()
	for name, c := range map[string]struct {
		lock   keyfile.Lock
		unlock keyfile.Unlock
	}{
		"passphrase": {lock, unlock},
		"recipient":  {keyfile.Lock{Recipients: []age.Recipient{id.Recipient()}}, keyfile.Unlock{Identities: []age.Identity{id}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "me.kistkey")
			f := newFile(1)
			if err := keyfile.Create(path, f, c.lock, c.unlock); err != nil {
				t.Fatal(err)
			}
			if got := list(t, dir); !slices.Equal(got, []string{"me.kistkey"}) {
				t.Errorf("left %q", got)
			}
			info, _ := os.Stat(path)
			if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("mode %o", info.Mode().Perm())
			}
			got, err := keyfile.Open(path, c.unlock)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, f)
			if !bytes.HasPrefix(readFile(t, path), []byte(armor.Header+"\n")) {
				t.Error("not armored")
			}
			if got, err := keyfile.Recover(path, keyfile.Unlock{}); got != nil || err != nil {
				t.Errorf("recovering: %v, %v", got, err)
			}

			before := readFile(t, path)
			if err := keyfile.Create(path, newFile(0), c.lock, c.unlock); !errors.Is(err, keyfile.ErrExists) {
				t.Errorf("creating again: %v", err)
			}
			if !bytes.Equal(readFile(t, path), before) {
				t.Error("replaced")
			}
		})
	}
}

func TestCreateVerifies(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "me.kistkey")
	id, _ := age.GenerateX25519Identity()
	other, _ := age.GenerateX25519Identity()
	for name, u := range map[string]keyfile.Unlock{
		"no identity":    {},
		"other identity": {Identities: []age.Identity{other}},
	} {
		err := keyfile.Create(path, newFile(0), keyfile.Lock{Recipients: []age.Recipient{id.Recipient()}}, u)
		if !errors.Is(err, keyfile.ErrNoMatch) {
			t.Errorf("%s: %v", name, err)
		}
		if got := list(t, dir); len(got) != 0 {
			t.Errorf("%s: left %q", name, got)
		}
	}
	// What lies on the disk is not what was written.
	setHook(t, func(op durable.Op, done bool, p string) error {
		if op == durable.OpSync && done {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(p, b, 0o600)
		}
		return nil
	})
	if err := keyfile.Create(path, newFile(0), lock, unlock); !errors.Is(err, keyfile.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	durable.Hook = nil
	if got := list(t, dir); len(got) != 0 {
		t.Errorf("left %q", got)
	}
	if err := keyfile.Create(filepath.Join(dir, "no", "me.kistkey"), newFile(0), lock, unlock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestCreateKeepsPart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "me.kistkey")
	writeFile(t, path+".part", []byte("precious"))
	err := keyfile.Create(path, newFile(0), lock, unlock)
	if !errors.Is(err, keyfile.ErrPart) || !strings.Contains(err.Error(), "me.kistkey.part") {
		t.Errorf("got %v", err)
	}
	if got := string(readFile(t, path+".part")); got != "precious" {
		t.Errorf("the part is %q", got)
	}
}

// errCrash is what a hook panics with.
var errCrash = errors.New("crash")

// run calls do and says whether it crashed.
func run(do func() error) (err error, crashed bool) {
	defer func() {
		if r := recover(); r == errCrash {
			crashed = true
		} else if r != nil {
			panic(r)
		}
	}()
	return do(), false
}

// fileSystems are what a key file may have to be made on.
var fileSystems = map[string][]durable.Op{
	"links":           nil,
	"rename only":     {durable.OpLink},
	"no link, rename": {durable.OpLink, durable.OpRename},
}

// lacks returns the hook of a file system without these operations, in front of
// another hook.
func lacks(ops []durable.Op, hook func(op durable.Op, done bool, path string) error) func(op durable.Op, done bool, path string) error {
	return func(op durable.Op, done bool, path string) error {
		if slices.Contains(ops, op) {
			return fmt.Errorf("%w here", errors.ErrUnsupported)
		}
		return hook(op, done, path)
	}
}

// TestCreateFaults lets Create fail or crash before and after each of its
// steps, on each kind of file system. At no point is there something under the
// final name that is not a whole key file; afterwards the program starts again
// and ends with a key file that opens, and nothing beside it.
func TestCreateFaults(t *testing.T) {
	id, _ := age.GenerateX25519Identity() // cheaper than a passphrase
	lock := keyfile.Lock{Recipients: []age.Recipient{id.Recipient()}}
	unlock := keyfile.Unlock{Identities: []age.Identity{id}}
	for kind, missing := range fileSystems {
		for _, crashes := range []bool{false, true} {
			points := 0
			for point := 1; ; point++ {
				name := fmt.Sprintf("%s, crash %v, point %d", kind, crashes, point)
				dir := t.TempDir()
				path := filepath.Join(dir, "me.kistkey")
				n, reached := 0, ""
				setHook(t, lacks(missing, func(op durable.Op, done bool, p string) error {
					if n++; n != point {
						return nil
					}
					reached = fmt.Sprintf("%s: %s %s, done %v", name, op, filepath.Base(p), done)
					if crashes {
						panic(errCrash)
					}
					return errCrash
				}))
				first := newFile(1)
				err, crashed := run(func() error { return keyfile.Create(path, first, lock, unlock) })
				setHook(t, lacks(missing, func(durable.Op, bool, string) error { return nil }))
				if reached == "" {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					break
				}
				points++
				if !crashed && !errors.Is(err, errCrash) {
					t.Errorf("%s: %v", reached, err)
				}

				// What is under the final name is whole. Only where a file
				// system can neither link nor rename safely, a crash may leave
				// a beginning there, which does not open.
				if _, err := os.Lstat(path); err == nil {
					f, err := keyfile.Open(path, unlock)
					if err == nil {
						equal(t, f, first)
					} else if !crashed || len(missing) < 2 {
						t.Errorf("%s: under its name is something else: %v", reached, err)
					}
				}

				// The program starts again.
				f, err := keyfile.Recover(path, unlock)
				if err != nil {
					t.Fatalf("%s: recovering: %v", reached, err)
				}
				if f != nil {
					equal(t, f, first)
				}
				got, err := keyfile.Open(path, unlock)
				if errors.Is(err, fs.ErrNotExist) {
					if f != nil {
						t.Errorf("%s: recovered a file that is not there", reached)
					}
					second := newFile(0)
					if err := keyfile.Create(path, second, lock, unlock); err != nil {
						t.Errorf("%s: creating again: %v", reached, err)
					}
					got, err = keyfile.Open(path, unlock)
				}
				if err != nil || got == nil {
					t.Errorf("%s: opening at last: %v", reached, err)
				}
				if names := list(t, dir); !slices.Equal(names, []string{"me.kistkey"}) {
					t.Errorf("%s: at last there is %q", reached, names)
				}
			}
			if points < 8 {
				t.Errorf("%s: %d points", kind, points)
			}
		}
	}
}

// TestRewriteFaults does the same with Rewrite: the file is always the old or
// the new one.
func TestRewriteFaults(t *testing.T) {
	for _, crashes := range []bool{false, true} {
		for point := 1; ; point++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "me.kistkey")
			old := newFile(1)
			if err := keyfile.Create(path, old, lock, unlock); err != nil {
				t.Fatal(err)
			}
			renewed := *old
			renewed.Checkpoint = &keyfile.Checkpoint{Size: 99}
			n, reached, renamed := 0, "", false
			setHook(t, func(op durable.Op, done bool, p string) error {
				renamed = renamed || op == durable.OpRename && done
				if n++; n != point {
					return nil
				}
				reached = fmt.Sprintf("crash %v, %s %s, done %v", crashes, op, filepath.Base(p), done)
				if crashes {
					panic(errCrash)
				}
				return errCrash
			})
			err, crashed := run(func() error { return keyfile.Rewrite(path, &renewed, []byte("p")) })
			durable.Hook = nil
			want := old
			if renamed {
				want = &renewed
			}
			got, oerr := keyfile.Open(path, unlock)
			if oerr != nil {
				t.Fatalf("%s: %v", reached, oerr)
			}
			equal(t, got, want)
			if reached == "" {
				if err != nil {
					t.Error(err)
				}
				if names := list(t, dir); !slices.Equal(names, []string{"me.kistkey"}) {
					t.Errorf("left %q", names)
				}
				break
			}
			if !crashed && !errors.Is(err, errCrash) {
				t.Errorf("%s: %v", reached, err)
			}
			if f, err := keyfile.Recover(path, unlock); err != nil {
				t.Errorf("%s: recovering: %v", reached, err)
			} else if f != nil {
				equal(t, f, want)
			}
			if err := keyfile.Rewrite(path, &renewed, []byte("p")); err != nil {
				t.Errorf("%s: again: %v", reached, err)
			}
			if names := list(t, dir); !slices.Equal(names, []string{"me.kistkey"}) {
				t.Errorf("%s: at last there is %q", reached, names)
			}
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "me.kistkey")
	f := newFile(0)
	if err := keyfile.Create(path, f, lock, unlock); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	if err := keyfile.Rewrite(path, f, []byte("q")); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Errorf("other passphrase: %v", err)
	}
	if err := keyfile.Rewrite(path, newFile(0), []byte("p")); !errors.Is(err, keyfile.ErrVaultIDMismatch) {
		t.Errorf("other root: %v", err)
	}
	if err := keyfile.Rewrite(path, &keyfile.File{}, []byte("p")); !errors.Is(err, keyfile.ErrVaultIDMismatch) {
		t.Errorf("no root: %v", err)
	}
	if err := keyfile.Rewrite(path+"2", f, []byte("p")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	writeFile(t, path+".part", []byte("x"))
	if err := keyfile.Rewrite(path, f, []byte("p")); !errors.Is(err, keyfile.ErrPart) {
		t.Errorf("part: %v", err)
	}
	os.Remove(path + ".part")
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("changed")
	}
	id, _ := age.GenerateX25519Identity()
	forRecipient := filepath.Join(dir, "r.kistkey")
	u := keyfile.Unlock{Identities: []age.Identity{id}}
	if err := keyfile.Create(forRecipient, f, keyfile.Lock{Recipients: []age.Recipient{id.Recipient()}}, u); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Rewrite(forRecipient, f, []byte("p")); !errors.Is(err, keyfile.ErrNoMatch) {
		t.Errorf("for a recipient: %v", err)
	}
}

// TestRewriteFollowsLinks keeps a symbolic link one.
func TestRewriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	real, path := filepath.Join(dir, "real.kistkey"), filepath.Join(dir, "me.kistkey")
	f := newFile(0)
	if err := keyfile.Create(real, f, lock, unlock); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, path); err != nil {
		if runtime.GOOS == "windows" { // where it is a privilege
			t.Skip(err)
		}
		t.Fatal(err)
	}
	f.Checkpoint = &keyfile.Checkpoint{Size: 1}
	if err := keyfile.Rewrite(path, f, []byte("p")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	got, err := keyfile.Open(real, unlock)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, f)
	// A dangling link is a name that is taken.
	os.Remove(real)
	if err := keyfile.Create(path, f, lock, unlock); !errors.Is(err, keyfile.ErrExists) {
		t.Errorf("got %v", err)
	}
}

// TestRecover sets up each state that a crash or a person can leave.
func TestRecover(t *testing.T) {
	dir := t.TempDir()
	locked := func(f *keyfile.File, l keyfile.Lock) []byte {
		path := filepath.Join(dir, "make")
		defer os.Remove(path)
		if err := keyfile.Create(path, f, l, unlock); err != nil {
			t.Fatal(err)
		}
		return readFile(t, path)
	}
	one, other := newFile(1), newFile(0)
	renewed := *one
	renewed.Checkpoint = &keyfile.Checkpoint{Size: 5}
	oneBytes, otherBytes, renewedBytes := locked(one, lock), locked(other, lock), locked(&renewed, lock)
	foreign := locked(newFile(0), keyfile.Lock{Passphrase: []byte("another")})
	changed := bytes.Clone(oneBytes)
	changed[len(changed)/2] ^= 1

	for name, c := range map[string]struct {
		part, named         []byte // nil: not there
		wantFile            *keyfile.File
		wantErr, wantErr2   error
		wantPart, wantNamed []byte
	}{
		"nothing":                     {},
		"named only":                  {named: oneBytes, wantNamed: oneBytes},
		"empty part":                  {part: []byte{}},
		"part of three bytes":         {part: oneBytes[:3]},
		"half a part":                 {part: oneBytes[:200]},
		"part without its last line":  {part: oneBytes[:len(oneBytes)-3]},
		"half a part, named":          {part: oneBytes[:200], named: otherBytes, wantNamed: otherBytes},
		"whole part":                  {part: oneBytes, wantFile: one, wantNamed: oneBytes},
		"part and the same":           {part: oneBytes, named: oneBytes, wantNamed: oneBytes},
		"part and a beginning of it":  {part: oneBytes, named: oneBytes[:100], wantFile: one, wantNamed: oneBytes},
		"part and an empty file":      {part: oneBytes, named: []byte{}, wantFile: one, wantNamed: oneBytes},
		"part and older, same root":   {part: renewedBytes, named: oneBytes, wantFile: one, wantNamed: oneBytes},
		"part and other vault":        {part: oneBytes, named: otherBytes, wantErr: keyfile.ErrPart, wantPart: oneBytes, wantNamed: otherBytes},
		"part, other passphrase":      {part: foreign, wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrPassphrase, wantPart: foreign},
		"part changed":                {part: changed, wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrDamaged, wantPart: changed},
		"part is something else":      {part: []byte("notes"), wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrDamaged, wantPart: []byte("notes")},
		"part of zeros":               {part: bytes.Repeat([]byte{0}, 900), wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrDamaged, wantPart: bytes.Repeat([]byte{0}, 900)},
		"part too long":               {part: bytes.Repeat([]byte("x"), keyfile.MaxFile+1), wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrDamaged, wantPart: bytes.Repeat([]byte("x"), keyfile.MaxFile+1)},
		"part and a beginning, other": {part: foreign, named: foreign[:100], wantErr: keyfile.ErrPart, wantErr2: keyfile.ErrPassphrase, wantPart: foreign, wantNamed: foreign[:100]},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "me.kistkey")
			if c.part != nil {
				writeFile(t, path+".part", c.part)
			}
			if c.named != nil {
				writeFile(t, path, c.named)
			}
			asked := 0
			u := keyfile.Unlock{Passphrase: func() ([]byte, error) { asked++; return []byte("p"), nil }}
			f, err := keyfile.Recover(path, u)
			if !errors.Is(err, c.wantErr) || c.wantErr2 != nil && !errors.Is(err, c.wantErr2) {
				t.Errorf("got %v, want %v, %v", err, c.wantErr, c.wantErr2)
			}
			if err != nil && !strings.Contains(err.Error(), "me.kistkey.part") {
				t.Errorf("the error does not name the file: %v", err)
			}
			if (f == nil) != (c.wantFile == nil) {
				t.Errorf("got %v", f)
			} else if f != nil {
				equal(t, f, c.wantFile)
			}
			if asked > 1 {
				t.Errorf("asked %d times", asked)
			}
			for suffix, want := range map[string][]byte{".part": c.wantPart, "": c.wantNamed} {
				got, err := os.ReadFile(path + suffix)
				if (err == nil) != (want != nil) || !bytes.Equal(got, want) {
					t.Errorf("%q has %d bytes, %v, want %d", "me.kistkey"+suffix, len(got), err, len(want))
				}
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "me.kistkey")
	if _, err := keyfile.Open(path, unlock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := keyfile.Open(dir, unlock); err == nil {
		t.Error("opened a directory")
	}
	writeFile(t, path, bytes.Repeat([]byte("x"), keyfile.MaxFile+1))
	if _, err := keyfile.Open(path, unlock); !errors.Is(err, keyfile.ErrDamaged) {
		t.Errorf("too long: %v", err)
	}
	// Attack A4: a valid age file for the owner, with another root than it says.
	f := newFile(0)
	text, _ := f.Marshal()
	forged := bytes.Replace(text, []byte(f.Root.Text()), []byte(keys.GenerateRoot().Text()), 1)
	id, _ := age.GenerateX25519Identity()
	writeFile(t, path, lockFor(t, forged, id.Recipient()))
	if _, err := keyfile.Open(path, keyfile.Unlock{Identities: []age.Identity{id}}); !errors.Is(err, keyfile.ErrVaultIDMismatch) {
		t.Errorf("forged: %v", err)
	}
	writeFile(t, path, lockWith(t, "p", 10, []byte("some other age file")))
	if _, err := keyfile.Open(path, unlock); !errors.Is(err, keyfile.ErrDamaged) {
		t.Errorf("other content: %v", err)
	}
}
