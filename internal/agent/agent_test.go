package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs an agent of a new directory until the test ends.
func start(t *testing.T, run func(context.Context, *Caller) int) (dir string, stop func()) {
	t.Helper()
	dir = shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	s, err := Listen(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, run) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return dir, stop
}

// shortDir is t.TempDir without the test's name in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func dial(t *testing.T, dir string) *Conn {
	t.Helper()
	c, info, err := Dial(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if info.PID != os.Getpid() {
		t.Errorf("the agent is process %d, want %d", info.PID, os.Getpid())
	}
	return c
}

func TestRun(t *testing.T) {
	call := Call{
		Args: []string{"put", "notes/\xff\x00", "", "ü"}, Dir: "/some where", Env: []string{"A=b\xfe", "C="},
		Terminal: [3]bool{true, false, true}, Width: 123,
	}
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		if d := cmp.Diff(call, c.Call); d != "" {
			t.Error(d)
		}
		if !c.Stdin.IsTerminal() || c.Stdout.IsTerminal() || !c.Stderr.IsTerminal() || c.Stderr.Width() != 123 {
			t.Error("the streams are not what the call says")
		}
		fmt.Fprint(c.Stderr, "working")
		n, err := io.Copy(c.Stdout, c.Stdin)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(c.Stderr, "…%d", n)
		return 42
	})
	in := bytes.Repeat([]byte("0123456789"), 500_000)
	var out, stderr bytes.Buffer
	code, err := dial(t, dir).Run(t.Context(), call, Streams{In: bytes.NewReader(in), Out: &out, Err: &stderr})
	if code != 42 || err != nil || !bytes.Equal(out.Bytes(), in) || stderr.String() != "working…5000000" {
		t.Errorf("got %d, %v, %d bytes, %q", code, err, out.Len(), &stderr)
	}
}

// What the command does not read is not taken from the client, whose shell may
// want it.
func TestInputIsLeft(t *testing.T) {
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		b := make([]byte, 3)
		if _, err := io.ReadFull(c.Stdin, b); err != nil || string(b) != "one" {
			t.Errorf("got %q, %v", b, err)
		}
		return 0
	})
	in := strings.NewReader("onetwo")
	if _, err := dial(t, dir).Run(t.Context(), Call{}, Streams{In: in}); err != nil {
		t.Fatal(err)
	}
	if in.Len() != 3 {
		t.Errorf("%d bytes are left, want 3", in.Len())
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A stream that fails in the client fails in the command.
func TestStreamErrors(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		if _, err := io.ReadAll(c.Stdin); err == nil || err.Error() != "bad luck" {
			t.Errorf("reading: %v", err)
		}
		if _, err := c.Stdout.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) || err.Error() != full.Error() {
			t.Errorf("writing: %v", err)
		}
		fmt.Fprint(c.Stderr, "on")
		return 1
	})
	var stderr bytes.Buffer
	code, err := dial(t, dir).Run(t.Context(), Call{}, Streams{In: failing{errors.New("bad luck")}, Out: failing{full}, Err: &stderr})
	if code != 1 || err != nil || stderr.String() != "on" {
		t.Errorf("got %d, %v, %q", code, err, &stderr)
	}
}

func TestCancel(t *testing.T) {
	for _, cause := range []error{ErrInterrupted, ErrTerminated} {
		began := make(chan struct{})
		dir, stop := start(t, func(ctx context.Context, c *Caller) int {
			close(began)
			if _, err := c.Stdin.Read(make([]byte, 1)); !errors.Is(err, cause) || context.Cause(ctx) != cause {
				t.Errorf("the read ended with %v, the context with %v", err, context.Cause(ctx))
			}
			fmt.Fprint(c.Stderr, "ended")
			return 130
		})
		in, w := io.Pipe()
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-began; cancel(cause) }()
		var stderr bytes.Buffer
		code, err := dial(t, dir).Run(ctx, Call{}, Streams{In: in, Err: &stderr})
		if code != 130 || err != nil || stderr.String() != "ended" {
			t.Errorf("got %d, %v, %q", code, err, &stderr)
		}
		w.Close()
		stop()
	}
}

// A client that dies cancels its command, also one that waits for the client.
func TestClientDies(t *testing.T) {
	ended := make(chan error)
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		if c.Args[0] == "write" {
			c.Stdout.Write([]byte("x"))
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0
	})
	for _, arg := range []string{"wait", "write"} {
		c := dial(t, dir)
		b, err := (&Call{Args: []string{arg}}).marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.send(kindCall, b); err != nil {
			t.Fatal(err)
		}
		if arg == "write" {
			if k, _, err := readFrame(c.conn); k != kindOut || err != nil {
				t.Fatal(k, err)
			}
		}
		c.Close()
		if err := <-ended; err != ErrInterrupted {
			t.Errorf("%s: ended with %v", arg, err)
		}
	}
}

