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
				"/metrics": {404, ""}, "/debug/pprof/": {404, ""}, "/invite": {404, ""}, "/vaults": {404, ""}, "/backup": {404, ""}, "/level": {404, ""},
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
