// Package golden keeps test vectors in the folder testdata/vectors at the top
// of the module, as JSON that other implementations can read.
//
// Vectors are made again only on purpose:
//
//	go test ./keys/... -run Golden -update
//
// and the difference is read before it is committed: a vector that changes is a
// format that changes.
package golden

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// Updating reports whether vectors are being made. Tests use it for vectors
// that hold what no test can make twice, such as the output of a library that
// reads random bytes itself.
func Updating() bool { return *update }

// Hex is bytes that are written in hexadecimal.
type Hex []byte

// MarshalText implements [encoding.TextMarshaler].
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Check compares v with the vectors in the named file, such as
// "keys/blob.json", and fails the test where they differ. With -update it
// writes them instead.
func Check(t *testing.T, name string, v any) {
	t.Helper()
	got := encode(t, v)
	if *update {
		Write(t, name, v)
		return
	}
	want := read(t, name)
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			line := "the end of the file"
			if i < len(w) {
				line = clip(w[i])
			}
			t.Fatalf("%s:%d:\n got  %s\n want %s", name, i+1, clip(g[i]), line)
		}
	}
	t.Fatalf("%s: %d lines more than were made", name, len(w)-len(g))
}

// Write writes v as the named file.
func Write(t *testing.T, name string, v any) {
	t.Helper()
	path := path(t, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, encode(t, v), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Load reads the named file into v, which must have all its fields.
func Load(t *testing.T, name string, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(read(t, name)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// LoadLoose reads the fields that v has from the named file.
func LoadLoose(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(read(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// path finds the file from wherever in the module the test runs.
func path(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "vectors", filepath.FromSlash(name))
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		t.Fatal("no go.mod above the test")
	}
}

func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s… (%d characters)", s[:200], len(s))
	}
	return s
}
