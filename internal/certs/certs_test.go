package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/internal/certs"
	"github.com/kistvault/kist/internal/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout only ends a test that hangs.
const timeout = 5 * time.Minute

func name(t *testing.T, get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
	t.Helper()
	c, err := get(&tls.ClientHelloInfo{})
	if err != nil || c == nil {
		t.Fatalf("certificate: %v, %v", c, err)
	}
	return c.Leaf.DNSNames[0]
}

// A certificate that changes is used ten seconds later, one that is not good never.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	var log bytes.Buffer
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	open := func() (*certs.Files, error) {
		return certs.OpenFiles(cert, key, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), cert) {
		t.Fatalf("no files: %v", err)
	}
	certstest.Write(t, cert, key, "one.example")
	f, err := open()
	if err != nil {
		t.Fatal(err)
	}
	want := func(when, want string) {
		t.Helper()
		if got := name(t, f.GetCertificate); got != want {
			t.Errorf("%s: %s, want %s\n%s", when, got, want, log.String())
		}
	}
	want("at first", "one.example")

	certstest.Write(t, cert, key, "two.example")
	want("changed just now", "one.example")
	now = now.Add(10 * time.Second)
	want("ten seconds later", "two.example")

	log.Reset()
	if err := os.WriteFile(cert, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		now = now.Add(10 * time.Second)
		want("spoilt", "two.example")
	}
	if n := strings.Count(log.String(), "not good"); n != 1 {
		t.Errorf("a bad file is said %d times:\n%s", n, log.String())
	}
	f.Reload()
	want("spoilt, and told to read", "two.example")
	if n := strings.Count(log.String(), "not good"); n != 2 {
		t.Errorf("told to read a bad file, it is silent:\n%s", log.String())
	}

	certPEM, _ := certstest.Generate(t, "three.example")
	if err := os.WriteFile(cert, certPEM, 0o600); err != nil { // and the key of another
		t.Fatal(err)
	}
	now = now.Add(10 * time.Second)
	want("a key that does not fit", "two.example")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	now = now.Add(10 * time.Second)
	want("the key is gone", "two.example")

	certstest.Write(t, cert, key, "four.example")
	f.Reload()
	want("told to read", "four.example")
}

// runACME has a server with a certificate by ACME until the test ends.
func runACME(t *testing.T, a *certs.ACME) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: a.GetCertificate, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1", certs.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, http.NotFoundHandler())
}

func serve(t *testing.T, l net.Listener, h http.Handler) string {
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	var done sync.WaitGroup
	done.Go(func() { s.Serve(l) })
	t.Cleanup(func() {
		s.Close()
		done.Wait()
	})
	return l.Addr().String()
}

// shown returns the certificate that a client is shown for a name.
func shown(t *testing.T, address, name string) *tls.ConnectionState {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := c.ConnectionState()
	return &state
}

const domain = "vault.example.org"

func newACME(t *testing.T, directory, cache string, log *slog.Logger) *certs.ACME {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	certstest.Write(t, cert, key, "fallback")
	fallback, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return certs.NewACME(certs.ACMEConfig{
		Domain: domain, Directory: directory, Cache: cache, Fallback: &fallback,
		Client: &http.Client{Transport: transport}, Logger: log,
	})
}

// run runs a until the test ends.
func run(t *testing.T, a *certs.ACME) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { a.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// logged is a log to wait for lines of.
type logged struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	l.lines <- string(p)
	return len(p), nil
}

func (l *logged) await(t *testing.T, text string) {
	t.Helper()
	by := time.After(timeout)
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-by:
			t.Fatalf("never logged %q:\n%s", text, l.text.String())
		}
	}
}

func newLog() (*logged, *slog.Logger) {
	l := &logged{lines: make(chan string, 1000)}
	return l, slog.New(slog.NewTextHandler(l, nil))
}

func TestACME(t *testing.T) {
	for _, kind := range []string{"tls-alpn-01", "http-01"} {
		t.Run(kind, func(t *testing.T) {
			authority := certstest.NewAuthority(t, domain, kind, "127.0.0.1:1")
			cache := filepath.Join(t.TempDir(), "acme")
			log, logger := newLog()
			a := newACME(t, authority.Directory, cache, logger)
			address := runACME(t, a)
			if kind == "http-01" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				authority.Point(serve(t, l, a.HTTPHandler()))
			} else {
				authority.Point(address)
			}

			// Before there is one, and for other names, nobody waits.
			for _, name := range []string{domain, "other.example", ""} {
				if c := shown(t, address, name).PeerCertificates[0]; c.DNSNames[0] != "fallback" {
					t.Errorf("before, %q is shown %q", name, c.DNSNames)
				}
			}
			run(t, a)
			log.await(t, "certificate by ACME")
			if n, err := authority.Validated(); n != 1 || err != nil {
				t.Errorf("validated %d times, %v", n, err)
			}
			c, err := tls.Dial("tcp", address, &tls.Config{ServerName: domain, RootCAs: authority.Roots})
			if err != nil {
				t.Fatalf("the certificate does not verify: %v", err)
			}
			c.Close()
			for _, name := range []string{"other.example", ""} {
				if c := shown(t, address, name).PeerCertificates[0]; c.DNSNames[0] != "fallback" {
					t.Errorf("%q is shown %q", name, c.DNSNames)
				}
			}

			// It is kept, for the owner alone, and is not asked for again.
			info, err := os.Stat(cache)
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("cache: %v, %v", info, err)
			}
			log, logger = newLog()
			again := newACME(t, authority.Directory, cache, logger)
			address = runACME(t, again)
			run(t, again)
			log.await(t, "certificate by ACME")
			if n, _ := authority.Validated(); n != 1 {
				t.Errorf("started again, the authority has looked %d times", n)
			}
			if c := shown(t, address, strings.ToUpper(domain)).PeerCertificates[0]; c.DNSNames[0] != domain {
				t.Errorf("started again: %q", c.DNSNames)
			}
		})
	}
}

// Where the authority is not there or refuses, clients get a certificate all the
// same.
func TestACMEFails(t *testing.T) {
	refusing := certstest.NewAuthority(t, domain, "tls-alpn-01", "127.0.0.1:1") // where nobody listens
	for name, directory := range map[string]string{"nobody there": "http://127.0.0.1:1/directory", "refused": refusing.Directory} {
		t.Run(name, func(t *testing.T) {
			log, logger := newLog()
			a := newACME(t, directory, t.TempDir(), logger)
			address := runACME(t, a)
			run(t, a)
			log.await(t, "no certificate by ACME")
			if c := shown(t, address, domain).PeerCertificates[0]; c.DNSNames[0] != "fallback" {
				t.Errorf("shown %q", c.DNSNames)
			}
		})
	}
}
