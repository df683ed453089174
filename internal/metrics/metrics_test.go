package metrics_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/metrics"
)

func TestText(t *testing.T) {
	h := metrics.NewHistogram(time.Millisecond, time.Second)
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 3 * time.Second} {
		h.Observe(d)
	}
	var w metrics.Writer
	w.Counter("a_total", "how many", 3)
	f := w.Gauges("b", "a \\ and\na line")
	f.Add(1.5, "x", `"\`, "y", "2\n")
	f.Add(1<<40, "x", "")
	w.Histogram("c_seconds", "how long", h)
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	const want = `# HELP a_total how many
# TYPE a_total counter
a_total 3
# HELP b a \\ and\na line
# TYPE b gauge
b{x="\"\\",y="2\n"} 1.5
b{x=""} 1.099511627776e+12
# HELP c_seconds how long
# TYPE c_seconds histogram
c_seconds_bucket{le="0.001"} 2
c_seconds_bucket{le="1"} 3
c_seconds_bucket{le="+Inf"} 4
c_seconds_sum 3.002000001
c_seconds_count 4
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}
