package vaulttest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// CheckResolver fails the test where a resolver is not what devices need in order
// to come to the same answer: a function of its argument alone. It calls r with
// each of the conflicts, again and again, at the same time, and with the siblings
// in other orders, and fails where answers differ, r panics, keeps what is none
// of the versions, or changes its argument. With the race detector it also finds
// state that calls share.
//
// The conflicts are such as the app may have: siblings that differ in value, type
// and times, two and more of them, with and without an ancestor. Without any, r
// is given some of arbitrary bytes, for which it may fail, but always or never.
func CheckResolver(t testing.TB, r vault.Resolver, conflicts ...vault.Conflict) {
	t.Helper()
	if len(conflicts) == 0 {
		conflicts = sampleConflicts()
	}
	for i, c := range conflicts {
		for _, problem := range checkResolver(t.Context(), r, c) {
			t.Errorf("conflict %d (%s/%s): the resolver %s", i, c.Namespace, c.Name, problem)
		}
	}
}

// sampleConflicts returns conflicts of two, three and five siblings.
func sampleConflicts() (out []vault.Conflict) {
	written := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	record := func(i int, value string) *vault.Record {
		r := &vault.Record{
			Namespace: "sample", Name: "record", Value: []byte(value), Size: int64(len(value)), Live: true,
			Time: written.Add(time.Duration(i) * time.Hour), Device: fmt.Sprintf("device %d", i),
		}
		r.Commit.Commit = 10
		r.Commit.Index = uint16(i)
		return r
	}
	values := []string{"b", "", "a", "{\"n\":1}", "\xff\x00"}
	for _, n := range []int{2, 3, 5} {
		c := vault.Conflict{Namespace: "sample", Name: "record"}
		for i := range n {
			c.Versions = append(c.Versions, record(i, values[i]))
		}
		out = append(out, c)
		c.Ancestor = record(9, "before")
		out = append(out, c)
	}
	return out
}

// An answer is what a resolver said, fit to be compared, and what was wrong with
// the call itself.
type answer struct{ said, problem string }

const (
	repeats = 3  // calls with the same argument, one after the other
	atOnce  = 4  // … and at the same time
	orders  = 24 // orders of the siblings, at most: all of four
)

// checkResolver returns what is wrong with a resolver, each problem once.
func checkResolver(ctx context.Context, r vault.Resolver, c vault.Conflict) (problems []string) {
	first := callResolver(ctx, r, clone(c, identity(len(c.Versions))))
	note := func(a answer, differs string) {
		if a.problem == "" && a.said != first.said {
			a.problem = fmt.Sprintf("%s: %s, and %s", differs, first.said, a.said)
		}
		if a.problem != "" && !slices.Contains(problems, a.problem) {
			problems = append(problems, a.problem)
		}
	}
	note(first, "")
	for range repeats {
		note(callResolver(ctx, r, clone(c, identity(len(c.Versions)))), "answers otherwise when it is asked again")
	}
	for _, order := range permutations(len(c.Versions), orders) {
		note(callResolver(ctx, r, clone(c, order)), "answers otherwise when the siblings come in another order")
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			a := callResolver(ctx, r, clone(c, identity(len(c.Versions))))
			mu.Lock()
			defer mu.Unlock()
			note(a, "answers otherwise when it is asked several times at once")
		})
	}
	wg.Wait()
	return problems
}

// callResolver calls a resolver once.
func callResolver(ctx context.Context, r vault.Resolver, c vault.Conflict) (a answer) {
	before := clone(c, identity(len(c.Versions)))
	records := slices.Clone(c.Versions)
	defer func() {
		if p := recover(); p != nil {
			a.problem = fmt.Sprintf("panics: %v", p)
		}
	}()
	res, err := r(ctx, c)
	if !reflect.DeepEqual(c, before) || !slices.Equal(records, c.Versions) {
		a.problem = "changes its argument"
		return a
	}
	given := 0
	for _, is := range []bool{res.Keep != nil, res.Delete, res.Value != nil} {
		if is {
			given++
		}
	}
	switch {
	case err != nil:
		a.said = "fails"
	case given > 1:
		a.problem = "gives more than one answer"
	case given == 0:
		a.said = "leaves it"
	case res.Delete:
		a.said = "removes it"
	case res.Keep != nil:
		k := res.Keep
		if !slices.ContainsFunc(append(records, c.Ancestor), func(r *vault.Record) bool { return r != nil && r.Commit == k.Commit }) {
			a.problem = "keeps what is none of the versions"
			return a
		}
		a.said = content(k.Value, k.ContentType, k.Expires, k.Available)
		if k.Value == nil { // a long one: it is what stands at its place
			a.said = fmt.Sprintf("keeps %v", k.Commit)
		}
	default:
		a.said = content(res.Value, res.ContentType, res.Expires, res.Available)
	}
	return a
}

// content describes what a record is to be: that one device keeps a version and
// another writes the same anew is the same answer.
func content(value []byte, contentType string, expires, available time.Time) string {
	return fmt.Sprintf("%q of type %q from %d to %d", value, contentType, unix(available), unix(expires))
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// clone returns a copy of a conflict that shares no memory with it, with the
// siblings in an order.
func clone(c vault.Conflict, order []int) vault.Conflict {
	record := func(r *vault.Record) *vault.Record {
		if r == nil {
			return nil
		}
		copied := *r
		copied.Value = bytes.Clone(r.Value)
		return &copied
	}
	out := c
	out.Versions = nil
	for _, i := range order {
		out.Versions = append(out.Versions, record(c.Versions[i]))
	}
	out.Ancestor = record(c.Ancestor)
	return out
}

func identity(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// permutations returns orders of n things, all of them up to a limit. Beyond it
// each thing has been the first and the last.
func permutations(n, limit int) (out [][]int) {
	for i := range n {
		turned := append(identity(n)[i:], identity(n)[:i]...)
		out = append(out, turned, reversed(turned))
	}
	var all func(head, rest []int)
	all = func(head, rest []int) {
		if len(out) >= max(limit, 2*n) {
			return
		}
		if len(rest) == 0 {
			out = append(out, slices.Clone(head))
		}
		for i, x := range rest {
			all(append(slices.Clone(head), x), slices.Delete(slices.Clone(rest), i, i+1))
		}
	}
	if n <= 4 {
		out = nil
	}
	all(nil, identity(n))
	return out
}

func reversed(order []int) []int {
	out := slices.Clone(order)
	slices.Reverse(out)
	return out
}
