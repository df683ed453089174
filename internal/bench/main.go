// Command bench measures, on this machine, what kist promises: how long things
// take, what they cost on the line, and what they hold in memory. Devices and
// secondary speak TLS over loopback, and every write is durable. Beside each
// figure stands the mark it has to keep, if there is one; most times follow the
// disk's own, which is measured first.
//
//	go run ./internal/bench
//	go run ./internal/bench -run 'live|traffic' -large 10000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"time"
)

// bench is one run of the program.
type bench struct {
	dir   string
	disk  time.Duration // one write made durable, p50
	puts  int           // of the live measure
	large int           // records of a large vault
	huge  int           // of one more to restore; 0: none

	idle    int           // sessions that do nothing
	loadFor time.Duration // how long each measure of a load takes

	soakFor time.Duration // how long a secondary is under load; 0: not

	missed int // marks
}

var sections = []struct {
	name, what string
	run        func(*bench, context.Context) error
}{
	{"live", "from put on one device to event on another, both connected", (*bench).live},
	{"traffic", "bytes of a session, and of one change", (*bench).traffic},
	{"incremental", "a sync of 10 changes, in a small and in a large vault", (*bench).incremental},
	{"memory", "what a sync holds in memory, with few and with many changes pending", (*bench).memory},
	{"slow", "what a secondary holds for devices that do not read", (*bench).slow},
	{"offline", "what was written without a secondary goes up", (*bench).offline},
	{"restore", "a new device begins with a checkpoint, or takes the whole log", (*bench).restore},
	{"cost", "a restore costs what is alive, and not what was ever written", (*bench).cost},
	{"load", "many clients write, read and restore at once", (*bench).load},
	{"idle", "what sessions cost that do nothing", (*bench).idleSessions},
	{"soak", "a secondary under load for long keeps nothing", (*bench).soak},
	{"path", "a device fills its vault, sends it, and another restores it", (*bench).path},
}

func main() {
	if role := os.Getenv(childEnv); role != "" {
		child(role)
		return
	}
	var b bench
	run := flag.String("run", ".", "which measures: a regular expression over their names")
	flag.IntVar(&b.large, "large", 100_000, "records of a large vault, and changes of a large sync")
	flag.IntVar(&b.huge, "huge", 0, "records of one more vault to restore, such as 1000000")
	flag.IntVar(&b.puts, "puts", 600, "puts whose way to another device is timed")
	flag.IntVar(&b.idle, "idle", 10_000, "sessions that do nothing")
	flag.DurationVar(&b.soakFor, "soak", 0, "how long a secondary is kept under load, such as 30m; 0: not at all")
	flag.DurationVar(&b.loadFor, "for", 5*time.Second, "how long each measure under load takes")
	dir := flag.String("dir", "", "where to put the files, on the disk to measure; empty: a temporary directory")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.main(ctx, *run, *dir, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) main(ctx context.Context, run, dir, profile string) error {
	want, err := regexp.Compile(run)
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if b.dir, err = os.MkdirTemp(dir, "kist-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.disk, err = fdatasync(filepath.Join(b.dir, "probe")); err != nil {
		return err
	}
	fmt.Printf("%s on %s/%s, %d cores; fdatasync of 4 KiB, p50: %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), show(b.disk))
	for _, s := range sections {
		if !want.MatchString(s.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", s.name, s.what)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		entries, err := os.ReadDir(b.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(b.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if b.missed > 0 {
		fmt.Printf("\n%d marks missed\n", b.missed)
	}
	return nil
}

// row prints a figure.
func row(what, figure string) { fmt.Printf("  %-58s %14s\n", what, figure) }

// mark prints a figure that has a mark to keep.
func (b *bench) mark(what, figure, mark string, kept bool) {
	verdict := "ok"
	if !kept {
		verdict = "MISSED"
		b.missed++
	}
	fmt.Printf("  %-58s %14s   %s: %s\n", what, figure, mark, verdict)
}

func show(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
