package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/internal/porttest"
	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func TestMain(m *testing.M) {
	testonly.ScryptWorkFactor = 10
	os.Setenv("KISTD_CONFIG", os.DevNull) // not the one of a kistd that is at home here
	testscript.Main(tidy{m}, map[string]func(){
		"kist": main,
		"kist-other": func() {
			Version = "another"
			main()
		},
	})
}

// programs is where programs are built that scripts run.
var programs string

// tidy leaves none of them behind.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	var err error
	if programs, err = os.MkdirTemp("", "kistd"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(programs)
	return m.M.Run()
}

// TestScript runs testdata/script/*.txt. Beside testscript's own commands they
// have:
//
//	exits CODE kist ARG…       run it and want this exit status
//	startserver NAME           run a secondary with the data directory NAME, and
//	                           set $INVITE; a second start has the same address;
//	                           NAME.pid and NAME.log are its process and output
//	stopserver NAME            stop it
//	kistd ARG…                 run kistd, beside a server or without one
//	waitsent DIR               wait until nothing waits to be sent from the vault in DIR
//	vaultid VAR NAME           set $VAR to the id of the secondary's first vault
//	invite VAR NAME            set $VAR to a new invite
//	forge VAR NAME OTHER       set $VAR to an invite of NAME with OTHER's key
//	expired VAR NAME           set $VAR to an invite that is out of date
//	unfinished DIR KEY         make what an interrupted onboarding leaves
//	waitfor FILE TEXT          wait until the file holds the text
//	waitserved DIR             wait until an agent serves the vault in DIR
//	future DIR NAMESPACE/NAME  put a record with a clock that is eight years ahead
//	demo DIR                   copy testdata/demo
//	inmemory NAME TEXT         want the text in the memory of the process in NAME.pid
//
// kist-other is kist of another version.
func TestScript(t *testing.T) {
	demo, err := filepath.Abs("../../testdata/demo")
	if err != nil {
		t.Fatal(err)
	}
	s := &servers{running: make(map[string]*server)}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("KIST_PASSPHRASE_FILE", filepath.Join(env.WorkDir, "pass"))
			env.Setenv("TZ", "UTC")
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second with -race
			if err := os.Mkdir(filepath.Join(env.WorkDir, "run"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "pass"), []byte("correct horse battery staple\nsecond line\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":       exits,
			"startserver": s.start,
			"stopserver":  s.stop,
			"kistd":       kistdCommand,
			"vaultid":     vaultID,
			"waitsent":    waitSent,
			"invite":      s.invite,
			"forge":       s.forge,
			"expired":     s.expired,
			"unfinished":  unfinishedVault,
			"waitfor":     waitFor,
			"waitserved":  waitServed,
			"future":      future,
			"inmemory":    inMemory,
			"demo": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(demo)))
			},
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func kistdCommand(ts *testscript.TestScript, neg bool, args []string) {
	program, err := buildServer()
	ts.Check(err)
	if err := ts.Exec(program, args...); (err != nil) != neg {
		ts.Fatalf("kistd: %v", err)
	}
}

func waitSent(ts *testscript.TestScript, neg bool, args []string) {
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		ts.Check(ts.Exec("kist", "status", "--json", "--vault", args[0]))
		if strings.Contains(ts.ReadFile("stdout"), `"pending":0`) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s never sent what it has", args[0])
}

func vaultID(ts *testscript.TestScript, neg bool, args []string) {
	program, err := buildServer()
	ts.Check(err)
	out, err := exec.Command(program, "vaults", "--json", "--data", ts.MkAbs(args[1])).Output()
	ts.Check(err)
	var v struct{ ID string }
	ts.Check(json.NewDecoder(bytes.NewReader(out)).Decode(&v))
	ts.Setenv(args[0], v.ID)
}

// timeout only ends a test that hangs.
const timeout = 5 * time.Minute

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	file, text := ts.MkAbs(args[0]), args[1]
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), text) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("%s never held %q", args[0], text)
}

