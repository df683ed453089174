package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
)

// An open server takes everybody, with an address that it prints; one that is closed
// again takes nobody with that.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	p := startAnywhere(t, "--data", dir, "--open")
	everybody, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil || everybody.Token != (wire.Token{}) {
		t.Fatalf("the first invite that is printed: %v, %v", everybody, err)
	}
	for range 3 {
		if err := create(t, everybody, newAuthority()); err != nil {
			t.Errorf("open: %v", err)
		}
	}
	p.end()
	start(t, "--data", dir, "--listen", strings.TrimSuffix(strings.TrimPrefix(everybody.URL, "wss://"), "/"))
	if err := create(t, everybody, newAuthority()); !errors.Is(err, wire.ErrInvite) {
		t.Errorf("closed: %v, want ErrInvite", err)
	}
}

// On an open server a vault has a quota where none is set, and elsewhere it has none.
func TestOpenQuota(t *testing.T) {
	for name, test := range map[string]struct {
		flags []string
		want  string
	}{
		"open":         {[]string{"--open"}, "1.0 GiB, 1000000 commits\n"},
		"with another": {[]string{"--open", "--quota-bytes", "2GiB"}, "2.0 GiB, 1000000 commits\n"},
		"with none":    {[]string{"--open", "--quota-bytes", "0", "--quota-commits", "0"}, "none\n"},
		"with invites": {nil, "none\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := startAnywhere(t, append([]string{"--data", dir}, test.flags...)...)
			i, err := wire.ParseInvite(p.wait(inviteRE))
			if err != nil {
				t.Fatal(err)
			}
			if err := create(t, i, newAuthority()); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := kistd(t, "vaults", "--data", dir)
			if code != 0 || !strings.Contains(out, test.want) {
				t.Errorf("vaults: exit %d, %s%s; want %q", code, out, stderr, test.want)
			}
		})
	}
}

// An invite's terms come with its vaults.
func TestInviteTerms(t *testing.T) {
	dir := t.TempDir()
	start(t, "--data", dir, "--listen", "127.0.0.1:0", "--quota-devices", "9")
	code, text, stderr := kistd(t, "invite", "--data", dir, "--uses", "2", "--days", "30", "--quota-bytes", "2GiB", "--quota-commits", "1000")
	i, err := wire.ParseInvite(strings.TrimSpace(text))
	if code != 0 || err != nil {
		t.Fatalf("invite: exit %d, %v, %s", code, err, stderr)
	}
	for _, want := range []error{nil, nil, wire.ErrInvite} {
		if err := create(t, i, newAuthority()); !errors.Is(err, want) {
			t.Errorf("create: %v, want %v", err, want)
		}
	}
	_, plain, _ := kistd(t, "invite", "--data", dir)
	if i, err = wire.ParseInvite(strings.TrimSpace(plain)); err != nil {
		t.Fatal(err)
	}
	if err := create(t, i, newAuthority()); err != nil {
		t.Error(err)
	}
	code, out, stderr := kistd(t, "vaults", "--data", dir)
	if code != 0 || strings.Count(out, "2.0 GiB, 1000 commits\n") != 2 || strings.Count(out, "9 devices\n") != 1 {
		t.Errorf("vaults: exit %d, %s%s", code, out, stderr)
	}
	for _, args := range [][]string{{"--uses", "0"}, {"--days", "0"}, {"--days", "200000"}, {"--quota-bytes", "-1"}, {"--quota-bytes", "x"}} {
		if code, _, stderr := kistd(t, append([]string{"invite", "--data", dir}, args...)...); code != exitUsage {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 30: "3.0 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
