package vault

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The simulation: many devices and one secondary, in an order and with faults
// that a seed decides. See [simPlan] for what happens, [simModel] for what must
// be. Run it at length, on all processors, with
//
//	make sim
//	make sim FOR=1h
//
// and one seed again, in the words of its events, with
//
//	go test ./vault -run 'TestSimulation$' -v -sim.seeds=1 -sim.seed=N
var (
	simSeeds  = flag.Uint64("sim.seeds", 12, "how many seeds to simulate")
	simFirst  = flag.Uint64("sim.seed", 1, "the first seed")
	simStep   = flag.Uint64("sim.step", 1, "how much greater the next seed is")
	simFor    = flag.Duration("sim.for", 0, "simulate seed after seed for so long, instead of a number of them")
	simKeep   = flag.String("sim.keep", "", "the events of the seed to keep, as a failure names them; empty: all")
	simShrink = flag.Duration("sim.shrink", 2*time.Minute, "how long to look for a shorter plan that fails")
)

// I57: whatever happens in whatever order, all devices come to be equal, equal
// to the model, and nothing that was acknowledged is lost.
func TestSimulation(t *testing.T) {
	dir := simDir(t)
	LimitBase(t, 20, 15, 6) // so that a restore takes many transactions
	if *simSeeds == 1 && *simFor == 0 {
		plan := newSimPlan(*simFirst)
		if *simKeep != "" {
			plan = plan.keep(parseKept(t, *simKeep))
		}
		var trace func(string)
		if testing.Verbose() {
			trace = func(line string) { t.Log(line) }
		}
		if f := simulate(t, plan, dir, trace); f != nil {
			t.Fatalf("seed %d: %v", plan.seed, f)
		}
		return
	}
	end := time.Now().Add(*simFor)
	ran := uint64(0)
	for ; *simFor > 0 && time.Now().Before(end) || *simFor == 0 && ran < *simSeeds; ran++ {
		plan := newSimPlan(*simFirst + ran**simStep)
		if f := simulate(t, plan, dir, nil); f != nil {
			t.Fatal(explain(t, plan, f, dir))
		}
	}
	t.Logf("%d seeds, from %d on in steps of %d", ran, *simFirst, *simStep)
}

var simReplayed = []uint64{3, 4, 10} // seeds

// A seed replays exactly: every event, frame, size and byte of the log is the same
// again, however busy the machine is.
func TestSimulationReplays(t *testing.T) {
	dir := simDir(t)
	for _, seed := range simReplayed {
		var first string
		for i := range 2 {
			done := make(chan struct{})
			for range i * runtime.GOMAXPROCS(0) {
				go func() {
					for {
						select {
						case <-done:
							return
						default:
							runtime.GC()
						}
					}
				}()
			}
			h := sha256.New()
			lines := 0
			f := simulate(t, newSimPlan(seed), dir, func(line string) { fmt.Fprintln(h, line); lines++ })
			close(done)
			if f != nil {
				t.Fatalf("seed %d: %v", seed, f)
			}
			got := fmt.Sprintf("%d lines, %x", lines, h.Sum(nil))
			if i == 0 {
				first = got
				t.Logf("seed %d: %s", seed, got)
			} else if got != first {
				t.Errorf("seed %d: %s, then %s", seed, first, got)
			}
		}
	}
}

// simDir returns a directory in memory, where there is one.
func simDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kist-sim")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// explain says what failed, how to see it again, and the shortest plan that was
// found to fail in the same way.
func explain(t *testing.T, plan *simPlan, f *simFailure, dir string) string {
	kept, f := shrink(t, plan, f, dir, time.Now().Add(*simShrink))
	again := fmt.Sprintf("go test ./vault -run 'TestSimulation$' -v -sim.seeds=1 -sim.seed=%d", plan.seed)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\n", plan.seed, f)
	fmt.Fprintf(&b, "again:   %s\n", again)
	fmt.Fprintf(&b, "shorter: %s -sim.keep=%s\n", again, formatKept(kept))
	fmt.Fprintf(&b, "%d of %d events are left:\n", len(kept), len(plan.events))
	for _, e := range plan.keep(kept).events {
		fmt.Fprintf(&b, "%v\n", &e)
	}
	return b.String()
}
