// Package settings has one table of a program's settings, from which its flags,
// its environment variables, its file and their descriptions follow, so that they
// cannot differ.
//
// A setting "trusted-proxies" of kistd is the flag --trusted-proxies, the variable
// KISTD_TRUSTED_PROXIES, and the key trusted-proxies of the file, which is TOML
// without tables. A flag counts more than the environment, and that more than the
// file.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"
)

// A Setting is one line of the table. Its value has the default until it is set.
type Setting struct {
	Group string // heading that it stands under
	Name  string // lower case, words joined by hyphens
	Value pflag.Value
	Usage string // one line, for --help
	More  string // what there is to say beyond that, for the example and the manual
}

// A Table is all settings of a program.
type Table struct {
	Program  string // in lower case; in upper case it begins the variables
	Settings []Setting

	group string
}

// Group begins a group of settings.
func (t *Table) Group(title string) { t.group = title }

// Add adds a setting to the group.
func (t *Table) Add(name string, value pflag.Value, usage, more string) {
	t.Settings = append(t.Settings, Setting{t.group, name, value, usage, more})
}

// Error is a setting that is not as it should be.
type Error struct {
	Where string // where it stands: a file, a variable
	What  string
	Hint  string // what to do; may be empty
}

func (e *Error) Error() string { return e.Where + ": " + e.What }

// Variable returns the name of a setting's environment variable.
func (t *Table) Variable(name string) string {
	return strings.ToUpper(t.Program + "_" + strings.ReplaceAll(name, "-", "_"))
}

// AddFlags adds the flags of some settings.
func (t *Table) AddFlags(to *pflag.FlagSet, names ...string) {
	for _, name := range names {
		s := t.find(name)
		if s == nil {
			panic("settings: no setting " + name)
		}
		f := &pflag.Flag{Name: name, Usage: s.Usage, Value: s.Value, DefValue: s.Value.String()}
		if s.Value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
		to.AddFlag(f)
	}
}

func (t *Table) find(name string) *Setting {
	if i := slices.IndexFunc(t.Settings, func(s Setting) bool { return s.Name == name }); i >= 0 {
		return &t.Settings[i]
	}
	return nil
}

// Loaded says where the values come from.
type Loaded struct {
	From    map[string]string // of settings that have not their default: "--listen", "KISTD_LISTEN", or file and line
	Strange []string          // what looks like a variable of the program and is none
}

// Name names a setting in a sentence, with where it comes from: --listen, KISTD_LISTEN,
// or listen (FILE:LINE). One that nothing sets is named as its flag.
func (l *Loaded) Name(setting string) string {
	switch from := l.From[setting]; {
	case from == "":
		return "--" + setting
	case strings.HasPrefix(from, "--"), !strings.Contains(from, ":"):
		return from
	default:
		return setting + " (" + from + ")"
	}
}

// Load sets what no flag has set from the environment, and what that does not say
// from the file at path; "" is no file. Errors are *Error, or those of reading a
// file.
func (t *Table) Load(flags *pflag.FlagSet, environ []string, path string) (*Loaded, error) {
	l := &Loaded{From: make(map[string]string)}
	for _, s := range t.Settings {
		if f := flags.Lookup(s.Name); f != nil && f.Changed {
			l.From[s.Name] = "--" + s.Name
		}
	}
	if err := t.fromEnvironment(l, environ); err != nil {
		return nil, err
	}
	if path != "" {
		if err := t.fromFile(l, path); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (t *Table) fromEnvironment(l *Loaded, environ []string) error {
	values := make(map[string]string)
	for _, e := range environ {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, t.Variable("")) {
			values[name] = value
		}
	}
	for _, s := range t.Settings {
		name := t.Variable(s.Name)
		text, given := values[name]
		delete(values, name)
		if l.From[s.Name] != "" || !given {
			continue
		}
		if err := s.Value.Set(text); err != nil {
			return &Error{Where: name, What: Wrong(s.Value, text)}
		}
		l.From[s.Name] = name
	}
	delete(values, t.Variable("config")) // names the file
	for name := range values {
		l.Strange = append(l.Strange, name)
	}
	slices.Sort(l.Strange)
	return nil
}

func (t *Table) fromFile(l *Loaded, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return &Error{Where: path, What: "there is no such file", Hint: t.Program + " config example prints one"}
		}
		return err
	}
	values := make(map[string]any)
	meta, err := toml.Decode(string(text), &values)
	if err != nil {
		var p toml.ParseError
		if errors.As(err, &p) {
			hint := "text stands in quotes: listen = \"127.0.0.1:7370\""
			if strings.Contains(p.Message, "already been defined") {
				hint = "remove one of the lines"
			}
			return &Error{Where: fmt.Sprintf("%s:%d", path, p.Position.Line), What: p.Message, Hint: hint}
		}
		return &Error{Where: path, What: err.Error()}
	}
	for _, key := range meta.Keys() { // in the file's order
		name := key.String()
		where := fmt.Sprintf("%s:%d", path, lineOf(string(text), key[0]))
		s := t.find(name)
		if s == nil {
			return &Error{Where: where, What: fmt.Sprintf("unknown key %q", name), Hint: t.didYouMean(name)}
		}
		if l.From[name] != "" {
			continue
		}
		l.From[name] = where
		if err := set(s, values[name]); err != nil {
			return &Error{Where: l.Name(name), What: err.Error()}
		}
	}
	return nil
}

// lineOf returns the number of the line that a key begins; 1 where it is written as
// none of the settings needs to be.
func lineOf(text, key string) int {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimLeft(line, " \t[\"'")
		if rest, ok := strings.CutPrefix(line, key); ok && strings.ContainsAny(rest[:min(1, len(rest))], " \t=\"'].") {
			return n
		}
	}
	return 1
}

// set gives a setting what the file says.
func set(s *Setting, value any) error {
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case int64:
		text = strconv.FormatInt(v, 10)
	case []any:
		list, ok := s.Value.(*listValue)
		if !ok {
			return fmt.Errorf("want %s, not a list", kind(s.Value))
		}
		var all []string
		for _, e := range v {
			one, ok := e.(string)
			if !ok {
				return errors.New("want a list of texts")
			}
			all = append(all, one)
		}
		*list.to = all
		return nil
	default:
		return fmt.Errorf("want %s", kind(s.Value))
	}
	if s.Value.Set(text) != nil {
		return errors.New(Wrong(s.Value, text))
	}
	return nil
}

// Wrong says what is wrong with a text that a value does not take.
func Wrong(v pflag.Value, text string) string { return fmt.Sprintf("%q: want %s", text, kind(v)) }

// kind says what a value is.
func kind(v pflag.Value) string {
	switch v.Type() {
	case "bool":
		return "true or false"
	case "uint32", "uint64", "int":
		return "a whole number"
	case "duration":
		return "a time such as 30s or 5m"
	case "size":
		return "a size such as 64KiB, 100MiB or 2GiB"
	case "list":
		return "texts, separated by commas"
	}
	return "a text"
}

// didYouMean is the hint for a name that is not in the table.
func (t *Table) didYouMean(name string) string {
	all := t.Program + " config example lists all settings"
	best, far := "", 1<<30
	for _, s := range t.Settings {
		if d := distance(name, s.Name); d < far {
			best, far = s.Name, d
		}
	}
	if best == "" {
		return all
	}
	return fmt.Sprintf("%q is the nearest that there is; %s", best, all)
}

// distance counts the letters to be changed, added or removed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
