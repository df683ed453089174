package testonly_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// set finds places that turn a switch. Reading one is allowed.
var set = regexp.MustCompile(`testonly\.\w+\s*=[^=]|&testonly\.`)

// TestOnlyTestsSetSwitches reads the source of the whole module. Packages whose
// folder ends in "test" are for tests and no part of a program.
func TestOnlyTestsSetSwitches(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(filepath.Dir(path), "test") {
			return nil
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if where := set.Find(b); where != nil {
			t.Errorf("%s: %s: only tests may do this", path, where)
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("read %d files, %v", files, err)
	}
	if !set.MatchString("testonly.ScryptWorkFactor = 10") || set.MatchString("n := testonly.ScryptWorkFactor; n != 0") {
		t.Error("this test does not find what it looks for")
	}
}