// An agent that ends lets its commands tell so, and takes its traces away.
func TestAgentEnds(t *testing.T) {
	began := make(chan struct{})
	dir, stop := start(t, func(ctx context.Context, c *Caller) int {
		close(began)
		<-ctx.Done()
		fmt.Fprint(c.Stderr, context.Cause(ctx))
		return 5
	})
	go func() { <-began; stop() }()
	var stderr bytes.Buffer
	code, err := dial(t, dir).Run(t.Context(), Call{}, Streams{Err: &stderr})
	if code != 5 || err != nil || stderr.String() != ErrEnded.Error() {
		t.Errorf("got %d, %v, %q", code, err, &stderr)
	}
	stop()
	if _, _, err := Dial(dir, "test"); err != ErrNone {
		t.Errorf("after its end: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "kist", "*"))
	if _, err := os.Stat(filepath.Join(dir, FileName)); !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left behind: %v, %q", err, left)
	}
}

// A command that panics ends, and the agent does not.
func TestPanic(t *testing.T) {
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		if len(c.Args) > 0 {
			panic("no")
		}
		return 7
	})
	var stderr bytes.Buffer
	code, err := dial(t, dir).Run(t.Context(), Call{Args: []string{"x"}}, Streams{Err: &stderr})
	if code != 2 || err != nil || !strings.HasPrefix(stderr.String(), "panic: no\n") {
		t.Errorf("got %d, %v, %q", code, err, &stderr)
	}
	if code, err = dial(t, dir).Run(t.Context(), Call{}, Streams{}); code != 7 || err != nil {
		t.Errorf("the next one: %d, %v", code, err)
	}
}

func TestAsk(t *testing.T) {
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		a, err := c.Ask(ctx, "passphrase", []byte("me.kistkey"))
		if err != nil || string(a) != "secret" {
			t.Errorf("got %q, %v", a, err)
		}
		if _, err := c.Ask(ctx, "refuse", nil); err == nil || err.Error() != "no: refuse" {
			t.Errorf("got %v", err)
		}
		if _, err := c.Ask(ctx, "long", make([]byte, maxData)); err == nil {
			t.Error("a question was too long, and was asked")
		}
		return 0
	})
	_, err := dial(t, dir).Run(t.Context(), Call{}, Streams{
		Answer: func(_ context.Context, what string, with []byte) ([]byte, error) {
			if what == "passphrase" && string(with) == "me.kistkey" {
				return []byte("secret"), nil
			}
			return nil, fmt.Errorf("no: %s", what)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Many at once: each has its own streams.
func TestManyClients(t *testing.T) {
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		io.Copy(c.Stdout, c.Stdin)
		return len(c.Args)
	})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			c, _, err := Dial(dir, "test")
			if err != nil {
				t.Error(err)
				return
			}
			text := strings.Repeat(fmt.Sprint(i), 1000)
			var out strings.Builder
			code, err := c.Run(t.Context(), Call{Args: make([]string, i)}, Streams{In: strings.NewReader(text), Out: &out})
			if code != i || err != nil || out.String() != text {
				t.Errorf("%d: got %d, %v", i, code, err)
			}
		})
	}
	all.Wait()
}

func TestOtherVersion(t *testing.T) {
	dir, _ := start(t, func(context.Context, *Caller) int { return 0 })
	_, info, err := Dial(dir, "another")
	if !errors.Is(err, ErrVersion) || info.PID != os.Getpid() || info.Program != "test" {
		t.Errorf("got %+v, %v", info, err)
	}
}

