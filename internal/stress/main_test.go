//go:build linux

package stress

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

var (
	signIns = flag.Int("stress.n", 20_000, "bad sign-ins")
	silent  = flag.Int("stress.silent", 5_000, "connections that say nothing")
	idle    = flag.Int("stress.idle", 1000, "sessions that do nothing")
	long    = flag.Bool("stress.long", false, "wait until idle sessions are cut off, which takes some minutes")
	all     = flag.Bool("stress.all", os.Getenv("KIST_STRESS_ALL") != "", "fail where something that a test needs is missing")
)

// timeout bounds each wait for something that has to come: far more than it takes on
// a slow machine.
const timeout = 2 * time.Minute

// programs is where kistd and kist are.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")        // most of them wait most of the time
	os.Setenv("KISTD_CONFIG", os.DevNull) // not the one of a kistd that is at home here
	dir, err := os.MkdirTemp("", "kist-stress-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	build := exec.Command("go", "build", "-o", dir, "github.com/kistvault/kist/cmd/kistd", "github.com/kistvault/kist/cmd/kist")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func program(name string) string { return filepath.Join(programs, name) }

// starter starts processes, all from one thread that does not end: with it the kernel
// kills them (prctl(2), PR_SET_PDEATHSIG).
var starter = make(chan func())

func init() {
	go func() {
		runtime.LockOSThread()
		for f := range starter {
			f()
		}
	}()
}

func start(c *exec.Cmd) error {
	done := make(chan error)
	starter <- func() { done <- c.Start() }
	return <-done
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok says nothing is wrong, and fails with what it says in the
// end.
func eventually(t testing.TB, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it does not come about: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
