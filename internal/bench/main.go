// Command bench measures the whole path on this machine: a device fills its
// vault, sends it to a secondary over loopback, and another device restores it.
// It prints one line a measure, and the disk's own fdatasync time, since most
// figures follow it.
//
//	go run ./internal/bench -records 100000
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func main() {
	records := flag.Int("records", 10_000, "records of 24-byte name and 200-byte value")
	single := flag.Int("single", 500, "puts made one by one")
	dir := flag.String("dir", "", "where to put the files; empty: a temporary directory")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	if err := run(*records, *single, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if *profile == "" { // otherwise the profile is to be finished
			os.Exit(1)
		}
	}
}

func run(records, single int, dir string) error {
	if dir == "" {
		d, err := os.MkdirTemp("", "kist-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		dir = d
	}
	ctx := context.Background()
	p50, err := fdatasync(filepath.Join(dir, "probe"))
	if err != nil {
		return err
	}
	fmt.Printf("%d cores, fdatasync p50 %v\n", runtime.GOMAXPROCS(0), p50.Round(time.Microsecond))

	s, err := startServer(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer s.stop()
	root := keys.GenerateRoot()
	token := s.invite.Token

	a, err := s.device(ctx, root, filepath.Join(dir, "a"), &token, nil)
	if err != nil {
		return err
	}
	defer a.Close()

	start := time.Now()
	for i := range single {
		if _, err := a.Namespace("single").Put(ctx, name(i), value(i)); err != nil {
			return err
		}
	}
	rate("put, one by one", single, time.Since(start))

	start = time.Now()
	for i := 0; i < records; i += 1000 {
		err := a.Update(ctx, "bench", func(tx *vault.Tx) error {
			for j := i; j < min(i+1000, records); j++ {
				if _, err := tx.Put(name(j), value(j)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	rate("put, 1,000 a transaction", records, time.Since(start))
	runtime.GC()

	peak := watchMemory()
	start = time.Now()
	r, err := a.Sync(ctx, vault.SyncOptions{})
	if err != nil {
		return err
	}
	rate("upload (signed, stored, acknowledged, verified)", r.Pushed, time.Since(start))
	fmt.Printf("%-48s %12.1f bytes out, %.1f in a record\n", "", float64(r.BytesOut)/float64(r.Pushed), float64(r.BytesIn)/float64(r.Pushed))
	fmt.Printf("%-48s %12.1f MiB in both roles\n", "peak RssAnon in upload", float64(peak())/(1<<20))

	total := records + single
	runtime.GC()
	peak = watchMemory()
	start = time.Now()
	var report *vault.Report
	b, err := s.device(ctx, root, filepath.Join(dir, "b"), nil, &report)
	if err != nil {
		return err
	}
	defer b.Close()
	rate("restore (pulled, verified, indexed, durable)", total, time.Since(start))
	fmt.Printf("%-48s %12.1f bytes in a record\n", "", float64(report.BytesIn)/float64(total))
	fmt.Printf("%-48s %12.1f MiB in both roles\n", "peak RssAnon in restore", float64(peak())/(1<<20))

	start = time.Now()
	n := 0
	for _, err := range b.Namespace("bench").List(ctx) {
		if err != nil {
			return err
		}
		n++
	}
	rate("list with values", n, time.Since(start))
	if _, err := a.Sync(ctx, vault.SyncOptions{}); err != nil {
		return err
	}
	da, _, err := a.Digest(ctx)
	if err != nil {
		return err
	}
	start = time.Now()
	db, _, err := b.Digest(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%-48s %12v, equal: %v\n", "digest", time.Since(start).Round(time.Millisecond), da == db)
	for _, d := range []string{"a", "b", "secondary"} {
		size, err := diskUse(filepath.Join(dir, d))
		if err != nil {
			return err
		}
		fmt.Printf("%-48s %12.1f bytes a record\n", "on disk, "+d, float64(size)/float64(total))
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("record-%017d", i) }

func value(i int) []byte { return fmt.Appendf(nil, "%0200d", i) }

func rate(what string, n int, d time.Duration) {
	fmt.Printf("%-48s %12.0f/s  (%d in %v)\n", what, float64(n)/d.Seconds(), n, d.Round(time.Millisecond))
}

type server struct {
	invite wire.Invite
	stop   func()
}

func startServer(dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	e, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		return nil, err
	}
	key := keys.GenerateSigningKey()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv, err := secondary.New(secondary.Config{Engine: e, Key: key})
	if err != nil {
		return nil, err
	}
	h := &http.Server{Handler: srv}
	go h.Serve(ln)
	invite, err := secondary.NewInvite(context.Background(), e, key.Public(), secondary.Address{URL: "ws://" + ln.Addr().String() + "/"}, time.Now())
	return &server{invite: invite, stop: func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(ctx)
		h.Close()
		e.Close()
	}}, err
}

// device makes a device and enrols it, which pulls all there is.
func (s *server) device(ctx context.Context, root keys.Root, dir string, token *wire.Token, report **vault.Report) (*vault.Vault, error) {
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	if err != nil {
		return nil, err
	}
	d := &keyfile.Device{
		Vault: root.VaultID(), ID: k.ID(), Seed: seed, Authority: root.Authority().Public(),
		TagSecret: root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: root.Epoch(1)}},
		Servers: []keyfile.Server{{URL: s.invite.URL, Key: s.invite.Server, Binding: keyfile.BindingNone}},
	}
	if err := vault.Create(dir, d, filepath.Base(dir)); err != nil {
		return nil, err
	}
	v, err := vault.Open(ctx, dir, vault.Config{})
	if err != nil {
		return nil, err
	}
	r, err := v.Enrol(ctx, root.Authority(), token, vault.SyncOptions{})
	if report != nil {
		*report = r
	}
	return v, err
}

// watchMemory samples this process's anonymous memory, and returns what stops
// it and gives the highest sample in bytes; 0 where the system does not tell.
func watchMemory() (stop func() int64) {
	var peak atomic.Int64
	done := make(chan struct{})
	go func() {
		for {
			peak.Store(max(peak.Load(), rssAnon()))
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(done); return peak.Load() }
}

func rssAnon() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// fdatasync returns the median time of an append with fsync.
func fdatasync(path string) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	times := make([]time.Duration, 200)
	for i := range times {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func diskUse(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			fi, ierr := d.Info()
			if ierr != nil {
				return ierr
			}
			total += fi.Size()
		}
		return err
	})
	return total, err
}
