package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/kistvault/kist/internal/metrics"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// Metrics answers Prometheus: how a server gets on. Nothing in it names a vault, a
// device or an address, or comes from what is stored.
type Metrics struct {
	data    *secondary.DataDir
	engine  engine.Engine
	server  *secondary.Server
	ready   func() error
	version string
	log     *slog.Logger

	began   time.Time
	commits *metrics.Histogram
}

// NewMetrics begins to measure. ready says why the server should not be sent work, nil
// if it should; version is the program's.
func NewMetrics(data *secondary.DataDir, e engine.Engine, server *secondary.Server, ready func() error, version string, log *slog.Logger) *Metrics {
	m := &Metrics{data: data, engine: e, server: server, ready: ready, version: version, log: log, began: time.Now()}
	var bounds []time.Duration // doubling: disks take from 0.1 ms to seconds
	for d := 125 * time.Microsecond; d < 10*time.Second; d *= 2 {
		bounds = append(bounds, d)
	}
	m.commits = metrics.NewHistogram(bounds...)
	if e, ok := e.(engine.Watched); ok {
		e.Observe(m.commits.Observe)
	}
	return m
}

// ServeHTTP writes all metrics. What cannot be had is left out, and logged at level
// debug.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var out metrics.Writer
	m.server.WriteMetrics(&out)
	m.store(r.Context(), &out)
	m.program(&out)
	w.Header().Set("Content-Type", metrics.ContentType)
	_, _ = out.WriteTo(w) // who asked has left
}

// store writes how the store gets on.
func (m *Metrics) store(ctx context.Context, w *metrics.Writer) {
	if e, ok := m.engine.(engine.Watched); ok {
		w.Histogram("kistd_store_commit_seconds", "Time that making a transaction durable took, from its last write to the end of its fsync.", m.commits)
		w.Gauge("kistd_store_waiting", "Calls that wait for the transaction under way, to write in the next.", float64(e.Waiting()))
	}
	lacks := func(what string, err error) bool {
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			m.log.Debug("not measured", "what", what, "err", err)
		}
		return err != nil
	}
	if n, err := m.engine.Vaults(ctx); !lacks("vaults", err) {
		w.Gauge("kistd_vaults", "Vaults that there are.", float64(n))
	}
	if info, err := os.Stat(filepath.Join(m.data.Path(), embedded.StoreFile)); !lacks("store", err) {
		w.Gauge("kistd_store_bytes", "Size of the store's file, without objects.", float64(info.Size()))
	}
	if free, err := m.data.Free(); !lacks("disk", err) {
		w.Gauge("kistd_disk_free_bytes", "Bytes that are free on the data directory's disk.", float64(free))
	}
	ready := 0.0
	if m.ready() == nil {
		ready = 1
	}
	w.Gauge("kistd_ready", "1 where the server should be sent work, as /readyz says.", ready)
}

// program writes how the program itself gets on. Its names are those that other
// programs in Go have, too.
func (m *Metrics) program(w *metrics.Writer) {
	w.Gauges("kistd_build_info", "The program's version; always 1.").Add(1, "version", m.version, "goversion", runtime.Version())
	w.Gauge("process_start_time_seconds", "When the program began, Unix time.", float64(m.began.UnixMilli())/1000)
	samples := []runtimemetrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	runtimemetrics.Read(samples)
	w.Gauge("go_goroutines", "Goroutines.", float64(samples[0].Value.Uint64()))
	w.Gauge("go_memstats_heap_alloc_bytes", "Bytes of objects on the heap, those that are dead and not collected yet included.", float64(samples[1].Value.Uint64()))
	w.Gauge("go_memstats_sys_bytes", "Bytes that the Go runtime has from the system.", float64(samples[2].Value.Uint64()))
	w.Counter("go_gc_cycles_total", "Garbage collections.", samples[3].Value.Uint64())

	// Linux tells the rest; elsewhere it is left out.
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if pages, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				w.Gauge("process_resident_memory_bytes", "Memory that the process has, what is mapped of the store included.", float64(pages)*float64(os.Getpagesize()))
			}
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		w.Gauge("process_open_fds", "Files and connections that are open.", float64(len(open)-1)) // but for the one that lists them
	}
}
