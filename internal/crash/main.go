// Command crash proves that nothing acknowledged is lost when the secondary or
// a device is killed. It runs a real kistd and several devices, each a process
// of its own, lets them write and sync as fast as they are told to, and kills
// one or the other with SIGKILL at random moments, over and over:
//
//	go run ./internal/crash -time 5m
//	go run ./internal/crash -short -seed 7
//
// A device says on a pipe what it is going to write and, when the vault has
// returned, that it is written. This program keeps account of that (see model)
// and compares:
//
//   - After each kill of a device, its vault as the kill left it: everything
//     acknowledged is there, a write that was under way is there or not,
//     transactions are whole, and nothing of the other devices went back.
//   - At the end, when all devices have synced, every vault in full: the value
//     of each record, all last writes to the records that all devices share in
//     their history, digests, counters, alarms.
//   - A device that is restored from nothing at the end.
//   - The secondary's log, read from its files after a last kill: each bundle
//     and object against its hashes, each author's chain, and the root of the
//     tree, computed anew, against that of the devices.
//
// The program ends with the number of comparisons that passed and failed, and
// exit status 1 if one failed: then it leaves its directory for a look. The seed
// fixes what is chosen, not when the machine comes to it.
//
// SIGKILL takes the process and leaves the page cache, so this says nothing of
// fsync; that a store calls it is for the tests of package store.
//
// All processes are started from the main goroutine, which never leaves its
// thread: Linux kills the children when that thread ends (proc_linux.go). Beside
// it there is one goroutine a child, which reads what the child prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	time    time.Duration // of killing
	kills   int           // after which to stop; 0: the time alone counts
	devices int
	rate    int // writes a second that each device is meant to make; 0: all it can
	seed    uint64
	dir     string // empty: a temporary one
	kistd   string // program; empty: built
}

func main() {
	// The children die with the thread that started them.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == deviceCommand {
		os.Exit(deviceMain(os.Args[2:]))
	}
	os.Setenv("KISTD_CONFIG", os.DevNull) // not the one of a kistd that is at home here
	var c config
	short := flag.Bool("short", false, "45 seconds of killing, for a check before each change")
	flag.DurationVar(&c.time, "time", 5*time.Minute, "how long to go on killing")
	flag.IntVar(&c.kills, "kills", 0, "stop after as many kills; 0: when the time is over")
	flag.IntVar(&c.devices, "devices", 3, "number of devices")
	flag.IntVar(&c.rate, "rate", 150, "writes a second of each device; 0: as many as it can")
	flag.Uint64Var(&c.seed, "seed", 0, "of what is chosen; 0: a random one")
	flag.StringVar(&c.dir, "dir", "", "directory to work in, which must not exist and is kept; empty: a temporary one")
	flag.StringVar(&c.kistd, "kistd", "", "server program; empty: build it")
	flag.Parse()
	if flag.NArg() > 0 || c.devices < 1 || c.rate < 0 || c.kills < 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *short {
		c.time = 45 * time.Second
	}
	if c.seed == 0 {
		c.seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, c)
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "crash: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}
