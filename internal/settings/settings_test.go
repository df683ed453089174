package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/kistvault/kist/internal/settings"
)

// values are the settings of a program that is tested.
type values struct {
	listen  string
	plain   bool
	days    uint32
	wait    time.Duration
	proxies []string
	free    uint64
}

func newTable() (*values, *settings.Table) {
	v := new(values)
	t := &settings.Table{Program: "prog"}
	t.Group("Where")
	t.Add("listen", settings.Text(&v.listen, "127.0.0.1:1"), "`ADDRESS` to listen on", "Port 0 picks a free one.")
	t.Add("plain", settings.Switch(&v.plain), "no TLS", "")
	t.Add("trusted-proxies", settings.List(&v.proxies), "whom to trust", "")
	t.Group("What")
	t.Add("retention", settings.Number(&v.days, 30), "days", "")
	t.Add("wait", settings.Duration(&v.wait, 8*time.Second), "how long", "")
	t.Add("min-free", settings.Size(&v.free, 100<<20), "free space", "")
	return v, t
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prog.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads with these flags, variables and file.
func load(t *testing.T, args, environ []string, file string) (*values, *settings.Loaded, error) {
	t.Helper()
	v, table := newTable()
	flags := pflag.NewFlagSet("prog", pflag.ContinueOnError)
	table.AddFlags(flags, "listen", "plain", "trusted-proxies", "retention", "wait", "min-free")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	l, err := table.Load(flags, environ, file)
	return v, l, err
}

func TestPrecedence(t *testing.T) {
	file := write(t, "listen = \"file:1\"\nretention = 5\nplain = true\ntrusted-proxies = [\"10.0.0.0/8\", \"::1\"]\nmin-free = \"1GiB\"\n")
	v, l, err := load(t, []string{"--listen", "flag:1"}, []string{"PROG_LISTEN=env:1", "PROG_RETENTION=6", "PROG_PLAIN=false", "HOME=/", "PROGRAM=x"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if v.listen != "flag:1" || v.days != 6 || v.plain || v.wait != 8*time.Second || v.free != 1<<30 {
		t.Errorf("%+v", *v)
	}
	if !slices.Equal(v.proxies, []string{"10.0.0.0/8", "::1"}) {
		t.Errorf("proxies %q", v.proxies)
	}
	if l.From["listen"] != "--listen" || l.From["retention"] != "PROG_RETENTION" || l.From["min-free"] != file+":5" || l.From["wait"] != "" {
		t.Errorf("from %v", l.From)
	}
}

func TestValues(t *testing.T) {
	v, _, err := load(t, []string{"--trusted-proxies", "a, b", "--trusted-proxies", "c", "--plain"},
		[]string{"PROG_LISTEN=from:1", "PROG_WAIT=1m30s", "PROG_MIN_FREE=2 mb"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if v.listen != "from:1" || !v.plain || v.wait != 90*time.Second || v.free != 2e6 || strings.Join(v.proxies, " ") != "a b c" {
		t.Errorf("%+v", *v)
	}
	_, l, err := load(t, nil, []string{"PROG_PORT_TCP=1", "PROG_LISTN=x", "PROG_CONFIG=y"}, "")
	if err != nil || !slices.Equal(l.Strange, []string{"PROG_LISTN", "PROG_PORT_TCP"}) {
		t.Errorf("strange: %v, %v", l, err)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		environ    []string
		file       string
		what, hint string
	}{
		"unknown key":      {nil, "lisen = 1", `unknown key "lisen"`, `"listen"`},
		"unknown key, far": {nil, "trustedproxy = 1", `unknown key "trustedproxy"`, `"trusted-proxies"`},
		"a table":          {nil, "[listen]\na = 1", "prog.toml:1): want a text", ""},
		"no TOML":          {nil, "a = \"x\"\nlisten = 127.0.0.1:1", "prog.toml:2", "quotes"},
		"number":           {nil, "retention = \"soon\"", `prog.toml:1): "soon": want a whole number`, ""},
		"size":             {nil, "min-free = \"much\"", "want a size", ""},
		"size too large":   {nil, "min-free = \"99999999999TiB\"", "want a size", ""},
		"list of numbers":  {nil, "trusted-proxies = [1]", "want a list of texts", ""},
		"list for a text":  {nil, "listen = [\"a\"]", "not a list", ""},
		"time":             {nil, "wait = 1.5", "want a time", ""},
		"variable":         {[]string{"PROG_PLAIN=perhaps"}, "", `PROG_PLAIN: "perhaps": want true or false`, ""},
	} {
		file := ""
		if test.file != "" {
			file = write(t, test.file)
		}
		_, _, err := load(t, nil, test.environ, file)
		if err == nil || !strings.Contains(err.Error(), test.what) {
			t.Errorf("%s: %v, want %q", name, err, test.what)
			continue
		}
		var e *settings.Error
		if test.hint != "" && (!errors.As(err, &e) || !strings.Contains(e.Hint, test.hint)) {
			t.Errorf("%s: %#v, want the hint %q", name, err, test.hint)
		}
	}
	if _, _, err := load(t, nil, nil, "/none/prog.toml"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

// The example is a file that sets nothing, and with its # taken away one that sets
// every setting to its default.
func TestExample(t *testing.T) {
	_, table := newTable()
	var b strings.Builder
	if err := table.Example(&b); err != nil {
		t.Fatal(err)
	}
	if _, l, err := load(t, nil, nil, write(t, b.String())); err != nil || len(l.From) > 0 {
		t.Errorf("example: %v, %v", l, err)
	}
	var all []string
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && rest[0] != ' ' {
			all = append(all, rest)
		}
	}
	v, l, err := load(t, nil, nil, write(t, strings.Join(all, "")))
	if err != nil || len(l.From) != len(table.Settings) {
		t.Fatalf("%v, %v\n%s", l, err, b.String())
	}
	if before, _ := newTable(); v.listen != before.listen || v.free != before.free || v.days != 30 || v.wait != before.wait {
		t.Errorf("%+v, want %+v", *v, *before)
	}
}
