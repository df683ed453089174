//go:build unix

package main

import (
	"os"
	"strings"
	"testing"
)

// Root makes nothing in a data directory of somebody else, who could not use it; it asks
// the server.
func TestRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can try that")
		return
	}
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0")
	if err := os.Chown(dir, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"vaults", "compact", "verify", "doctor", "invite"} {
		if code, _, stderr := kistd(t, command, "--data", dir); code != 0 && command != "doctor" {
			t.Errorf("%s beside a server: exit %d, %s", command, code, stderr)
		}
	}
	p.end()
	for _, command := range []string{"vaults", "compact", "verify", "doctor", "invite"} {
		if code, _, stderr := kistd(t, command, "--data", dir); code != exitFailed || !strings.Contains(stderr, "another user") || !strings.Contains(stderr, "try: as that user") {
			t.Errorf("%s: exit %d, %s", command, code, stderr)
		}
	}
}
