package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kistvault/kist/internal/agent"
)

// testVault makes a vault, and returns a caller of commands for it.
func testVault(t *testing.T) (caller, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := here()
	t.Setenv("KIST_VAULT", filepath.Join(dir, "v"))
	t.Setenv("KIST_PASSPHRASE_FILE", filepath.Join(dir, "pass"))
	c.stdin = strings.NewReader("")
	var out bytes.Buffer
	c.stdout, c.stderr = &out, &out
	if code := do(t.Context(), c, "init", "--key", filepath.Join(dir, "key")); code != exitOK {
		t.Fatalf("init: %d\n%s", code, &out)
	}
	return c, filepath.Join(dir, "v")
}

func do(ctx context.Context, c caller, args ...string) int {
	c.args = args
	return run(ctx, c)
}

// startAgent has kist run serve the vault until the test ends.
func startAgent(t *testing.T, c caller, dir string) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan int, 1)
	r, w := io.Pipe()
	c.stderr = w // it says so when it serves, last of all
	go func() { ended <- do(ctx, c, "run") }()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	t.Cleanup(func() {
		cancel(errTerminated)
		if code := <-ended; code != exitOK {
			t.Errorf("kist run: exit status %d", code)
		}
		w.Close()
	})
	conn, _, err := agent.Dial(dir, version())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// A silentReader says when it is read, and then nothing until the test ends.
type silentReader struct {
	once sync.Once
	read chan struct{}
	end  chan struct{}
}

func (r *silentReader) Read([]byte) (int, error) {
	r.once.Do(func() { close(r.read) })
	<-r.end
	return 0, io.EOF
}

// Ctrl-C ends a command that waits for input, with an agent and without.
func TestInterrupt(t *testing.T) {
	c, dir := testVault(t)
	for _, how := range []string{"alone", "agent"} {
		t.Run(how, func(t *testing.T) {
			if how == "agent" {
				startAgent(t, c, dir)
			}
			for _, cause := range []error{errInterrupted, errTerminated} {
				in := &silentReader{read: make(chan struct{}), end: make(chan struct{})}
				defer close(in.end)
				c := c
				var stderr bytes.Buffer
				c.stdin, c.stderr = in, &stderr
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() { <-in.read; cancel(cause) }()
				if code := do(ctx, c, "put", "notes/x"); code != exitInterrupted || stderr.String() != "kist: interrupted\n" {
					t.Errorf("%v: exit status %d, %q", cause, code, &stderr)
				}
			}
			var out bytes.Buffer
			c.stdout = &out
			if code := do(t.Context(), c, "ls"); code != exitOK || out.Len() > 0 {
				t.Errorf("ls: %d, %q", code, &out)
			}
		})
	}
}

// A command that an agent takes with it says so.
func TestAgentEndsUnderCommand(t *testing.T) {
	c, dir := testVault(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	r, w := io.Pipe()
	defer w.Close()
	holder := c
	holder.stderr = w
	go func() { ended <- do(ctx, holder, "run") }()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	in := &silentReader{read: make(chan struct{}), end: make(chan struct{})}
	defer close(in.end)
	go func() { <-in.read; cancel(errInterrupted) }()
	var stderr bytes.Buffer
	c.stdin, c.stderr = in, &stderr
	if code := do(t.Context(), c, "put", "notes/x"); code != exitTemporary || !strings.Contains(stderr.String(), "kist run ended") {
		t.Errorf("exit status %d, %q", code, &stderr)
	}
	if code := <-ended; code != exitInterrupted {
		t.Errorf("kist run: exit status %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, agent.FileName)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// What needs the person's own files and terminal is done by the client.
func TestAskThroughAgent(t *testing.T) {
	c, dir := testVault(t)
	srv, err := agent.Listen(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(ctx, func(ctx context.Context, ac *agent.Caller) int {
			a := &app{caller: (&held{dir: dir}).client(ac)}
			p, err := a.passphrase(ctx, "me.kistkey", false)
			if err != nil {
				f := a.explain(err)
				a.printProblem(f)
				return f.code
			}
			fmt.Fprintf(a.stdout, "%s", p)
			return exitOK
		})
	}()
	for _, test := range []struct {
		file string
		code int
		out  string
	}{
		{filepath.Join(filepath.Dir(dir), "pass"), exitOK, "correct horse battery staple"},
		{filepath.Join(dir, "nothing"), exitUsage, "kist: reading the passphrase file: "},
	} {
		conn, _, err := agent.Dial(dir, "test")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		client := &app{caller: c, passFile: test.file, passFD: -1}
		code, err := conn.Run(t.Context(), agent.Call{}, agent.Streams{Out: &out, Err: &out, Answer: client.answer})
		if err != nil || code != test.code || !strings.HasPrefix(out.String(), test.out) {
			t.Errorf("%d, %v, %q", code, err, &out)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestZoneOf(t *testing.T) {
	for value, want := range map[string]string{"": "UTC", "Asia/Tokyo": "Asia/Tokyo", ":Asia/Tokyo": "Asia/Tokyo", "no/where": "UTC"} {
		got := zoneOf(func(string) (string, bool) { return value, true })
		if got.String() != want {
			t.Errorf("TZ=%q is %s, want %s", value, got, want)
		}
	}
}

func TestGiven(t *testing.T) {
	c := caller{dir: "/home/ü x"}
	for _, path := range []string{"a.txt", "./a", "../b", "c/../d"} {
		full := c.at(path)
		if !filepath.IsAbs(full) {
			t.Errorf("%s is not absolute", full)
		}
		for _, text := range []string{full, fmt.Sprintf("open %q: no", full)} {
			if want := strings.ReplaceAll(text, full, path); c.given(text) != want && c.given(text) != fmt.Sprintf("open %q: no", path) {
				t.Errorf("%s became %s", text, c.given(text))
			}
		}
	}
	if c.at("") != "" || c.at("/x") != "/x" || (&caller{}).at("x") != "x" {
		t.Error("a path was changed that means the same everywhere")
	}
}
