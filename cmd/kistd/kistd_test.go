package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/internal/porttest"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// childEnv makes the test binary be kistd.
const childEnv = "TEST_AS_KISTD"

func TestMain(m *testing.M) {
	defaultFile = "/none/kistd.toml" // not that of a kistd that is at home here
	// Whatever the disk and the machine do meanwhile.
	probed, healthTime = func(string) error { return nil }, timeout
	if os.Getenv(childEnv) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// buffer is an io.Writer that may be read at any time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// process is a kistd serve that runs, in this process or as a child.
type process struct {
	t              *testing.T
	stdout, stderr *buffer
	stop           func()
	exit           chan int
}

// timeout only ends a test that hangs.
const timeout = 5 * time.Minute

// kistd runs kistd and returns when it has ended.
func kistd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var out, errs buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// start runs kistd serve until the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := launch(t, args...)
	p.wait(listening)
	return p
}

func launch(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, stdout: new(buffer), stderr: new(buffer), stop: cancel, exit: make(chan int, 1)}
	go func() {
		p.exit <- run(ctx, append([]string{"serve"}, args...), strings.NewReader(""), p.stdout, p.stderr)
	}()
	t.Cleanup(func() { p.end() })
	return p
}

// startAnywhere is start at an address that a second start can have as well.
func startAnywhere(t *testing.T, args ...string) *process {
	t.Helper()
	address, release, err := porttest.Keep()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return start(t, append(args, "--listen", address)...)
}

// end stops the server and returns its exit code.
func (p *process) end() int {
	p.stop()
	code := <-p.exit
	p.exit <- code
	return code
}

var (
	listening = regexp.MustCompile(`(?m)^listening on (\S+)$`)
	inviteRE  = regexp.MustCompile(`(?m)^(kistinvite1\S+)$`)
)

// wait waits for a line on stdout and returns what it says.
func (p *process) wait(re *regexp.Regexp) string {
	p.t.Helper()
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		if m := re.FindStringSubmatch(p.stdout.String()); m != nil {
			return m[1]
		}
		select {
		case code := <-p.exit:
			p.exit <- code
			p.t.Fatalf("kistd has ended with %d:\n%s%s", code, p.stdout, p.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	p.t.Fatalf("no %v in:\n%s%s", re, p.stdout, p.stderr)
	return ""
}

// use creates a vault with an invite and signs in to it.
func use(t *testing.T, invite string) error {
	t.Helper()
	i, err := wire.ParseInvite(strings.TrimSuffix(invite, "\n"))
	if err != nil {
		t.Fatalf("invite %q: %v", invite, err)
	}
	if left := time.Until(i.Expires); left < 6*24*time.Hour || left > 8*24*time.Hour {
		t.Errorf("the invite is good for %v", left)
	}
	return create(t, i, newAuthority())
}

func newAuthority() keys.Authority {
	return keys.Authority{Sign: keys.GenerateSigningKey(), Auth: keys.GenerateSigningKey()}
}

func create(t *testing.T, i wire.Invite, a keys.Authority) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := client.Dial(ctx, client.Server{URL: i.URL, Key: i.Server, Binding: i.Binding}, client.NewVault(a, i.Token))
	if err != nil {
		return err
	}
	return c.Close()
}

func TestServe(t *testing.T) {
	for name, test := range map[string]struct {
		flags  []string
		scheme string
	}{
		"own certificate": {nil, "wss://127.0.0.1:"},
		"no TLS":          {[]string{"--plain"}, "ws://127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			p := startAnywhere(t, append([]string{"--data", dir}, test.flags...)...)
			url := p.wait(listening)
			if !strings.HasPrefix(url, test.scheme) || strings.HasSuffix(url, ":0/") {
				t.Errorf("listening on %s, want %s…", url, test.scheme)
			}
			if err := use(t, p.wait(inviteRE)); err != nil {
				t.Errorf("first invite: %v", err)
			}

			// invite works while the server runs: one line, and it works.
			code, stdout, stderr := kistd(t, "invite", "--data", dir)
			if code != 0 || strings.Count(stdout, "\n") != 1 || stderr != "" {
				t.Fatalf("invite: exit %d, %q, %q", code, stdout, stderr)
			}
			if err := use(t, stdout); err != nil {
				t.Errorf("invite while serving: %v", err)
			}
			if err := use(t, stdout); !errors.Is(err, wire.ErrInvite) {
				t.Errorf("the same for another vault: %v, want ErrInvite", err)
			}
			if info, err := os.Stat(filepath.Join(dir, "admin.sock")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("admin socket: %v, %v", info, err)
			}
			if code := p.end(); code != 0 {
				t.Errorf("stopped with exit %d:\n%s", code, p.stderr)
			}

			// And while it does not.
			code, stdout, stderr = kistd(t, "invite", "--data", dir)
			if code != 0 || strings.Count(stdout, "\n") != 1 || stderr != "" {
				t.Fatalf("invite: exit %d, %q, %q", code, stdout, stderr)
			}
			i, err := wire.ParseInvite(strings.TrimSuffix(stdout, "\n"))
			if err != nil || i.URL != url {
				t.Errorf("invite for %s, %v; want %s", i.URL, err, url)
			}
			address := strings.TrimSuffix(url[strings.Index(url, "//")+2:], "/")
			again := start(t, append([]string{"--data", dir, "--listen", address}, test.flags...)...)
			if err := use(t, stdout); err != nil {
				t.Errorf("invite from before the start: %v", err)
			}
			if strings.Contains(again.stdout.String(), "kistinvite1") {
				t.Errorf("an invite is printed though there are vaults:\n%s", again.stdout)
			}
		})
	}
}

