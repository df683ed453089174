package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0")
	see := func(want int, texts ...string) {
		t.Helper()
		code, out, stderr := kistd(t, "doctor", "--data", dir)
		full := strings.Contains(out, "bad   disk") // of the machine that tests
		if code != want && !full {
			t.Errorf("exit %d, want %d:\n%s%s", code, want, out, stderr)
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("no %q in:\n%s", text, out)
			}
		}
	}
	see(0, "ok    server    it runs", "ok    rights", "ok    clock", "ok    tidy")
	key := filepath.Join(dir, "server.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	see(exitFailed, "bad   rights    others can enter", "others can read "+key)
	p.end()
	// Whoever opens the directory next has closed it again.
	see(0, "note  server    it does not run", "ok    rights")
}
