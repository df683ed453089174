package attacks_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/ATTACKS.md names tests that there are, and every one that is here.
func TestTable(t *testing.T) {
	table, err := os.ReadFile("../../docs/ATTACKS.md")
	fatal(t, err)
	// Within a cell, a test is of the package that was named last.
	here := make(map[string]bool)
	named := make(map[string]map[string]bool)
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !regexp.MustCompile(`^ [A-D]\d+ $`).MatchString(cells[1]) {
			continue
		}
		for part := range strings.SplitSeq(cells[3], ";") {
			in := "internal/attacks"
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(part, -1) {
				word := m[1]
				if !strings.HasPrefix(word, "Test") && !strings.HasPrefix(word, "Fuzz") {
					in = word
					continue
				}
				if named[in] == nil {
					named[in] = make(map[string]bool)
				}
				named[in][word] = true
				here[word] = true
			}
		}
	}
	if len(named) < 5 {
		t.Fatalf("tests of %d packages are named", len(named))
	}
	for in, tests := range named {
		have := functions(t, "../../"+in)
		for test := range tests {
			if !have[test] {
				t.Errorf("%s has no %s", in, test)
			}
		}
	}
	for test := range functions(t, ".") {
		if regexp.MustCompile(`^Test[A-D]\d`).MatchString(test) && !here[test] {
			t.Errorf("%s is not in the table", test)
		}
	}
}

// functions returns the names of the tests in a directory.
func functions(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	fatal(t, err)
	out := make(map[string]bool)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(dir + "/" + e.Name())
		fatal(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			out[string(m[1])] = true
		}
	}
	return out
}
