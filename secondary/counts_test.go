package secondary_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/metrics"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// metric returns the server's metrics, and the value of the one of that name, with its
// labels.
func (f *fixture) metric(name string) (all, value string) {
	f.t.Helper()
	var w metrics.Writer
	f.server.WriteMetrics(&w)
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return b.String(), strings.TrimSpace(v)
		}
	}
	f.t.Fatalf("no %s in\n%s", name, &b)
	return "", ""
}

// What devices do is counted, and who they are is not to be seen.
func TestMetrics(t *testing.T) {
	const address = "203.0.113.77"
	f := start(t, func(c *secondary.Config) {
		c.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr(address) }
		c.Limits.Connects = secondary.Rate{PerSecond: 1e-6, Burst: 8}
	})
	v, devices := f.vault(1) // connection 1
	d := devices[0]
	p := f.device(v, d) // 2
	p.bind(v, 1, 0)
	a, b := d.Commit(keys.Tag{1}, 2), d.Commit(keys.Tag{1}, 1)
	p.append(v, a, b)
	if err := f.engine.SetQuota(f.ctx, v.ID(), &engine.Quota{Commits: v.Size()}); err != nil {
		t.Fatal(err)
	}
	if r := p.upload(d.Commit(keys.Tag{1}, 1))[0]; !errors.Is(r.Err(), wire.ErrQuota) {
		t.Fatalf("over the quota: %+v", r)
	}
	stranger := rawvault.New()
	if _, err := client.Dial(f.ctx, f.client, client.Owner(stranger.Authority)); !errors.Is(err, wire.ErrDenied) { // 3
		t.Fatalf("a stranger: %v", err)
	}
	if _, err := client.Dial(f.ctx, f.client, client.NewVault(stranger.Authority, wire.Token{1})); !errors.Is(err, wire.ErrInvite) { // 4
		t.Fatalf("without an invite: %v", err)
	}
	if _, err := f.server.Compact(f.ctx, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	cut, cancel := context.WithCancel(f.ctx)
	cancel()
	if _, err := f.server.Compact(cut, time.Unix(0, 0)); !errors.Is(err, context.Canceled) { // no failure
		t.Fatal(err)
	}
	answer := func(want int) {
		t.Helper()
		r, err := http.Get(f.http.URL)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Fatalf("status %d, want %d", r.StatusCode, want)
		}
	}
	answer(http.StatusBadRequest)
	for range 4 { // 5 to 8
		f.device(v, d).Close()
	}
	if _, err := client.Dial(f.ctx, f.client, client.Owner(v.Authority)); err == nil { // 9
		t.Error("a connection beyond the limit")
	}
	if err := f.server.Shutdown(f.ctx); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]string{
		"kistd_connections":       "0",
		"kistd_sessions":          "0",
		"kistd_connections_total": "8",
		`kistd_connections_refused_total{reason="protocol"}`:                     "1",
		`kistd_connections_refused_total{reason="rate"}`:                         "1",
		`kistd_connections_refused_total{reason="full"}`:                         "0",
		`kistd_sign_ins_total{outcome="ok"}`:                                     "6",
		`kistd_sign_ins_total{outcome="denied"}`:                                 "1",
		`kistd_sign_ins_total{outcome="invite"}`:                                 "1",
		"kistd_commits_total":                                                    "3",
		fmt.Sprintf(`kistd_errors_total{code="18",meaning="%v"}`, wire.ErrQuota): "1",
		`kistd_limits_total{limit="connects"}`:                                   "1",
		`kistd_limits_total{limit="quota"}`:                                      "1",
		`kistd_limits_total{limit="scans"}`:                                      "0",
		`kistd_compactions_total{outcome="ok"}`:                                  "1",
		`kistd_compactions_total{outcome="failed"}`:                              "0",
		"kistd_compacted_bytes_total":                                            "0",
	} {
		if _, got := f.metric(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"kistd_received_bytes_total", "kistd_sent_bytes_total"} {
		if _, got := f.metric(name); got == "0" {
			t.Errorf("%s is 0", name)
		}
	}
	all, _ := f.metric("kistd_connections")
	id, other := v.ID(), stranger.ID()
	for _, mark := range []string{
		id.String(), fmt.Sprintf("%x", id[:]), other.String(), fmt.Sprintf("%x", other[:]),
		d.ID.String(), fmt.Sprintf("%x", d.ID[:]), address, f.client.URL, "127.0.0.1", f.client.Key.String(),
	} {
		if strings.Contains(all, mark) {
			t.Errorf("%q is in\n%s", mark, all)
		}
	}
}
