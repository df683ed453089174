package attacks_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The tables in docs name tests that there are, and every one that is named after a line
// of them.
func TestTable(t *testing.T) {
	for _, table := range []struct {
		file, of string // a package: of tests that are named without one
		lines    string
	}{
		{"ATTACKS.md", "internal/attacks", `[A-D]\d+`},
		{"SCENARIOS.md", "internal/stress", `H5\d`},
	} {
		t.Run(table.file, func(t *testing.T) {
			text, err := os.ReadFile("../../docs/" + table.file)
			fatal(t, err)
			named := namedTests(string(text), table.of, regexp.MustCompile(`^ `+table.lines+` $`))
			if len(named) < 5 {
				t.Fatalf("tests of %d packages are named", len(named))
			}
			for in, tests := range named {
				have := functions(t, "../../"+in)
				for test := range tests {
					if script := "../../" + in + "/testdata/script/" + test; strings.HasSuffix(test, ".txt") {
						_, err := os.Stat(script)
						fatal(t, err)
					} else if !have[test] {
						t.Errorf("%s has no %s", in, test)
					}
				}
			}
			about := regexp.MustCompile(`^Test` + table.lines)
			if table.of == "internal/stress" {
				about = regexp.MustCompile(`^Test`) // it has no others
			}
			for test := range functions(t, "../../"+table.of) {
				if about.MatchString(test) && test != "TestMain" && !named[table.of][test] {
					t.Errorf("%s is not in the table", test)
				}
			}
		})
	}
}

// namedTests returns the tests that the lines of a table name in their third cell, by
// package. Within a cell, a test is of the package that was named last, and in each part
// of it that a semicolon ends first of the one that the table is about.
func namedTests(text, of string, lines *regexp.Regexp) map[string]map[string]bool {
	named := make(map[string]map[string]bool)
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !lines.MatchString(cells[1]) {
			continue
		}
		for part := range strings.SplitSeq(cells[3], ";") {
			in := of
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(part, -1) {
				word := m[1]
				switch {
				case strings.HasPrefix(word, "Test"), strings.HasPrefix(word, "Fuzz"), strings.HasSuffix(word, ".txt"):
					if named[in] == nil {
						named[in] = make(map[string]bool)
					}
					named[in][word] = true
				case !strings.Contains(word, " "): // no command
					in = word
				}
			}
		}
	}
	return named
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
