package front_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary/front"
)

func newHandler() *front.Handler {
	return &front.Handler{
		Sessions: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("session from " + r.RemoteAddr)) }),
		Ready:    func() error { return nil },
		Version:  "v0.1.2",
		URL:      "wss://vault.example.org/kist/",
	}
}

func ask(h http.Handler, method, path string, header http.Header, from string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for k, v := range header {
		r.Header[k] = v
	}
	if from != "" {
		r.RemoteAddr = from
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	h := newHandler()
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/": {200, "kist secondary"}, "/kist/": {200, "kist secondary"}, "/kist": {200, "kist secondary"},
		"/healthz": {200, "ok\n"}, "/kist/readyz": {200, "ready\n"}, "/readyz": {200, "ready\n"},
		"/version": {200, `"version":"v0.1.2"`}, "/kistd": {404, "nothing here"}, "/metrics": {404, "nothing here"}, "/../etc/passwd": {404, "nothing here"},
	} {
		w := ask(h, "GET", path, nil, "")
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d, %q", path, w.Code, w.Body)
		}
		for _, field := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Content-Type"} {
			if w.Header().Get(field) == "" {
				t.Errorf("%s: no %s", path, field)
			}
		}
		if w := ask(h, "POST", path, nil, ""); w.Code != 405 {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	var v map[string]string
	if err := json.Unmarshal(ask(h, "GET", "/version", nil, "").Body.Bytes(), &v); err != nil || v["protocol"] != "kist.v1" {
		t.Errorf("version: %v, %v", v, err)
	}

	h.Ready = func() error { return errors.New("stopping") }
	if w := ask(h, "GET", "/readyz", nil, ""); w.Code != 503 || w.Body.String() != "not ready: stopping\n" || w.Header().Get("Retry-After") == "" {
		t.Errorf("not ready: %d, %q", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/healthz", nil, ""); w.Code != 200 {
		t.Errorf("not ready, and it is said to be ill: %d", w.Code)
	}
}

// The page holds all that it needs, and its policy lets nothing else in.
func TestPage(t *testing.T) {
	w := ask(newHandler(), "GET", "/", nil, "")
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	page := w.Body.String()
	for _, bad := range []string{"<script", "http://", "https://", "url(", "@import", "<form", "<img", "<iframe", "style=\"", "onclick"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if n := strings.Count(page, "<style>"); n != 1 {
		t.Errorf("%d styles, and the policy names one", n)
	}
	if src := regexp.MustCompile(`\b(src|href)=`).FindString(page); src != "" {
		t.Errorf("the page loads something: %s", src)
	}
	for _, want := range []string{"prefers-color-scheme: dark", "kist onboard INVITE", `lang="en"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
}

var upgrade = http.Header{"Upgrade": {"WebSocket"}, "Connection": {"Upgrade"}}

// A client's address is what a trusted proxy says, and nothing that the client can
// say itself.
func TestClientAddress(t *testing.T) {
	for name, test := range map[string]struct {
		from    string
		headers []string
		want    string
	}{
		"no proxy":                  {"198.51.100.9:99", []string{"203.0.113.1"}, "198.51.100.9:99"},
		"proxy":                     {"10.1.1.1:99", []string{"203.0.113.1"}, "203.0.113.1:0"},
		"proxy, nothing said":       {"10.1.1.1:99", nil, "10.1.1.1:99"},
		"proxy, client lies":        {"10.1.1.1:99", []string{"1.1.1.1, 203.0.113.1"}, "203.0.113.1:0"},
		"proxy, client lies alone":  {"10.1.1.1:99", []string{"1.1.1.1", "203.0.113.1"}, "203.0.113.1:0"},
		"two proxies":               {"10.1.1.1:99", []string{"1.1.1.1, 203.0.113.1, 10.2.2.2"}, "203.0.113.1:0"},
		"client names a proxy":      {"10.1.1.1:99", []string{"10.9.9.9, 203.0.113.1"}, "203.0.113.1:0"},
		"all are proxies":           {"10.1.1.1:99", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3:0"},
		"nonsense":                  {"10.1.1.1:99", []string{"1.1.1.1, <script>"}, "10.1.1.1:99"},
		"nonsense behind a proxy":   {"10.1.1.1:99", []string{"unknown, 10.2.2.2"}, "10.2.2.2:0"},
		"with port":                 {"10.1.1.1:99", []string{"203.0.113.1:4711"}, "203.0.113.1:0"},
		"IPv6":                      {"[2001:db8::1]:99", []string{"2001:db8:1::2"}, "[2001:db8:1::2]:0"},
		"IPv6 in brackets":          {"[2001:db8::1]:99", []string{"[2001:db8:1::2]:99"}, "[2001:db8:1::2]:0"},
		"IPv4 written as IPv6":      {"[::ffff:10.1.1.1]:99", []string{"::ffff:203.0.113.1"}, "203.0.113.1:0"},
		"IPv6 that is not trusted":  {"[2001:db8::2]:99", []string{"203.0.113.1"}, "[2001:db8::2]:99"},
		"a long list from a client": {"10.1.1.1:99", []string{strings.Repeat("1.1.1.1,", 500) + "203.0.113.1"}, "203.0.113.1:0"},
	} {
		h := newHandler()
		h.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}
		header := upgrade.Clone()
		header["X-Forwarded-For"] = test.headers
		header["Forwarded"] = []string{"for=1.1.1.1"}
		w := ask(h, "GET", "/", header, test.from)
		if got := w.Body.String(); got != "session from "+test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// A machine may come to itself by an address that others can reach, too: kistd health
// does, where kistd listens on that.
func TestProxiesOnlyAndOwn(t *testing.T) {
	h := newHandler()
	h.Proxies, h.ProxiesOnly = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true
	for from, status := range map[string]int{"192.0.2.7:1": 200, "127.0.0.1:1": 200, "192.0.2.8:1": 403} {
		r := httptest.NewRequest("GET", "/readyz", nil)
		own := net.Addr(&net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 7370})
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, own))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%s: %d, want %d", from, w.Code, status)
		}
	}
}

// Without TLS and open to a network, it answers proxies alone.
func TestProxiesOnly(t *testing.T) {
	h := newHandler()
	h.Proxies, h.ProxiesOnly = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true
	for from, status := range map[string]int{"10.1.1.1:1": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "198.51.100.9:1": 403, "@": 403} {
		for _, header := range []http.Header{nil, upgrade} {
			if w := ask(h, "GET", "/", header, from); w.Code != status {
				t.Errorf("%s: %d, want %d", from, w.Code, status)
			}
		}
	}
}
