//go:build linux

package stress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/porttest"
)

// A server is a kistd in a process of its own.
type server struct {
	t      testing.TB
	data   string
	addr   string
	wrap   []string // a program that becomes kistd, and its arguments
	args   []string // of serve
	cmd    *exec.Cmd
	out    *output
	log    *output
	exited chan struct{}
	first  string // the invite of the first start
}

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// newServer makes a server that does not run, with its data in a directory. It has the
// same address whenever it runs.
func newServer(t testing.TB, data string, args ...string) *server {
	t.Helper()
	addr, release, err := porttest.Keep()
	fatal(t, err)
	t.Cleanup(release)
	s := &server{t: t, data: data, addr: addr, args: append([]string{"--min-free", "0"}, args...)}
	t.Cleanup(func() {
		if t.Failed() && s.log != nil {
			text := s.log.String()
			t.Logf("the end of what kistd has said:\n%s", text[max(0, len(text)-4000):])
		}
		s.kill()
	})
	return s
}

// run is newServer and start, with a directory of its own.
func run(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t, filepath.Join(t.TempDir(), "data"), args...)
	s.start()
	return s
}

var (
	listening = regexp.MustCompile(`(?m)^listening on wss?://`)
	inviteRE  = regexp.MustCompile(`(?m)^kistinvite1\S+$`)
)

// tryStart starts the server and returns when it listens, or an error with what it
// said when it ended.
func (s *server) tryStart() error {
	s.t.Helper()
	line := append(append([]string{}, s.wrap...), program("kistd"), "serve", "--data", s.data, "--listen", s.addr)
	line = append(line, s.args...)
	s.cmd = exec.Command(line[0], line[1:]...)
	s.out, s.log, s.exited = new(output), new(output), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fatal(s.t, start(s.cmd))
	cmd, exited := s.cmd, s.exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	late := time.After(timeout)
	for !listening.MatchString(s.out.String()) {
		select {
		case <-s.exited:
			s.cmd = nil
			return fmt.Errorf("kistd ended: %v: %s", cmd.ProcessState, s.log)
		case <-late:
			s.t.Fatalf("kistd does not listen: %s", s.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if s.first == "" {
		eventually(s.t, func() error {
			if s.first = inviteRE.FindString(s.out.String()); s.first == "" {
				return errors.New("no invite is printed")
			}
			return nil
		})
	}
	return nil
}

func (s *server) start() {
	s.t.Helper()
	fatal(s.t, s.tryStart())
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// kill ends the server at once, if it runs.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// stop has the server stop in order.
func (s *server) stop() {
	s.t.Helper()
	fatal(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(timeout):
		s.t.Fatal("kistd does not stop")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("kistd stopped with %v: %s", s.cmd.ProcessState, s.log)
	}
	s.cmd = nil
}

// get asks for a page as a browser does.
func (s *server) get(path string) (status int, body string, err error) {
	c := http.Client{Timeout: timeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	scheme := "https://"
	if strings.Contains(strings.Join(s.args, " "), "--plain") {
		scheme = "http://"
	}
	r, err := c.Get(scheme + s.addr + path)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// isReady waits until the server is ready.
func (s *server) isReady() {
	s.t.Helper()
	eventually(s.t, func() error {
		status, body, err := s.get("/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz: %d %s", status, body)
		}
		if err != nil {
			err = fmt.Errorf("%w; its log:\n%s", err, s.log)
		}
		return err
	})
}

// notReady checks that the server says what is wrong, as soon as its disk answers.
func (s *server) notReady(why string) {
	s.t.Helper()
	var status int
	var body string
	var err error
	eventually(s.t, func() error {
		if status, body, err = s.get("/readyz"); strings.Contains(body, "the disk does not answer") {
			return errors.New(body)
		}
		return nil
	})
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, why) {
		s.t.Errorf("/readyz: %d, %q, %v; want 503 and %q", status, body, err, why)
	}
}

// cpu returns the time that the process has worked.
func (s *server) cpu() time.Duration {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	fatal(s.t, err)
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	fatal(s.t, err)
	system, err := strconv.Atoi(f[12])
	fatal(s.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // in ticks
}

// descriptors returns how many the process has open.
func (s *server) descriptors() int {
	s.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid()))
	fatal(s.t, err)
	return len(entries)
}

// sessions returns how many devices are signed in, as the server counts them.
func (s *server) sessions() (n int) {
	s.t.Helper()
	c := http.Client{Timeout: timeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.data, "admin.sock"))
		},
	}}
	r, err := c.Get("http://kistd/metrics")
	fatal(s.t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	fatal(s.t, err)
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "kistd_sessions %d", &n); err == nil {
			return n
		}
	}
	s.t.Fatalf("no number of sessions in its metrics: %s", text)
	return 0
}

// quiet waits until the process has no more descriptors open than before.
func (s *server) quiet(before int) {
	s.t.Helper()
	eventually(s.t, func() error {
		if n := s.descriptors(); n > before+2 { // a connection of ours, and its neighbour
			return fmt.Errorf("%d descriptors are open, %d were before", n, before)
		}
		return nil
	})
}

// goroutines ends the process with SIGQUIT, and returns what it says of its
// goroutines.
func (s *server) goroutines() (n int, text string) {
	s.t.Helper()
	fatal(s.t, s.cmd.Process.Signal(syscall.SIGQUIT))
	select {
	case <-s.exited:
	case <-time.After(timeout):
		s.t.Fatal("kistd does not end")
	}
	s.cmd = nil
	text = s.log.String()
	return len(regexp.MustCompile(`(?m)^goroutine \d+ .*\[`).FindAllString(text, -1)), text
}

// watchMemory has the server's memory looked at until the function that it returns is
// called, which fails where it was ever above a limit.
func (s *server) watchMemory(limit int64) (over func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int64)
	pid := s.pid()
	go func() {
		var peak int64
		for {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err == nil {
				if m := regexp.MustCompile(`RssAnon:\s*(\d+) kB`).FindSubmatch(b); m != nil {
					n, _ := strconv.ParseInt(string(m[1]), 10, 64)
					peak = max(peak, n<<10)
				}
			}
			select {
			case <-ctx.Done():
				done <- peak
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() {
		s.t.Helper()
		cancel()
		peak := <-done
		s.t.Logf("the server had up to %d MiB", peak>>20)
		if peak == 0 || peak > limit {
			s.t.Errorf("the server's memory came to %d MiB, more than %d", peak>>20, limit>>20)
		}
	}
}
