package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kistvault/kist/"

// A room is a package and what it may import: packages of this module, and
// those of others by the first part of their path. The standard library is not
// listed.
type room struct {
	floor   int
	path    string
	imports string
	foreign string
}

// The rooms, from the ground up: one imports only such as stand above it in this
// list, on its own floor or on a lower one.
var rooms = []room{
	{0, "internal/ballast", "", ""},
	{0, "internal/bech32", "", ""},
	{0, "internal/chunked", "", ""},
	{0, "internal/durable", "", "golang.org/x/sys"},
	{0, "internal/entries", "", ""},
	{0, "internal/metrics", "", ""},
	{0, "internal/peer", "", ""},
	{0, "internal/settings", "", "github.com/BurntSushi/toml github.com/spf13/pflag"},
	{0, "internal/term", "", "golang.org/x/term"},
	{0, "internal/testonly", "", ""},
	{0, "internal/words", "", ""},
	{0, "keys", "internal/bech32", ""},
	{0, "keys/seal", "keys internal/chunked", ""},
	{0, "keys/keyfile", "keys internal/durable internal/testonly", "filippo.io/age"},
	{0, "commitlog", "keys", "golang.org/x/mod"},
	{0, "secondary/wire", "keys commitlog internal/bech32", "github.com/fxamacker/cbor"},

	{1, "commitlog/store", "keys commitlog internal/durable internal/testonly", "go.etcd.io/bbolt golang.org/x/sys"},
	{1, "secondary/internal/frames", "secondary/wire", "github.com/gorilla/websocket"},
	{1, "secondary/client", "keys secondary/wire secondary/internal/frames", "github.com/gorilla/websocket"},
	{1, "secondary/engine", "keys commitlog secondary/wire", ""},
	{1, "secondary/archive", "keys commitlog secondary/engine", ""},
	{1, "secondary/engine/embedded", "keys commitlog commitlog/store secondary/wire secondary/engine internal/durable", ""},

	{2, "secondary", "keys commitlog commitlog/store secondary/wire secondary/engine secondary/engine/embedded secondary/internal/frames internal/bech32 internal/durable internal/metrics", "github.com/gorilla/websocket golang.org/x/sys"},
	{2, "secondary/admin", "keys commitlog commitlog/store secondary secondary/archive secondary/engine secondary/engine/embedded secondary/wire internal/durable internal/metrics internal/peer", ""},
	{2, "vault", "internal/testonly keys keys/seal keys/keyfile commitlog commitlog/store secondary/wire secondary/client internal/durable", ""},
	{2, "secondary/front", "secondary/wire", ""},
	{2, "internal/agent", "internal/peer", ""},
	{2, "internal/certs", "", "golang.org/x/crypto/acme"},
	{2, "onboarding", "keys keys/keyfile commitlog secondary/wire secondary/client vault internal/durable", ""},

	{3, "cmd/kistd", "commitlog/store secondary/wire secondary/engine secondary/archive secondary secondary/admin secondary/front internal/ballast internal/certs internal/settings internal/term", "github.com/spf13 golang.org/x/sys"},
	{3, "cmd/kist", "keys keys/seal keys/keyfile commitlog secondary/wire vault onboarding internal/agent internal/entries internal/term internal/words", "github.com/spf13"},
}

// beside are packages for tests and for work on kist, with those below them.
// They import what they need, and no room imports them.
var beside = []string{
	"internal/archtest", "internal/attacks", "internal/bench", "internal/crash", "internal/demo", "internal/certs/certstest", "internal/golden", "internal/porttest", "internal/stress",
	"secondary/engine/enginetest", "secondary/internal/rawvault", "secondary/secondarytest",
	"vault/vaulttest",
}

