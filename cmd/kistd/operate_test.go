package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/certs/certstest"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// waitLog waits for something on stderr.
func (p *process) waitLog(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		if m := re.FindString(p.stderr.String()); m != "" {
			return m
		}
		select {
		case code := <-p.exit:
			p.exit <- code
			if m := re.FindString(p.stderr.String()); m != "" {
				return m
			}
			p.t.Fatalf("kistd has ended with %d without %v:\n%s", code, re, p.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	p.t.Fatalf("no %v in:\n%s", re, p.stderr)
	return ""
}

// web returns the address for a browser.
func (p *process) web() string {
	url := strings.TrimSuffix(p.wait(listening), "/")
	return "http" + strings.TrimPrefix(url, "ws")
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPublicPages(t *testing.T) {
	for name, flags := range map[string][]string{"TLS": nil, "plain": {"--plain"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := start(t, append([]string{"--data", dir, "--listen", "127.0.0.1:0"}, flags...)...)
			for path, want := range map[string]struct {
				status int
				text   string
			}{
				"/": {200, "kist secondary"}, "/healthz": {200, "ok\n"}, "/readyz": {200, "ready\n"}, "/version": {200, "kist.v1"},
				"/metrics": {404, ""}, "/debug/pprof/": {404, ""},
			} {
				if status, body := get(t, p.web()+path); status != want.status || !strings.Contains(body, want.text) {
					t.Errorf("%s: %d, %q", path, status, body)
				}
			}
			code, stdout, stderr := kistd(t, "health", "--data", dir)
			if code != 0 || stdout != "ready\n" || stderr != "" {
				t.Errorf("health: exit %d, %q, %q", code, stdout, stderr)
			}
			if code := p.end(); code != 0 {
				t.Errorf("stopped with %d:\n%s", code, p.stderr)
			}
			if code, _, stderr = kistd(t, "health", "--data", dir); code != exitFailed || !strings.Contains(stderr, "does not answer") {
				t.Errorf("health of what is stopped: exit %d, %q", code, stderr)
			}
		})
	}
}

// Where hardly anything is free, nothing is refused, and it is said.
func TestNearlyFull(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0", "--min-free", "8000000TiB")
	if status, body := get(t, p.web()+"/readyz"); status != 503 || body != "not ready: the disk is nearly full\n" {
		t.Errorf("%d, %q", status, body)
	}
	if status, _ := get(t, p.web()+"/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if code, _, stderr := kistd(t, "health", "--data", dir); code != exitFailed || !strings.Contains(stderr, "nearly full") {
		t.Errorf("health: exit %d, %q", code, stderr)
	}
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Error(err)
	}
}

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
	for _, want := range []string{"listen = \"127.0.0.1:3\"  (--listen)", "retention = 6  (KISTD_RETENTION)", "log-level = \"warn\"  (" + file + ")"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("check: exit %d, no %s in\n%s", code, want, stdout)
		}
	}
	if !strings.Contains(stderr, "KISTD_PORT_7370_TCP is no setting") {
		t.Errorf("stderr %q", stderr)
	}
	t.Setenv("KISTD_RETENTION", "0")
	if code, _, stderr = kistd(t, "config", "check"); code != exitUsage || !strings.Contains(stderr, "retention") {
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

// A given certificate is read again when the server is told to; a bad one leaves
// the one before in use, and sessions go on through all of it.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certstest.Write(t, cert, key, "one.example")
	p, process := child(t, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--cert", cert, "--key", key)
	i, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority()
	c, err := client.Dial(t.Context(), client.Server{URL: i.URL, Key: i.Server, Binding: i.Binding}, client.NewVault(a, i.Token))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	address := strings.TrimPrefix(p.web(), "https://")
	want := func(name string) {
		t.Helper()
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != name {
			t.Errorf("certificate of %s, want %s\n%s", got, name, p.stderr)
		}
	}
	want("one.example")
	certstest.Write(t, cert, key, "two.example")
	if err := process.Signal(signalReload); err != nil {
		t.Fatal(err)
	}
	p.waitLog(`certificate read again`)
	want("two.example")
	if err := os.WriteFile(key, []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(signalReload); err != nil {
		t.Fatal(err)
	}
	p.waitLog(`the new certificate is not good`)
	want("two.example")
	if err := c.Send(t.Context(), &wire.Checkpoint{Request: 1}); err != nil {
		t.Errorf("the session from before: %v", err)
	}
	if m, err := c.Receive(t.Context()); err != nil || m.Type() != wire.TypeCheckpoint {
		t.Errorf("the session from before: %v, %v", m, err)
	}
	if strings.Contains(p.stderr.String(), "spoilt") {
		t.Errorf("the log holds the key's file:\n%s", p.stderr)
	}
}

// A certificate by ACME: from an authority that looks for the name at the server
// itself. Devices work before and after, and know the server by its key.
func TestDomain(t *testing.T) {
	const domain = "vault.example.org"
	public := newForward(t) // as a router does
	authority := certstest.NewAuthority(t, domain, "tls-alpn-01", public.l.Addr().String())
	dir := t.TempDir()
	flags := []string{"--data", dir, "--listen", "127.0.0.1:0", "--domain", domain, "--acme-directory", authority.Directory}
	p, _ := child(t, flags...)
	i, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil || i.URL != "wss://"+domain+"/" || i.Binding != wire.BindingExporter {
		t.Fatalf("invite for %s, %v", i.URL, err)
	}
	i.URL = p.wait(listening)
	if err := create(t, i, newAuthority()); err != nil {
		t.Errorf("before there is a certificate: %v", err)
	}
	address := strings.TrimPrefix(p.web(), "https://")
	public.to <- address
	p.waitLog("certificate by ACME")
	c, err := tls.Dial("tcp", address, &tls.Config{ServerName: domain, RootCAs: authority.Roots})
	if err != nil {
		t.Fatalf("the certificate does not verify: %v\n%s", err, p.stderr)
	}
	c.Close()
	code, invite, stderr := kistd(t, "invite", "--data", dir)
	if code != 0 {
		t.Fatalf("invite: exit %d, %s", code, stderr)
	}
	if i, err = wire.ParseInvite(strings.TrimSpace(invite)); err != nil {
		t.Fatal(err)
	}
	i.URL = p.wait(listening)
	if err := create(t, i, newAuthority()); err != nil {
		t.Errorf("with the certificate: %v", err)
	}

	// Started again, it has the certificate and asks nobody.
	if code := p.end(); code != 0 {
		t.Fatalf("stopped with %d:\n%s", code, p.stderr)
	}
	p, _ = child(t, flags...)
	p.waitLog("certificate by ACME")
	if n, err := authority.Validated(); n != 1 || err != nil {
		t.Errorf("the authority has looked %d times, %v", n, err)
	}
}

// forward is a port whose connections go to an address that is said later, once.
type forward struct {
	l  net.Listener
	to chan string
}

func newForward(t *testing.T) *forward {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forward{l, make(chan string, 1)}
	var done sync.WaitGroup
	done.Go(func() {
		a, err := l.Accept()
		if err != nil {
			return
		}
		defer a.Close()
		b, err := net.Dial("tcp", <-f.to)
		if err != nil {
			return
		}
		defer b.Close()
		done.Go(func() {
			io.Copy(b, a)
			b.(*net.TCPConn).CloseWrite()
		})
		io.Copy(a, b)
	})
	t.Cleanup(func() {
		l.Close()
		close(f.to)
		done.Wait()
	})
	return f
}

// The service manager is told how the server is; the second signal ends it while it
// still stops.
func TestServiceManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	hears := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		manager.SetReadDeadline(time.Now().Add(timeout))
		n, err := manager.Read(b)
		if err != nil || !regexp.MustCompile(want).Match(b[:n]) {
			t.Errorf("it says %q, %v; want %s", b[:n], err, want)
		}
	}
	childEnviron = []string{"NOTIFY_SOCKET=" + socket}
	defer func() { childEnviron = nil }()
	p, process := child(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	hears("^READY=1$")
	if err := process.Signal(signalReload); err != nil {
		t.Fatal(err)
	}
	hears(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`)
	hears("^READY=1$")

	// A manager that takes nothing more holds it up when it stops.
	full, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err = nil; err == nil; _, err = full.Write([]byte("x")) {
		full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	for range 2 {
		if err := process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.waitLog("stopping")
	}
	if code := p.end(); code != -1 {
		t.Errorf("after a second signal: exit %d, want it to be ended by the signal", code)
	}
}

// The log names connections as the client does, and at no level vaults or keys.
// Its level can be changed while the server runs.
func TestLog(t *testing.T) {
	p, process := child(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--log-format", "json")
	i, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority()
	if err := create(t, i, a); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.stderr.String(), "connection") {
		t.Errorf("at level info:\n%s", p.stderr)
	}
	if err := process.Signal(signalDebug); err != nil {
		t.Fatal(err)
	}
	p.waitLog(`"level":"DEBUG"`)
	stranger := newAuthority()
	_, err = client.Dial(t.Context(), client.Server{URL: i.URL, Key: i.Server, Binding: i.Binding}, client.Owner(stranger))
	var named *wire.ConnError
	if !errors.As(err, &named) || !errors.Is(err, wire.ErrDenied) {
		t.Fatalf("a stranger: %v", err)
	}
	p.waitLog(`"msg":"connection ends","conn":"` + named.Conn + `"`)
	if err := process.Signal(signalDebug); err != nil {
		t.Fatal(err)
	}
	p.waitLog(`"level":"INFO"\}`)
	if code := p.end(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	log := p.stderr.String()
	for _, id := range []keys.VaultID{a.Public().VaultID(), stranger.Public().VaultID()} {
		for _, mark := range []string{id.String(), fmt.Sprintf("%x", id[:])} {
			if strings.Contains(log, mark) {
				t.Errorf("the log names a vault:\n%s", log)
			}
		}
	}
}
