package entries_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kistvault/kist/internal/entries"
)

func TestReadDirectory(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("d", 200)
	write(t, filepath.Join(dir, "a.vcf"), ada+"x\n")
	write(t, filepath.Join(dir, "sub", "b.vcf"), ada+bob)
	write(t, filepath.Join(dir, "sub", "Über uns.md"), "text")
	write(t, filepath.Join(dir, "sub", "s.json"), "{}")
	write(t, filepath.Join(dir, "bad.csv"), "\"id\n")
	write(t, filepath.Join(dir, long, long, long, "deep.txt"), "deep")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", filepath.Join(dir, "linkdir")); err != nil {
		t.Fatal(err)
	}
	makeFIFO(t, filepath.Join(dir, "pipe"))

	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	g := mustRead(t, link)
	if got, want := len(g.entries), 5; got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	var names []string
	for _, e := range g.entries {
		if strings.HasPrefix(e.Name, "sha256-") {
			e.Name = "sha256-*"
		}
		names = append(names, e.Namespace+" "+e.Name)
	}
	if diff := cmp.Diff([]string{"contacts ada", "files sha256-*", "contacts bob", "files sub/s.json", "files sub/Über uns.md"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"a.vcf:6: text outside of a card",
		"bad.csv: reading the header line: row with a quote that does not match",
		"link: symbolic link: not followed",
		"linkdir: symbolic link: not followed",
		"pipe: neither a file nor a directory",
	}, g.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestFileChanges(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "a.txt"), "one")
	var e entries.Entry
	if err := entries.Read(path, entries.Options{}, func(got entries.Entry) error { e = got; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	write(t, path, "longer")
	if _, err := e.Open(); err == nil {
		t.Error("opened a file that has another size now")
	}
	write(t, path, "one")
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(t, path, "longer")
	if b, err := io.ReadAll(r); err == nil {
		t.Errorf("read %q of a file that grew", b)
	}
}

func TestDirWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	w, err := entries.NewDirWriter(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e := entries.Entry{Name: "ada", ContentType: "text/vcard", Value: []byte(ada)}
	for range 2 { // the second time it is there already
		if err := w.Write("contacts", e); err != nil {
			t.Fatal(err)
		}
	}
	other := e
	other.Value = bytes.ToLower(e.Value)
	if err := w.Write("contacts", other); !errors.Is(err, entries.ErrExists) {
		t.Errorf("replacing: %v, want ErrExists", err)
	}
	file := filepath.Join(dir, "contacts", "ada.vcf")
	if b, err := os.ReadFile(file); err != nil || string(b) != ada {
		t.Errorf("file %q, %v", b, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}

	over, err := entries.NewDirWriter(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if err := over.Write("contacts", other); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); !bytes.Equal(b, other.Value) {
		t.Errorf("file %q, want it replaced", b)
	}

	// What fails half way leaves nothing.
	broken := entries.Entry{Name: "x", ContentType: "text/plain", Size: 9, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("half"), errReader{})), nil
	}}
	if err := w.Write("files", broken); err == nil {
		t.Error("no error from a reader that fails")
	}
	checkNoParts(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "files", "x%.txt")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file is there: %v", err)
	}

	// Two names that differ in case alone are two files anywhere; a file with an
	// older name keeps it.
	write(t, filepath.Join(dir, "notes", "!old.md"), "x")
	for _, name := range []string{"Note.md", "note.md", "Old.md"} {
		if err := over.Write("notes", entries.Entry{Name: name, ContentType: "text/markdown", Value: []byte(name)}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"Note.md": "Note.md", "%6eote.md": "note.md", "!old.md": "Old.md"} {
		if b, err := os.ReadFile(filepath.Join(dir, "notes", name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v; want %q", name, b, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "notes", "Old.md")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second file for one record: %v", err)
	}

	// A link in the tree leads nowhere.
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "calendar")); err != nil {
		t.Fatal(err)
	}
	if err := over.Write("calendar", e); err == nil {
		t.Error("wrote through a link to the outside")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside of the tree: %v", left)
	}
	checkNoParts(t, dir)

	busy := t.TempDir()
	write(t, filepath.Join(busy, "mine.txt"), "x")
	if _, err := entries.NewDirWriter(busy, false); err == nil || !strings.Contains(err.Error(), "neither empty nor an export") {
		t.Errorf("exporting to a directory in use: %v", err)
	}
	write(t, filepath.Join(busy, entries.Marker), "kist export 2\n")
	for _, overwrite := range []bool{false, true} {
		if _, err := entries.NewDirWriter(busy, overwrite); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("exporting to a tree of another version: %v", err)
		}
	}
	if _, err := read(t, busy, entries.Options{}); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("reading a tree of another version: %v", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func checkNoParts(t *testing.T, dir string) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, entries.TempName+"*"))
	if err != nil || len(parts) != 0 {
		t.Errorf("left over: %q, %v", parts, err)
	}
}

// Files in an exported tree that no export writes are reported, and cards in it
// are records as they are.
func TestExportedTree(t *testing.T) {
	dir := t.TempDir()
	export(t, dir, got{entries: []entries.Entry{
		{Namespace: "notes", Name: "x", ContentType: "text/vcard", Value: []byte("no card")},
	}})
	write(t, filepath.Join(dir, "stray.txt"), "x")
	write(t, filepath.Join(dir, "notes", "big!.md"), "x")
	write(t, filepath.Join(dir, "notes", ".DS_Store"), "x")
	write(t, filepath.Join(dir, "notes", "ada.vcf"), ada+bob)
	write(t, filepath.Join(dir, entries.TempName+"1-1"), "x")
	if err := os.Symlink("ada.vcf", filepath.Join(dir, "notes", "bob.vcf")); err != nil {
		t.Fatal(err)
	}
	g := mustRead(t, dir)
	if diff := cmp.Diff(map[string]string{
		`"notes" "x" "text/vcard"`:   "no card",
		`"notes" "ada" "text/vcard"`: ada + bob,
	}, g.records(t)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		entries.TempName + "1-1: not a file name that an export writes",
		"big!.md: not a file name that an export writes",
		"bob.vcf: symbolic link: not followed",
		"stray.txt: not a file name that an export writes",
	}, g.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// Whatever is exported comes in again.
func TestExportImport(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type key struct{ namespace, name string }
		drawn := rapid.MapOfN(rapid.Custom(func(rt *rapid.T) key {
			return key{
				rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,63}`).Draw(rt, "namespace"),
				drawName().Draw(rt, "name"),
			}
		}), rapid.Custom(func(rt *rapid.T) entries.Entry {
			return entries.Entry{
				ContentType: drawType().Draw(rt, "type"),
				Value:       rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "value"),
			}
		}), 0, 12).Draw(rt, "entries")

		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var g got
		for k, e := range drawn {
			e.Namespace, e.Name = k.namespace, k.name
			g.entries = append(g.entries, e)
		}
		export(t, dir, g)
		back := mustRead(t, dir)
		if len(back.problems) > 0 {
			rt.Errorf("problems: %q", back.problems)
		}
		if diff := cmp.Diff(g.records(t), back.records(t)); diff != "" {
			rt.Errorf("after export and import (-want +got):\n%s", diff)
		}
	})
}
