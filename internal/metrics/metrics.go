// Package metrics writes numbers as Prometheus reads them: its text format, version
// 0.0.4. Who counts holds an atomic integer or a [Histogram], and says at each scrape
// what it has come to; there is no register, and a metric costs nothing but that.
package metrics

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType is that of what a [Writer] writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// A Histogram counts how often something took how long. It is safe for concurrent
// use.
type Histogram struct {
	bounds []time.Duration
	counts []atomic.Uint64 // one a bound, and one for what is above all
	sum    atomic.Int64    // ns
}

// NewHistogram returns a histogram with buckets up to these bounds, which ascend.
func NewHistogram(bounds ...time.Duration) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts one that took so long.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// A Writer gathers the answer to one scrape. The zero value is ready.
type Writer struct{ b bytes.Buffer }

// WriteTo writes what was gathered.
func (w *Writer) WriteTo(to io.Writer) (int64, error) { return w.b.WriteTo(to) }

// Gauge writes a value that goes up and down.
func (w *Writer) Gauge(name, help string, v float64) { w.Gauges(name, help).Add(v) }

// Counter writes a count that only goes up, but for restarts.
func (w *Writer) Counter(name, help string, n uint64) { w.Counters(name, help).Add(float64(n)) }

// Gauges begins values that differ in their labels.
func (w *Writer) Gauges(name, help string) Family { return w.family(name, help, "gauge") }

// Counters begins counts that differ in their labels.
func (w *Writer) Counters(name, help string) Family { return w.family(name, help, "counter") }

// Histogram writes how often something took how long, in seconds.
func (w *Writer) Histogram(name, help string, h *Histogram) {
	w.family(name, help, "histogram")
	bucket := Family{w, name + "_bucket"}
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
		le := "+Inf"
		if i < len(h.bounds) {
			le = number(h.bounds[i].Seconds())
		}
		bucket.Add(float64(n), "le", le)
	}
	Family{w, name + "_sum"}.Add(time.Duration(h.sum.Load()).Seconds())
	Family{w, name + "_count"}.Add(float64(n)) // that of the last bucket, whatever was counted meanwhile
}

// A Family is a metric of which each value has labels of its own.
type Family struct {
	w    *Writer
	name string
}

func (w *Writer) family(name, help, kind string) Family {
	w.b.WriteString("# HELP " + name + " " + escape.Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
	return Family{w, name}
}

// escape is for values of labels; in a help text no quotation marks are expected.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Add writes a value. Labels are name and value in turn.
func (f Family) Add(v float64, labels ...string) {
	b := &f.w.b
	b.WriteString(f.name)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + `="` + escape.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + number(v) + "\n")
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