func TestOwnURL(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0", "--url", "wss://Vault.Example.org:443")
	i, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil || i.URL != "wss://vault.example.org/" || i.Binding != wire.BindingExporter {
		t.Errorf("invite: %s with %v, %v", i.URL, i.Binding, err)
	}
	i.URL = p.wait(listening)
	if err := create(t, i, newAuthority()); err != nil {
		t.Errorf("by the address it listens on: %v", err)
	}
}

func TestOwnCertificate(t *testing.T) {
	made := t.TempDir()
	start(t, "--data", made, "--listen", "127.0.0.1:0").end()
	p := start(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--cert", filepath.Join(made, "tls.crt"), "--key", filepath.Join(made, "tls.key"))
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Error(err)
	}
}

// kistd's own certificate is of no worth: one that is spoilt keeps no server from starting.
func TestOwnCertificateSpoilt(t *testing.T) {
	dir := t.TempDir()
	start(t, "--data", dir, "--listen", "127.0.0.1:0").end()
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Truncate(filepath.Join(dir, name), 60); err != nil {
			t.Fatal(err)
		}
		p := start(t, "--data", dir, "--listen", "127.0.0.1:0")
		if err := use(t, p.wait(inviteRE)); err != nil {
			t.Errorf("%s spoilt: %v", name, err)
		}
		p.end()
		for _, name := range []string{"kist.db", "address.json"} { // for another invite
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// H55: of two servers on one data directory the second does not start.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0", "--plain")
	address := strings.TrimSuffix(strings.TrimPrefix(p.wait(listening), "ws://"), "/")

	code, stdout, stderr := kistd(t, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	if code != exitInUse || stdout != "" || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, "\ntry: end the other kistd") {
		t.Errorf("second server on one directory: exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = kistd(t, "serve", "--data", t.TempDir(), "--listen", address)
	if code != exitInUse || stdout != "" || !strings.Contains(stderr, address) || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, "\ntry: another port") {
		t.Errorf("second server on one address: exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	never := t.TempDir()
	damaged := t.TempDir()
	start(t, "--data", damaged, "--listen", "127.0.0.1:0").end()
	if err := os.WriteFile(filepath.Join(damaged, "kist.db"), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := t.TempDir()
	start(t, "--data", lost, "--listen", "127.0.0.1:0").end()
	if err := os.Truncate(filepath.Join(lost, "kist.db"), 0); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	serve := func(args ...string) []string { return append([]string{"serve"}, args...) }
	for name, test := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"nothing":                 {nil, exitUsage, "command is needed"},
		"unknown command":         {[]string{"sevre"}, exitUsage, "sevre"},
		"unknown help":            {[]string{"help", "sevre"}, exitUsage, "sevre"},
		"unknown flag":            {serve("--frob"), exitUsage, "frob"},
		"argument":                {serve("x"), exitUsage, `"x"`},
		"public metrics":          {serve("--data", dir, "--metrics", "0.0.0.0:7371"), exitUsage, "loopback"},
		"metrics everywhere":      {serve("--data", dir, "--metrics", ":7371"), exitUsage, "loopback"},
		"metrics without a port":  {serve("--data", dir, "--metrics", "127.0.0.1"), exitUsage, "HOST:PORT"},
		"no data":                 {serve("--listen", "127.0.0.1:0"), exitUsage, "--data"},
		"address without port":    {serve("--data", dir, "--listen", "127.0.0.1"), exitUsage, "HOST:PORT"},
		"port too high":           {[]string{"config", "check", "--data", dir, "--listen", "127.0.0.1:70000"}, exitUsage, "--listen"},
		"port of no name":         {serve("--data", dir, "--listen", "127.0.0.1:vault"), exitUsage, "--listen"},
		"metrics port too high":   {[]string{"config", "check", "--data", dir, "--metrics", "127.0.0.1:70000"}, exitUsage, "--metrics"},
		"ACME port too high":      {[]string{"config", "check", "--data", dir, "--domain", "a.example", "--acme-http", ":70000"}, exitUsage, "--acme-http"},
		"everywhere without URL":  {serve("--data", dir, "--listen", "0.0.0.0:0"), exitUsage, "--url"},
		"everywhere, short":       {serve("--data", dir, "--listen", ":0"), exitUsage, "--url"},
		"plain, not on loopback":  {serve("--data", dir, "--listen", "192.0.2.1:0", "--plain"), exitUsage, "loopback"},
		"plain with certificate":  {serve("--data", dir, "--listen", "127.0.0.1:0", "--plain", "--cert", "a", "--key", "b"), exitUsage, "--plain"},
		"certificate without key": {serve("--data", dir, "--listen", "127.0.0.1:0", "--cert", "a"), exitUsage, "together"},
		"no such certificate":     {serve("--data", dir, "--listen", "127.0.0.1:0", "--cert", "/none/a", "--key", "/none/b"), exitUsage, "/none/a"},
		"URL that is none":        {serve("--data", dir, "--listen", "127.0.0.1:0", "--url", "https://host"), exitUsage, "wss://"},
		"URL without TLS":         {serve("--data", dir, "--listen", "127.0.0.1:0", "--url", "ws://127.0.0.1:1"), exitUsage, "--plain"},
		"plain everywhere":        {serve("--data", dir, "--listen", ":0", "--plain", "--url", "wss://a.example"), exitUsage, "--trusted-proxies"},
		"proxy, and no URL":       {serve("--data", dir, "--listen", "192.0.2.1:0", "--plain", "--trusted-proxies", "10.0.0.0/8"), exitUsage, "--url"},
		"proxies that are none":   {serve("--data", dir, "--trusted-proxies", "proxy.example"), exitUsage, "proxy.example"},
		"everybody a proxy":       {serve("--data", dir, "--trusted-proxies", "0.0.0.0/0"), exitUsage, "everybody"},
		"everybody, mapped":       {serve("--data", dir, "--trusted-proxies", "::ffff:0.0.0.0/96"), exitUsage, "everybody"},
		"more than IPv4":          {serve("--data", dir, "--trusted-proxies", "::ffff:10.0.0.0/90"), exitUsage, "10.0.0.0/8"},
		"two certificates":        {serve("--data", dir, "--domain", "a.example", "--cert", "a", "--key", "b"), exitUsage, "choose"},
		"plain with domain":       {serve("--data", dir, "--domain", "a.example", "--plain"), exitUsage, "--domain"},
		"short domain":            {serve("--data", dir, "--domain", "localhost"), exitUsage, "full name"},
		"address for domain":      {serve("--data", dir, "--domain", "192.0.2.1"), exitUsage, "full name"},
		"domain with port":        {serve("--data", dir, "--domain", "a.example:443"), exitUsage, "full name"},
		"ACME without domain":     {serve("--data", dir, "--acme-http", ":80"), exitUsage, "--acme-http"},
		"ACME without port":       {serve("--data", dir, "--domain", "a.example", "--acme-http", "80"), exitUsage, "HOST:PORT"},
		"ACME without TLS":        {serve("--data", dir, "--domain", "a.example", "--acme-directory", "http://ca.example/"), exitUsage, "https"},
		"log level":               {serve("--data", dir, "--log-level", "loud"), exitUsage, "loud"},
		"log format":              {serve("--data", dir, "--log-format", "xml"), exitUsage, "xml"},
		"no such address":         {serve("--data", t.TempDir(), "--listen", "192.0.2.1:0"), exitFailed, "try: an address of this machine"},
		"config what":             {[]string{"config"}, exitUsage, "config check"},
		"no such config":          {[]string{"config", "chekc"}, exitUsage, "chekc"},
		"no such file":            {serve("--config", "/none/kistd.toml"), exitUsage, "/none/kistd.toml"},
		"health, no data":         {[]string{"health"}, exitUsage, "--data"},
		"health, never ran":       {[]string{"health", "--data", never}, exitNone, "try: kistd serve"},
		"directory of others":     {serve("--data", other, "--listen", "127.0.0.1:0"), exitNone, "thesis.txt"},
		"damaged store":           {serve("--data", damaged, "--listen", "127.0.0.1:0"), exitIntegrity, "damaged"},
		"lost store":              {serve("--data", lost, "--listen", "127.0.0.1:0"), exitIntegrity, "try: kist.db and objects from a backup"},
		"lost store, verified":    {[]string{"verify", "--data", lost}, exitIntegrity, "kist.db is missing"},
		"path too long":           {serve("--data", long, "--listen", "127.0.0.1:0"), exitUsage, "too long"},
		"no retention":            {serve("--data", dir, "--listen", "127.0.0.1:0", "--retention", "0"), exitUsage, "--retention"},
		"endless retention":       {serve("--data", dir, "--listen", "127.0.0.1:0", "--retention", "4000000000"), exitUsage, "--retention"},
		"endlessly deleted":       {serve("--data", dir, "--listen", "127.0.0.1:0", "--deleted", "4000000000"), exitUsage, "--deleted"},
		"a trickle":               {serve("--data", dir, "--listen", "127.0.0.1:0", "--vault-bandwidth", "255KiB"), exitUsage, "--vault-bandwidth: at least 256KiB"},
		"too little memory":       {serve("--data", dir, "--listen", "127.0.0.1:0", "--client-memory", "31MiB"), exitUsage, "--client-memory: at least 32MiB"},
		"compact, no retention":   {[]string{"compact", "--data", dir, "--retention", "0"}, exitUsage, "--retention"},
		"compact, no data":        {[]string{"compact"}, exitUsage, "--data"},
		"compact, no directory":   {[]string{"compact", "--data", never}, exitNone, never},
		"compact, damaged store":  {[]string{"compact", "--data", damaged}, exitIntegrity, "damaged"},
		"invite, no data":         {[]string{"invite"}, exitUsage, "--data"},
		"invite, no directory":    {[]string{"invite", "--data", filepath.Join(never, "none")}, exitNone, "none"},
		"invite, empty directory": {[]string{"invite", "--data", never}, exitNone, never},
	} {
		code, stdout, stderr := kistd(t, test.args...)
		if code != test.code || !strings.HasPrefix(stderr, "kistd: ") || !strings.Contains(stderr, test.say) || stdout != "" {
			t.Errorf("%s: exit %d, %q, %q; want exit %d and %q", name, code, stdout, stderr, test.code, test.say)
		}
	}
	if entries, err := os.ReadDir(never); err != nil || len(entries) > 0 {
		t.Errorf("invite made %v, %v", entries, err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"invite", "--help"}, {"compact", "--help"}, {"config", "--help"}, {"config", "check", "--help"}, {"health", "--help"}, {"version"}} {
		code, stdout, stderr := kistd(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "kistd") {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// childEnviron is added to the environment of children.
var childEnviron []string

// child runs kistd serve as a process of its own.
func child(t *testing.T, args ...string) (*process, *os.Process) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve"}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Env = append(cmd.Env, childEnviron...)
	p := &process{t: t, stdout: new(buffer), stderr: new(buffer), exit: make(chan int, 1)}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = func() { cmd.Process.Signal(syscall.SIGTERM) }
	go func() {
		cmd.Wait()
		p.exit <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { p.end() })
	p.wait(listening)
	return p, cmd.Process
}

// Signals drain and end it with 0; after kill -9 it starts again with all that
// was acknowledged.
func TestSignals(t *testing.T) {
	dir := t.TempDir()
	p, process := child(t, "--data", dir, "--listen", "127.0.0.1:0")
	first, err := wire.ParseInvite(p.wait(inviteRE))
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority()
	if err := create(t, first, a); err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := p.end(); code != -1 {
		t.Errorf("killed, it exits with %d", code)
	}

	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, process = child(t, "--data", dir, "--listen", "127.0.0.1:0")
		first.URL = p.wait(listening)
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		c, err := client.Dial(ctx, client.Server{URL: first.URL, Key: first.Server, Binding: first.Binding}, client.Owner(a))
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		if err := process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Receive(ctx); !errors.Is(err, wire.ErrShutdown) {
			t.Errorf("%v: the session ends with %v, want ErrShutdown", signal, err)
		}
		c.Close()
		cancel()
		code := <-p.exit
		p.exit <- code
		if code != 0 {
			t.Errorf("%v: exit %d:\n%s", signal, code, p.stderr)
		}
	}
}

// The server cannot open a record: nothing that could is linked into it.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/kistvault/kist/secondary") {
		t.Fatalf("go list -deps names no package of ours:\n%s", out)
	}
	for _, dep := range deps {
		for _, closed := range []string{"vault", "keys/seal", "keys/keyfile", "onboarding"} {
			path := "github.com/kistvault/kist/" + closed
			if dep == path || strings.HasPrefix(dep, path+"/") {
				t.Errorf("kistd is linked with %s", dep)
			}
		}
	}
}

// compact works on a directory that no server uses, as often as wanted.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir, "--listen", "127.0.0.1:0", "--retention", "7")
	if err := use(t, p.wait(inviteRE)); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := kistd(t, "compact", "--data", dir)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "dropped 0 superseded values") || strings.Contains(stdout, "KiB now") {
		t.Errorf("beside a server: exit %d, %q, %q", code, stdout, stderr)
	}
	if code := p.end(); code != 0 {
		t.Fatalf("stopped with exit %d:\n%s", code, p.stderr)
	}
	for range 2 {
		code, stdout, stderr = kistd(t, "compact", "--data", dir)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "dropped 0 superseded values") || !strings.Contains(stdout, "KiB now") {
			t.Errorf("compact: exit %d, %q, %q", code, stdout, stderr)
		}
	}
	start(t, "--data", dir, "--listen", "127.0.0.1:0")
}
