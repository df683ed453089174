package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kistd.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// The example is in order but for the one setting that is needed.
	code, stdout, _ := kistd(t, "config", "example")
	if code != 0 || !strings.Contains(stdout, `#listen = ""`) {
		t.Fatalf("example: exit %d\n%s", code, stdout)
	}
	write(stdout + "\ndata = \"" + filepath.Join(dir, "data") + "\"\n")
	code, stdout, stderr := kistd(t, "config", "check", "--config", file)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "the settings are in order") || strings.Count(stdout, "\n") != 2 {
		t.Errorf("check: exit %d, %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("check made the data directory")
	}

	write("data = \"d\"\nlisten = \"127.0.0.1:1\"\nretentoin = 5\n")
	code, _, stderr = kistd(t, "config", "check", "--config", file)
	if code != exitUsage || !strings.Contains(stderr, `unknown key "retentoin"`) || !strings.Contains(stderr, "\ntry: \"retention\" is the nearest") {
		t.Errorf("unknown key: exit %d, %q", code, stderr)
	}

	// A flag counts more than the environment, and that more than the file, which
	// can be named in the environment too.
	write("data = \"d\"\nlisten = \"127.0.0.1:1\"\nretention = 5\nlog-level = \"warn\"\n")
	t.Setenv("KISTD_CONFIG", file)
	t.Setenv("KISTD_RETENTION", "6")
	t.Setenv("KISTD_LISTEN", "127.0.0.1:2")
	t.Setenv("KISTD_PORT_7370_TCP", "tcp://10.0.0.1:7370")
	code, stdout, stderr = kistd(t, "config", "check", "--listen", "127.0.0.1:3")
	for _, want := range []string{"listen = \"127.0.0.1:3\"  (--listen)", "retention = 6  (KISTD_RETENTION)", "log-level = \"warn\"  (" + file + ":4)"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("check: exit %d, no %s in\n%s", code, want, stdout)
		}
	}
	if !strings.Contains(stderr, "KISTD_PORT_7370_TCP is no setting") {
		t.Errorf("stderr %q", stderr)
	}
	t.Setenv("KISTD_RETENTION", "0")
	if code, _, stderr = kistd(t, "config", "check"); code != exitUsage || !strings.Contains(stderr, "KISTD_RETENTION: at least one day") {
		t.Errorf("bad value: exit %d, %q", code, stderr)
	}

	// Commands that work on the data directory find it there.
	data := t.TempDir()
	t.Setenv("KISTD_RETENTION", "7")
	t.Setenv("KISTD_LISTEN", "127.0.0.1:0")
	t.Setenv("KISTD_DATA", data)
	t.Setenv("KISTD_LOG_LEVEL", "info")
	p := start(t)
	if code, stdout, stderr := kistd(t, "invite"); code != 0 || !strings.HasPrefix(stdout, "kistinvite1") {
		t.Errorf("invite: exit %d, %q", code, stderr)
	}
	p.waitLog("KISTD_PORT_7370_TCP")
	p.waitLog("settings=" + file)
}

// What is wrong with a setting is said with where it stands.
func TestSettingsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kistd.toml")
	for _, test := range []struct {
		args, environ []string
		file          string
		want          string
	}{
		{[]string{"--listen", "7370"}, nil, "", `--listen "7370": want HOST:PORT`},
		{nil, []string{"KISTD_LISTEN=7370"}, "", `KISTD_LISTEN "7370": want HOST:PORT`},
		{nil, nil, "# here\n\nlisten = \"7370\"\n", `listen (FILE:3) "7370": want HOST:PORT`},
		{[]string{"--deleted", "0"}, nil, "", "--deleted: at least"},
		{nil, nil, "deleted = 0\n", "deleted (FILE:2): at least"},
		{nil, nil, "deleted = \"a week\"\n", `deleted (FILE:2): "a week": want a whole number`},
		{[]string{"--deleted", "week"}, nil, "", `--deleted "week": want a whole number`},
		{nil, []string{"KISTD_PLAIN=true", "KISTD_DOMAIN=a.example.org"}, "", "KISTD_PLAIN has no use for KISTD_DOMAIN"},
		{[]string{"--plain"}, nil, "domain = \"a.example.org\"", "--plain has no use for domain (FILE:2)"},
		{[]string{"--cert", "x"}, nil, "", "--cert and --key go together"},
		{nil, []string{"KISTD_LOG_LEVEL=much"}, "", `KISTD_LOG_LEVEL "much": want debug, info, warn or error`},
		{nil, nil, "retention = 0", "retention (FILE:2): at least"},
		{nil, nil, "trusted-proxies = [\n  \"all\",\n]", `trusted-proxies (FILE:2) "all": want an address`},
		{nil, nil, "lisen = 1", "FILE:2: unknown key"},
		{nil, []string{"KISTD_LISTEN=:7370"}, "", "--url is needed: KISTD_LISTEN :7370 listens everywhere"},
	} {
		t.Run(test.want, func(t *testing.T) {
			text := test.file
			if !strings.HasPrefix(text, "#") {
				text = "data = \"d\"\n" + text
			} else {
				t.Setenv("KISTD_DATA", "d")
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, e := range test.environ {
				name, value, _ := strings.Cut(e, "=")
				t.Setenv(name, value)
			}
			code, _, stderr := kistd(t, append([]string{"config", "check", "--config", file}, test.args...)...)
			if want := strings.ReplaceAll(test.want, "FILE", file); code != exitUsage || !strings.HasPrefix(stderr, "kistd: "+want) || !strings.Contains(stderr, "\ntry: ") {
				t.Errorf("exit %d, %q, want %q", code, stderr, want)
			}
		})
	}
}

// The manual has all settings, as the program has them.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/SELF-HOSTING.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := newConfig().table.Markdown(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), table.String()) {
		t.Errorf("docs/SELF-HOSTING.md does not have this table of settings:\n%s", table.String())
	}
}

// The manual, the image and the examples name no variables and flags that there are
// not.
func TestPackaging(t *testing.T) {
	table := newConfig().table
	known := map[string]bool{"KISTD_CONFIG": true}
	for _, s := range table.Settings {
		known[table.Variable(s.Name)] = true
		known["--"+s.Name] = true
	}
	files, err := filepath.Glob("../../packaging/*")
	if err != nil || len(files) < 4 {
		t.Fatalf("packaging: %q, %v", files, err)
	}
	variable, command, flag := regexp.MustCompile(`KISTD_[A-Z_]+`), regexp.MustCompile(`kistd serve(\\\n|[^\n])*`), regexp.MustCompile(`--[a-z-]+`)
	n := 0
	for _, file := range append(files, "../../docs/SELF-HOSTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := variable.FindAllString(string(text), -1)
		for _, c := range command.FindAllString(string(text), -1) {
			named = append(named, flag.FindAllString(c, -1)...)
		}
		for _, name := range named {
			if n++; !known[name] {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d names found", n)
	}
}
