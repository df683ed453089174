package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

// scrape asks the admin socket.
func scrape(t *testing.T, dir string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", secondary.AdminSocket(dir))
	}}}
	r, err := c.Get("http://kistd/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s, %v, %v\n%s", r.Status, err, r.Header, b)
	}
	return string(b)
}

// The text format, line by line.
var (
	metricHelp  = regexp.MustCompile(`^# HELP ([a-z_]+) [A-Za-z0-9][^\n]*\.$`)
	metricType  = regexp.MustCompile(`^# TYPE ([a-z_]+) (counter|gauge|histogram)$`)
	metricValue = regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? (\S+)$`)
)

// metricNames returns the names of the values in an answer, and checks its form.
func metricNames(t *testing.T, text string) map[string]bool {
	t.Helper()
	names, types, series := make(map[string]bool), make(map[string]string), make(map[string]bool)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if metricHelp.MatchString(line) {
			continue
		}
		if m := metricType.FindStringSubmatch(line); m != nil {
			if types[m[1]] != "" {
				t.Errorf("%s comes twice", m[1])
			}
			types[m[1]] = m[2]
			continue
		}
		m := metricValue.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a metric: %q", line)
		}
		family := m[1]
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(m[1], end); ok && types[base] == "histogram" {
				family = base
			}
		}
		if types[family] == "" || types[family] == "counter" != strings.HasSuffix(family, "_total") {
			t.Errorf("%s is of type %q", m[1], types[family])
		}
		if series[m[1]+m[2]] {
			t.Errorf("%s%s comes twice", m[1], m[2])
		}
		names[m[1]], series[m[1]+m[2]] = true, true
	}
	return names
}

// Metrics are for the machine itself, and name nobody.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	url := "http://" + strings.TrimPrefix(p.waitLog(`msg=metrics address=127\.0\.0\.1:\d+`), "msg=metrics address=") + "/metrics"
	invite := p.wait(inviteRE)
	i, err := wire.ParseInvite(invite)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority()
	if err := create(t, i, a); err != nil {
		t.Fatal(err)
	}

	inside := scrape(t, dir)
	status, outside := get(t, url)
	if status != 200 {
		t.Fatalf("%s: %d, %s", url, status, outside)
	}
	for _, text := range []string{inside, outside} {
		names := metricNames(t, text)
		if runtime.GOOS == "linux" && !names["process_open_fds"] {
			t.Error("no process_open_fds")
		}
		for _, line := range []string{"kistd_vaults 1", "kistd_ready 1", "kistd_connections_total 1", `kistd_sign_ins_total{outcome="ok"} 1`, fmt.Sprintf("kistd_build_info{version=%q,goversion=%q} 1", versionText(), runtime.Version())} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("no %s in\n%s", line, text)
			}
		}
		for _, line := range []string{"kistd_store_commit_seconds_count 0", "kistd_store_bytes 0", "kistd_disk_free_bytes 0", "kistd_received_bytes_total 0"} {
			if strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s in\n%s", line, text)
			}
		}
		id := a.Public().VaultID()
		for _, mark := range []string{id.String(), fmt.Sprintf("%x", id[:]), i.Server.String(), i.URL, "127.0.0.1", dir, invite} {
			if strings.Contains(text, mark) {
				t.Errorf("%q is in\n%s", mark, text)
			}
		}
	}

	// A page in a browser on this machine does not get there by another name, and
	// nobody by the public address.
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "rebound.example"
	transport := &http.Transport{DisableKeepAlives: true}
	if resp, err := transport.RoundTrip(r); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("by another name: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, other := range []string{strings.TrimSuffix(url, "metrics"), strings.TrimSuffix(url, "metrics") + "vaults", p.web() + "/metrics"} {
		if status, body := get(t, other); status != 404 {
			t.Errorf("%s: %d, %s", other, status, body)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("stopped with %d:\n%s", code, p.stderr)
	}
}

// The dashboard asks for all metrics that there are and for no others, and the manual
// explains those of kistd itself.
func TestDashboard(t *testing.T) {
	dir := t.TempDir()
	start(t, "--data", dir, "--listen", "127.0.0.1:0")
	there := metricNames(t, scrape(t, dir))
	file, err := os.ReadFile("../../packaging/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(file, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := make(map[string]bool)
	name := regexp.MustCompile(`\b(kistd|go|process)_[a-z_]+`)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			names := name.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s asks for nothing: %s", panel.Title, target.Expr)
			}
			for _, n := range names {
				asked[n] = true
				if !there[n] && (runtime.GOOS == "linux" || !strings.HasPrefix(n, "process_")) {
					t.Errorf("%s asks for %s, which there is not", panel.Title, n)
				}
			}
		}
	}
	manual, err := os.ReadFile("../../docs/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := make(map[string]bool)
	for _, n := range name.FindAllString(string(manual), -1) {
		explained[n] = true
		if strings.HasPrefix(n, "kistd_") && !there[n] && !there[n+"_bucket"] {
			t.Errorf("docs/OPERATING.md explains %s, which there is not", n)
		}
	}
	for n := range there {
		if !asked[n] {
			t.Errorf("no panel asks for %s", n)
		}
		if base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(n, "_bucket"), "_sum"), "_count"); strings.HasPrefix(n, "kistd_") && !explained[base] {
			t.Errorf("docs/OPERATING.md does not explain %s", n)
		}
	}
}

func TestLogLevel(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0")
	level := func(want string, args ...string) {
		t.Helper()
		code, stdout, stderr := kistd(t, append([]string{"log-level", "--data", dir}, args...)...)
		if code != 0 || stdout != want+"\n" {
			t.Errorf("log-level %q: exit %d, %q, %q; want %s", args, code, stdout, stderr, want)
		}
	}
	level("info")
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Fatal(err)
	}
	level("debug", "debug")
	level("debug")
	i, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil {
		t.Fatal(err)
	}
	if err := create(t, i, newAuthority()); err == nil {
		t.Error("an invite that is used up")
	}
	p.waitLog("connection begins")
	if n := strings.Count(p.stderr.String(), "connection begins"); n != 1 {
		t.Errorf("%d connections in the log, want the one at level debug:\n%s", n, p.stderr)
	}
	level("error", "error")
	if code, _, stderr := kistd(t, "log-level", "--data", dir, "loud"); code != exitUsage || !strings.Contains(stderr, "want debug, info, warn or error") {
		t.Errorf("loud: exit %d, %q", code, stderr)
	}
	p.end()
	if code, _, stderr := kistd(t, "log-level", "--data", dir, "debug"); code != exitFailed || !strings.Contains(stderr, "no server runs") {
		t.Errorf("without a server: exit %d, %q", code, stderr)
	}
}
