package keys_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestOpensNothing checks that this package, which the secondary imports, has
// nothing to open a blob or a key file with.
func TestOpensNothing(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			for _, no := range []string{"crypto/aes", "crypto/cipher", "filippo.io/", "kistvault/kist/keys/", "kist/internal/chunked"} {
				if strings.Contains(path, no) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}