// What an agent that was killed leaves is no agent, and the next one takes its
// place.
func TestStale(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	dir := shortDir(t)
	begin, err := prefix(dir)
	if err != nil {
		t.Fatal(err)
	}
	dead := &place{Socket: filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "kist", begin+"1"), PID: 1}
	if err := dead.write(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Dial(dir, "test"); err != ErrNone {
		t.Errorf("without its socket: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(dead.Socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if _, _, err := Dial(dir, "test"); err != ErrNone {
		t.Errorf("with a dead socket: %v", err)
	}
	s, err := Listen(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead socket is still there: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("{\"sock"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Dial(dir, "test"); err != ErrNone {
		t.Errorf("with half a file: %v", err)
	}
}

// However long the paths are, the socket's is short.
func TestLongPaths(t *testing.T) {
	long := shortDir(t)
	for range 20 {
		long = filepath.Join(long, strings.Repeat("long", 5))
	}
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][2]string{{shortDir(t), shortDir(t)}, {long, shortDir(t)}, {long, long}, {"", long}, {"/does/not/exist", shortDir(t)}} {
		t.Setenv("XDG_RUNTIME_DIR", env[0])
		t.Setenv("TMPDIR", env[1])
		s, err := Listen(long, "test")
		if err != nil {
			t.Fatal(err)
		}
		if len(s.place.Socket) > maxSocketPath {
			t.Errorf("%s is too long", s.place.Socket)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A directory that others could have laid there is not used.
func TestUnsafeDirectory(t *testing.T) {
	runtime := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	sockets := filepath.Join(runtime, "kist")
	elsewhere := shortDir(t)
	if err := os.Symlink(elsewhere, sockets); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(sockets); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a link: %v", err)
	}
	dir := shortDir(t)
	if err := (&place{Socket: filepath.Join(sockets, "x"), PID: 1}).write(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Dial(dir, "test"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("dialling through a link: %v", err)
	}
	if err := os.Remove(sockets); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sockets, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(sockets); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a file: %v", err)
	}
	if err := os.Remove(sockets); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(sockets, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(sockets); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(sockets, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(sockets); !errors.Is(err, ErrUnsafe) {
		t.Errorf("mode 0750: %v", err)
	}
	if os.Getuid() == 0 {
		if err := os.Chmod(sockets, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(sockets, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if err := makeDir(sockets); !errors.Is(err, ErrUnsafe) {
			t.Errorf("another's: %v", err)
		}
	}
}

// A client that does not keep to the protocol loses its command, and no other.
func TestBadClients(t *testing.T) {
	dir, _ := start(t, func(ctx context.Context, c *Caller) int {
		if len(c.Args) == 1 {
			<-ctx.Done()
		}
		return 3
	})
	call, err := (&Call{Args: []string{"wait"}}).marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := appendFrame(nil, kindCall, call)
	for name, b := range map[string][]byte{
		"garbage":        []byte("GET / HTTP/1.1\r\n\r\n"),
		"no call":        appendFrame(nil, kindCancel, nil),
		"no json":        appendFrame(nil, kindCall, []byte("{")),
		"too long":       binary.BigEndian.AppendUint32([]byte{byte(kindCall)}, maxCall+1),
		"unasked input":  append(bytes.Clone(good), bytes.Repeat(appendFrame(nil, kindInput, []byte("x")), 2)...),
		"unasked wrote":  append(bytes.Clone(good), bytes.Repeat(appendFrame(nil, kindWrote, nil), 2)...),
		"unasked answer": append(bytes.Clone(good), bytes.Repeat(appendFrame(nil, kindTold, nil), 2)...),
		"wrong kind":     append(bytes.Clone(good), appendFrame(nil, kindExit, nil)...),
	} {
		c := dial(t, dir)
		if _, err := c.conn.Write(b); err != nil {
			t.Fatal(err)
		}
		// Whatever it still says, it ends with the connection.
		if _, err := io.Copy(io.Discard, c.conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	if code, err := dial(t, dir).Run(t.Context(), Call{}, Streams{}); code != 3 || err != nil {
		t.Errorf("after them: %d, %v", code, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindOut, []byte("text")))
	f.Add(appendFrame(nil, kindExit, []byte{0, 0, 0, 1}))
	f.Add([]byte{byte(kindCall), 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		k, payload, err := readFrame(r)
		if err != nil {
			if !errors.Is(err, errProtocol) && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("unexpected error %v", err)
			}
			return
		}
		if len(payload) > k.limit() {
			t.Errorf("%d bytes in a frame of type %d", len(payload), k)
		}
		if again := appendFrame(nil, k, payload); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("%x became %x", b, again)
		}
		if k == kindCall {
			if c, err := parseCall(payload); err == nil {
				again, err := c.marshal()
				if err != nil {
					t.Fatal(err)
				}
				c2, err := parseCall(again)
				if d := cmp.Diff(c, c2); err != nil || d != "" {
					t.Error(err, d)
				}
			}
		}
		if told, err := parseError(payload); err == nil && len(payload) > 0 {
			if again := appendError(nil, told); len(payload) <= maxData/2 && !bytes.Equal(again, payload) {
				t.Errorf("the error %x became %x", payload, again)
			}
		}
	})
}
