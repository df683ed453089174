package vault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keep returns the plan with only these of its events, and without the devices
// after the last that has any.
func (p *simPlan) keep(kept []int) *simPlan {
	q := *p
	q.events = make([]simEvent, len(kept))
	last := 0
	for i, k := range kept {
		q.events[i] = p.events[k]
		last = max(last, q.events[i].dev)
	}
	q.devices = p.devices[:last+1]
	return &q
}

// shrink looks, until a time, for as few events as possible that fail in the
// same way.
func shrink(t *testing.T, plan *simPlan, f *simFailure, dir string, until time.Time) ([]int, *simFailure) {
	kept := make([]int, len(plan.events))
	for i := range kept {
		kept[i] = i
	}
	if f.event < len(kept) {
		kept = kept[:f.event+1]
	}
	fails := func(try []int) bool {
		g := simulate(t, plan.keep(try), dir, nil)
		if g == nil || g.kind != f.kind {
			return false
		}
		kept, f = try[:min(len(try), g.event+1)], g
		return true
	}
	// All of one device, all of one kind, all writes to one namespace, then ever
	// smaller pieces.
	for d := range plan.devices {
		fails(slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return plan.events[i].dev == d }))
	}
	for k := range simKinds {
		fails(slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return plan.events[i].kind == k }))
	}
	for n := range simNamespaces {
		fails(slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return len(plan.events[i].ops) > 0 && plan.events[i].ns == n }))
	}
	for size := len(kept) / 2; size > 0 && time.Now().Before(until); size = min(size, len(kept)) {
		smaller := false
		for from := len(kept); from > 0 && time.Now().Before(until); {
			from = max(0, min(from, len(kept))-size)
			smaller = fails(slices.Delete(slices.Clone(kept), from, min(from+size, len(kept)))) || smaller
		}
		if size > 1 {
			size /= 2
		} else if !smaller {
			break
		}
	}
	return kept, f
}

// formatKept writes a list of events, such as "3,7-12".
func formatKept(kept []int) string {
	var parts []string
	for i := 0; i < len(kept); {
		j := i
		for j+1 < len(kept) && kept[j+1] == kept[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(kept[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", kept[i], kept[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func parseKept(t *testing.T, s string) (kept []int) {
	t.Helper()
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, "-")
		if !isRange {
			b = a
		}
		from, err := strconv.Atoi(a)
		if err != nil {
			t.Fatal(err)
		}
		to, err := strconv.Atoi(b)
		if err != nil {
			t.Fatal(err)
		}
		for ; from <= to; from++ {
			kept = append(kept, from)
		}
	}
	return kept
}
