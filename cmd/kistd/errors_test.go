package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever does something wrong is told what, in one line, and in another what to do.
func TestErrors(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	t.Setenv("KISTD_DATA", "data")
	p := startAnywhere(t)
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Fatal(err)
	}
	_, list, _ := kistd(t, "vaults")
	vault := strings.Fields(strings.Split(list, "\n")[1])[0]
	if err := os.MkdirAll("foreign", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("foreign/x", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 120)
	fails := func(args string, code int, what, try string) {
		t.Helper()
		got, _, stderr := kistd(t, strings.Fields(args)...)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if got != code || len(lines) != 2 || !strings.HasPrefix(lines[0], "kistd: ") || !strings.HasPrefix(lines[1], "try: ") ||
			!strings.Contains(lines[0], what) || !strings.Contains(lines[1], try) {
			t.Errorf("kistd %s: exit %d, %q; want %d, %q, %q", args, got, stderr, code, what, try)
		}
	}
	fails("", exitUsage, "a command is needed", "kistd --help")
	fails("bogus", exitUsage, `unknown command "bogus"`, "kistd --help")
	fails("help bogus", exitUsage, `unknown command "bogus"`, "kistd --help")
	fails("vaults bogus", exitUsage, `unknown command "vaults bogus"`, "kistd vaults --help")
	fails("config bogus", exitUsage, `unknown command "config bogus"`, "kistd config --help")
	fails("serve --bogus", exitUsage, "unknown flag: --bogus", "kistd serve --help")
	fails("invite --uses x", exitUsage, `--uses "x": want a whole number`, "kistd invite --help")
	fails("config check --config foreign", exitFailed, "is a directory", "chmod")
	fails("vaults suspend ZZZZ", exitFailed, "not found", "kistd vaults")
	fails("vaults export "+vault+" nodir/x", exitFailed, "exporting to nodir/x: no such file or directory", "a directory that is there")
	fails("vaults export "+vault+" foreign/x", exitFailed, "is there already", "another name")
	fails("vaults import nofile", exitFailed, "importing nofile: no such file or directory", "kistd vaults export")
	fails("vaults import foreign", exitFailed, "importing foreign: is a directory", "kistd vaults export")
	fails("vaults import foreign/x", exitIntegrity, "the archive is damaged", "another copy")
	fails("backup foreign", exitFailed, "not a backup of this server", "empty or not there yet")
	fails("backup foreign/x", exitFailed, "foreign/x", "is a file")
	fails("backup data/x", exitUsage, "cannot be in the data directory", "kistd backup --help")
	if err := os.Symlink("data", "link"); err != nil {
		t.Fatal(err)
	}
	fails("backup link/x/y", exitUsage, "cannot be in the data directory", "kistd backup --help")
	fails("migrate --to new", exitInUse, "in use", "stop kistd first")
	fails("verify --data none", exitNone, "not a data directory", "--data with the directory")
	fails("verify --data foreign/x", exitFailed, "foreign/x", "is a file")
	fails("serve --listen 127.0.0.1:0", exitInUse, "in use", "end the other kistd")
	fails("serve --data foreign --listen 127.0.0.1:0", exitNone, `holds "x"`, "empty or not there yet")
	fails("serve --data foreign/x --listen 127.0.0.1:0", exitFailed, "foreign/x", "is a file")
	fails("serve --data "+long+" --listen 127.0.0.1:0", exitUsage, "too long", "shorter path")
	fails("log-level loud", exitUsage, `"loud": want debug`, "kistd log-level --help")
	p.end()

	fails("health", exitFailed, "the server does not answer", "systemctl start kistd, or kistd serve --data data")
	fails("health --data none", exitNone, "no server has run with it", "kistd serve --data none")
	fails("log-level", exitFailed, "no server runs", "kistd serve --log-level")
	fails("log-level debug", exitFailed, "no server runs", "kistd serve --log-level")
	fails("migrate --to foreign", exitFailed, `holds "x"`, "empty, or not there yet")
	fails("migrate --to foreign/x", exitFailed, "foreign/x", "is a file")
	if err := os.Rename("data/server.key", "key"); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"vaults", "verify", "serve --listen 127.0.0.1:0"} {
		fails(command, exitIntegrity, "server.key is missing", "from a backup")
	}
	if err := os.Rename("key", "data/server.key"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("data", "version"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"vaults", "verify", "serve --listen 127.0.0.1:0"} {
		fails(command, exitFailed, "belongs to a newer kistd", "the newer kistd")
	}
}

// What can be taken back says how, and until when.
func TestWayBack(t *testing.T) {
	t.Setenv("KISTD_DATA", t.TempDir())
	p := startAnywhere(t)
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Fatal(err)
	}
	_, list, _ := kistd(t, "vaults")
	vault := strings.Fields(strings.Split(list, "\n")[1])[0][:4]
	for _, test := range []struct{ args, want string }{
		{"vaults suspend " + vault, "kistd vaults resume " + vault + " lets its devices in again"},
		{"vaults resume " + vault, ""},
		{"vaults delete " + vault, ", kistd vaults resume " + vault + " has it back; then it goes"},
		{"vaults delete --json " + vault, ""},
		{"vaults delete --now " + vault, "it is gone from here"},
	} {
		code, _, stderr := kistd(t, strings.Fields(test.args)...)
		if code != exitOK || !strings.Contains(stderr, test.want) || test.want == "" && stderr != "" {
			t.Errorf("%s: exit %d, %q, want %q", test.args, code, stderr, test.want)
		}
	}
}