func waitServed(ts *testscript.TestScript, neg bool, args []string) {
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		if c, _, err := agent.Dial(ts.MkAbs(args[0]), version()); err == nil {
			ts.Check(c.Close())
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("nobody serves %s", args[0])
}

// unfinishedVault makes a vault that has a secondary, and whose device was never
// admitted.
func unfinishedVault(ts *testscript.TestScript, neg bool, args []string) {
	f, err := keyfile.Open(ts.MkAbs(args[1]), keyfile.Unlock{Passphrase: func() ([]byte, error) {
		return []byte("correct horse battery staple"), nil
	}})
	ts.Check(err)
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	ts.Check(err)
	ts.Check(vault.Create(ts.MkAbs(args[0]), &keyfile.Device{
		Vault: f.Vault, ID: k.ID(), Seed: seed, Authority: f.Root.Authority().Public(), TagSecret: f.Root.TagSecret(),
		Epochs: []keys.Epoch{{Number: 1, Secret: f.Root.Epoch(1)}}, Servers: f.Servers,
	}, "half"))
}

// future puts a record with a clock that is years ahead.
func future(ts *testscript.TestScript, neg bool, args []string) {
	namespace, name, _ := strings.Cut(args[1], "/")
	v, err := vault.Open(context.Background(), ts.MkAbs(args[0]), vault.Config{Now: func() time.Time { return time.Now().AddDate(8, 0, 0) }})
	ts.Check(err)
	_, err = v.Namespace(namespace).Put(context.Background(), name, []byte("early\n"))
	ts.Check(errors.Join(err, v.Close()))
}

// buildServer builds kistd once.
var buildServer = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programs, "kistd")
	if out, err := exec.Command("go", "build", "-o", program, "../kistd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building kistd: %v\n%s", err, out)
	}
	return program, nil
})

// servers are the secondaries that scripts have started.
type servers struct {
	mu      sync.Mutex
	running map[string]*server // data directory → its server
}

type server struct {
	address string // host:port
	cmd     *exec.Cmd
	done    chan struct{}
}

func (s *servers) start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: startserver NAME")
	}
	program, err := buildServer()
	ts.Check(err)
	data := ts.MkAbs(args[0])
	s.mu.Lock()
	defer s.mu.Unlock()
	srv := s.running[data]
	if srv == nil {
		address, release, err := porttest.Keep()
		ts.Check(err)
		srv = &server{address: address}
		s.running[data] = srv
		ts.Defer(func() {
			srv.end()
			release()
		})
	}
	if !srv.serve(ts, program, data) {
		ts.Fatalf("kistd ended: %s", ts.ReadFile(data+".log"))
	}
	ts.Setenv("INVITE", parsed(ts, args[0]).String())
}

// serve starts kistd and waits until it listens, or reports that it has ended.
func (s *server) serve(ts *testscript.TestScript, program, data string) bool {
	s.cmd = exec.Command(program, "serve", "--data", data, "--listen", s.address)
	log, err := os.Create(data + ".log")
	ts.Check(err)
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	ts.Check(s.cmd.Start())
	ts.Check(os.WriteFile(data+".pid", []byte(strconv.Itoa(s.cmd.Process.Pid)), 0o600))
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() {
		cmd.Wait()
		close(done)
	}()
	for by := time.Now().Add(timeout); time.Now().Before(by); {
		select {
		case <-done:
			s.cmd = nil
			return false
		case <-time.After(20 * time.Millisecond):
		}
		if strings.Contains(ts.ReadFile(data+".log"), "listening on ") {
			return true
		}
	}
	ts.Fatalf("kistd does not listen")
	return false
}

func newInvite(program, data string) (string, error) {
	out, err := exec.Command(program, "invite", "--data", data).Output()
	return strings.TrimSpace(string(out)), err
}

func (s *servers) stop(ts *testscript.TestScript, neg bool, args []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[ts.MkAbs(args[0])].end()
}

func (s *server) end() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGCONT) // a script that failed may have left it stopped
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(timeout):
		s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

func (s *servers) invite(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], parsed(ts, args[1]).String())
}

func (s *servers) forge(ts *testscript.TestScript, neg bool, args []string) {
	i := parsed(ts, args[1])
	i.Server = parsed(ts, args[2]).Server
	ts.Setenv(args[0], i.String())
}

func (s *servers) expired(ts *testscript.TestScript, neg bool, args []string) {
	i := parsed(ts, args[1])
	i.Expires = time.Now().Add(-time.Hour)
	ts.Setenv(args[0], i.String())
}

func parsed(ts *testscript.TestScript, name string) wire.Invite {
	program, err := buildServer()
	ts.Check(err)
	text, err := newInvite(program, ts.MkAbs(name))
	ts.Check(err)
	i, err := wire.ParseInvite(text)
	ts.Check(err)
	return i
}