func isBeside(path string) bool {
	return slices.ContainsFunc(beside, func(h string) bool { return path == h || strings.HasPrefix(path, h+"/") })
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, patterns ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,Imports,Deps"}, patterns...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// find returns the room of that path, nil if there is none.
func find(path string) *room {
	if i := slices.IndexFunc(rooms, func(r room) bool { return r.path == path }); i >= 0 {
		return &rooms[i]
	}
	return nil
}

// The table itself says what the picture says: imports go down.
func TestRoomsGoDown(t *testing.T) {
	floor := 0
	seen := make(map[string]bool)
	for _, r := range rooms {
		if r.floor < floor {
			t.Errorf("%s stands out of order", r.path)
		}
		floor = r.floor
		for _, i := range strings.Fields(r.imports) {
			if !seen[i] {
				t.Errorf("%s imports %s, which does not stand below it", r.path, i)
			}
		}
		seen[r.path] = true
	}
}

// Every package stands in the table, and imports what the table says it may.
func TestImports(t *testing.T) {
	there := make(map[string]bool)
	for _, p := range list(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		there[path] = true
		if isBeside(path) {
			continue
		}
		r := find(path)
		if r == nil {
			t.Errorf("%s has no place in the table", path)
			continue
		}
		ours := strings.Fields(r.imports)
		used := make(map[string]bool)
		for _, i := range p.Imports {
			own, isOwn := strings.CutPrefix(i, module)
			switch first, _, _ := strings.Cut(i, "/"); {
			case isOwn && !slices.Contains(ours, own):
				t.Errorf("%s may not import %s", path, own)
			case isOwn:
				used[own] = true
			case strings.Contains(first, "."):
				if !slices.ContainsFunc(strings.Fields(r.foreign), func(f string) bool { return i == f || strings.HasPrefix(i, f+"/") }) {
					t.Errorf("%s may not import %s", path, i)
				}
			}
		}
		for _, i := range ours {
			if !used[i] {
				t.Errorf("%s does not import %s any more", path, i)
			}
		}
	}
	for _, r := range rooms {
		if !there[r.path] {
			t.Errorf("%s is in the table and nowhere else", r.path)
		}
	}
}

// The secondary cannot open a record: no package that opens blobs, reads key
// files or holds a vault is linked into it.
func TestSecondaryOpensNothing(t *testing.T) {
	closed := []string{
		module + "vault", module + "onboarding", module + "keys/seal", module + "keys/keyfile",
		module + "internal/chunked", "filippo.io/age", "filippo.io/hpke",
	}
	for _, p := range list(t, "./cmd/kistd", "./secondary", "./secondary/engine/embedded") {
		if !slices.Contains(p.Deps, module+"keys") {
			t.Fatalf("go list names no dependencies of %s", p.ImportPath)
		}
		for _, d := range p.Deps {
			if slices.ContainsFunc(closed, func(c string) bool { return d == c || strings.HasPrefix(d, c+"/") }) {
				t.Errorf("%s is linked with %s", p.ImportPath, d)
			}
		}
	}
}

// No program is linked with what is for tests, or with html/template, which
// keeps the linker from leaving out what is not used.
func TestProgramsAreLean(t *testing.T) {
	for _, p := range list(t, "./cmd/...") {
		for _, d := range p.Deps {
			if d == "testing" || d == "html/template" || isBeside(strings.TrimPrefix(d, module)) {
				t.Errorf("%s is linked with %s", p.ImportPath, d)
			}
		}
	}
}

// Package commitlog is pure: the secondary and every device have to come to the
// same result from the same bytes.
func TestLogIsPure(t *testing.T) {
	for _, p := range list(t, "./commitlog") {
		for _, i := range p.Imports {
			switch first, _, _ := strings.Cut(i, "/"); first {
			case "os", "net", "io", "time", "context", "sync", "runtime", "syscall":
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

// The two lower floors start no goroutines, but for the client's connection and
// the agent's, which each have two directions: who calls them decides what runs at
// the same time.
func TestNoGoroutinesBelow(t *testing.T) {
	for _, p := range list(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		// term waits for a key that may never be pressed.
		if r := find(path); r == nil || r.floor > 1 || path == "secondary/client" || path == "internal/agent" || path == "internal/term" {
			continue
		}
		for _, name := range p.GoFiles {
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				starts := false
				switch n := n.(type) {
				case *ast.GoStmt:
					starts = true
				case *ast.SelectorExpr: // of a WaitGroup
					starts = n.Sel.Name == "Go"
				}
				if starts {
					t.Errorf("%s: %s starts a goroutine", files.Position(n.Pos()), path)
				}
				return true
			})
		}
	}
}

// DESIGN.md shows every room.
func TestDesignNamesRooms(t *testing.T) {
	design, err := os.ReadFile("../../docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		if !strings.Contains(string(design), "`"+r.path+"`") {
			t.Errorf("docs/DESIGN.md does not name `%s`", r.path)
		}
	}
}

// What comments cite of SPEC.md is there, in a heading of that name.
func TestSpecReferences(t *testing.T) {
	spec, err := os.ReadFile("../../docs/SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := make(map[string]bool)
	for line := range strings.Lines(string(spec)) {
		if number, title, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(number, "##") {
			_, title, _ = strings.Cut(title, " ") // its number
			headings[title] = true
		}
	}
	cited := regexp.MustCompile(`SPEC\.md[^\n]*`)
	quoted := regexp.MustCompile(`"([^"]+)"`)
	n := 0
	for _, p := range list(t, "./...") {
		if strings.HasSuffix(p.ImportPath, "/archtest") {
			continue
		}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cited.FindAllString(string(text), -1) {
				for _, q := range quoted.FindAllStringSubmatch(c, -1) {
					if n++; !headings[q[1]] {
						t.Errorf("%s: SPEC.md has no section %q", filepath.Join(p.Dir, name), q[1])
					}
				}
			}
		}
	}
	if n == 0 {
		t.Error("no comment cites SPEC.md")
	}
}
