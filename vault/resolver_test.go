package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
)

// resolving makes devices of which the first two have written the record x at the
// same time, in a namespace that is settled by a resolver.
func resolving(t *testing.T, n int, resolver vault.Resolver, conf vault.Config) []*vault.Vault {
	t.Helper()
	p := newPerson(t)
	var vs []*vault.Vault
	for i := range n {
		conf.Now = later(i).now
		v := p.device(conf)
		byHand(v)
		vs = append(vs, v)
	}
	fatal(t, vs[0].Namespace("notes").SetStrategy(t.Context(), vault.StrategyResolver))
	put(t, vs[0], "x", "0")
	sync(t, vs...)
	put(t, vs[0], "x", "a")
	put(t, vs[1], "x", "b")
	sync(t, vs...)
	sync(t, vs...)
	for _, v := range vs {
		v.SetResolver("notes", resolver)
	}
	return vs
}

// later is a clock that stands at the hour i.
func later(i int) *manual {
	return &manual{time.Date(2026, 11, 20, i, 0, 0, 0, time.UTC)}
}

// resolve has a vault's resolvers answer what is due, and returns when the next
// is.
func resolve(t testing.TB, v *vault.Vault, now time.Time) time.Time {
	t.Helper()
	next, err := vault.ResolveDue(t.Context(), v, now)
	fatal(t, err)
	return next
}

func join(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
	values := []string{string(c.Versions[0].Value), string(c.Versions[1].Value)}
	return vault.Resolution{Value: []byte(fmt.Sprint(min(values[0], values[1]), max(values[0], values[1]), string(c.Ancestor.Value)))}, nil
}

// E32: the resolver is given all siblings and what they come from. The author of
// the newest answers at once, the others later, if there is still need.
func TestScenarioE32(t *testing.T) {
	now := later(1).t
	vs := resolving(t, 3, join, vault.Config{})
	a, b, c := vs[0], vs[1], vs[2]
	if next := resolve(t, a, now); next.Before(now.Add(59*time.Second)) || next.After(now.Add(time.Minute)) {
		t.Errorf("a, no author of the newest, answers at %v", next.Sub(now))
	}
	if got := look(t, a.Namespace("notes"), "x"); got != "b of 2" {
		t.Errorf("before it is due: %s", got)
	}
	resolve(t, b, now)
	if got := look(t, b.Namespace("notes"), "x"); got != "ab0 of 1" {
		t.Errorf("the author's answer: %s", got)
	}
	sync(t, b, a)
	if next := resolve(t, a, now.Add(time.Hour)); !next.IsZero() {
		t.Errorf("still something to answer at %v", next)
	}
	if r := sync(t, a); r.Pushed != 0 {
		t.Errorf("a pushed %d changes", r.Pushed)
	}
	// c was away, and answers the same: it is of no effect.
	resolve(t, c, now)
	resolve(t, c, now.Add(time.Hour))
	if got := look(t, c.Namespace("notes"), "x"); got != "ab0 of 1" {
		t.Errorf("c's answer: %s", got)
	}
	sync(t, c, a, b)
	for _, v := range vs {
		if got := look(t, v.Namespace("notes"), "x"); got != "ab0 of 1" {
			t.Errorf("in the end: %s", got)
		}
		sameDigest(t, a, v)
	}
	// The answer gives way to an edit that did not know of it: it adds none.
	put(t, a, "y", "0")
	sync(t, vs...)
	put(t, a, "y", "a")
	put(t, b, "y", "b")
	sync(t, a, b, a, c)
	put(t, c, "y", "c")
	resolve(t, b, now)
	sync(t, b, c, a, b)
	for _, v := range vs {
		if got := look(t, v.Namespace("notes"), "y"); got != "c of 1" {
			t.Errorf("an edit of all that was restated: %s", got)
		}
	}
}

// E32: resolvers on two devices that do not agree converge: one answer holds.
// The same where one of them removes the record, and where a third device has
// written meanwhile.
func TestScenarioE32Converge(t *testing.T) {
	now := later(2).t
	remove := func(context.Context, vault.Conflict) (vault.Resolution, error) {
		return vault.Resolution{Delete: true}, nil
	}
	keepShown := func(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
		return vault.Resolution{Keep: c.Versions[0]}, nil
	}
	longOne := func(context.Context, vault.Conflict) (vault.Resolution, error) {
		return vault.Resolution{Value: bytes.Repeat([]byte("long"), 20<<10)}, nil
	}
	for _, tt := range []struct {
		name string
		a, b vault.Resolver
		edit bool
	}{
		{"equal", join, join, false},
		{"unlike", join, keepShown, false},
		{"removed first", remove, join, false},
		{"removed second", join, remove, false},
		{"both remove", remove, remove, false},
		{"long", longOne, longOne, false},
		{"an edit meanwhile", keepShown, keepShown, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vs := resolving(t, 3, nil, vault.Config{})
			vs[0].SetResolver("notes", tt.a)
			vs[1].SetResolver("notes", tt.b)
			vs[2].SetResolver("notes", keepShown)
			if tt.edit {
				put(t, vs[2], "x", "c")
				sync(t, vs[2])
			}
			for _, v := range vs[:2] {
				resolve(t, v, now)
				resolve(t, v, now.Add(time.Hour))
			}
			for range 3 {
				sync(t, vs...)
				for _, v := range vs {
					resolve(t, v, now)
					resolve(t, v, now.Add(time.Hour))
				}
			}
			sync(t, vs...)
			for _, v := range vs {
				if got, want := look(t, v.Namespace("notes"), "x"), look(t, vs[0].Namespace("notes"), "x"); got != want {
					t.Errorf("%.20s, want %.20s", got, want)
				}
				if got := conflicts(t, v); len(got) > 0 {
					t.Errorf("left %q", got)
				}
				sameDigest(t, vs[0], v)
			}
		})
	}
}

// E32: a resolver that fails, panics, answers nonsense or does not come back
// leaves the siblings, is reported, and holds up no sync.
func TestScenarioE32Fails(t *testing.T) {
	now := later(1).t
	for name, resolver := range map[string]vault.Resolver{
		"error": func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{}, errors.New("no")
		},
		"panic": func(context.Context, vault.Conflict) (vault.Resolution, error) { panic("no") },
		"unlike": func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Delete: true, Value: []byte{}}, nil
		},
		"alien": func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Keep: &vault.Record{}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(chan vault.Conflict, 10)
			vs := resolving(t, 2, resolver, vault.Config{Conflict: func(c vault.Conflict) {
				if c.Err != nil {
					told <- c
				}
			}})
			next := resolve(t, vs[1], now)
			if next.IsZero() {
				t.Error("it is not asked again")
			}
			if c := <-told; !errors.Is(c.Err, vault.ErrResolver) || len(c.Versions) != 2 {
				t.Errorf("told of %v, %d versions", c.Err, len(c.Versions))
			}
			if got := look(t, vs[1].Namespace("notes"), "x"); got != "b of 2" {
				t.Errorf("the siblings: %s", got)
			}
			put(t, vs[1], "y", "1")
			sync(t, vs[1], vs[0])
			if got := look(t, vs[0].Namespace("notes"), "y"); got != "1 of 1" {
				t.Errorf("the sync: %s", got)
			}
			vs[1].SetResolver("notes", join)
			if at := resolve(t, vs[1], now); at.IsZero() {
				t.Error("it was asked again at once")
			}
			resolve(t, vs[1], next.Add(time.Second))
			if got := look(t, vs[1].Namespace("notes"), "x"); got != "ab0 of 1" {
				t.Errorf("asked again: %s", got)
			}
		})
	}
}

// A resolver that leaves the matter to a person is not asked again soon, and one
// whose question is out of date by the time it answers has said nothing.
func TestResolverLeavesOrIsLate(t *testing.T) {
	now := later(1).t
	calls := 0
	var during func()
	vs := resolving(t, 2, func(context.Context, vault.Conflict) (vault.Resolution, error) {
		calls++
		if during == nil {
			return vault.Resolution{}, nil
		}
		during()
		return vault.Resolution{Value: []byte("late")}, nil
	}, vault.Config{})
	resolve(t, vs[1], now)
	resolve(t, vs[1], now.Add(time.Hour))
	if calls != 1 {
		t.Errorf("asked %d times", calls)
	}
	put(t, vs[0], "x", "c") // another conflict: b does not know of it
	put(t, vs[1], "x", "d")
	sync(t, vs[0], vs[1], vs[0])
	during = func() { put(t, vs[1], "x", "e") }
	resolve(t, vs[1], now)
	if got := look(t, vs[1].Namespace("notes"), "x"); got != "e of 1" || calls != 2 {
		t.Errorf("%s, asked %d times", got, calls)
	}
}

// The vault asks by itself when a sync has come in step, and waits for a slow
// resolver no longer than it says.
func TestResolverRuns(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	fatal(t, a.Namespace("notes").SetStrategy(t.Context(), vault.StrategyResolver))
	put(t, a, "x", "0")
	sync(t, a, b)
	block := make(chan struct{})
	b.SetResolver("notes", func(ctx context.Context, c vault.Conflict) (vault.Resolution, error) {
		<-block
		return join(ctx, c)
	})
	put(t, a, "x", "a")
	put(t, b, "x", "b")
	sync(t, a, b) // it comes back although the resolver does not
	sub := b.Watch(t.Context(), "notes")
	close(block)
	for rec := range sub.C {
		if string(rec.Value) == "ab0" {
			break
		}
	}
	sync(t, b, a)
	if got := look(t, a.Namespace("notes"), "x"); got != "ab0 of 1" {
		t.Errorf("got %s", got)
	}
}

// Who is not the author waits for one to ten minutes.
func TestAnswerDue(t *testing.T) {
	now := time.Now()
	if got := vault.AnswerDue(now, true, nil); got != now {
		t.Errorf("the author answers after %v", got.Sub(now))
	}
	for _, part := range []float64{0, 0.5, 0.999} {
		got := vault.AnswerDue(now, false, func(n int64) int64 { return int64(part * float64(n)) }).Sub(now)
		if want := time.Minute + time.Duration(part*float64(9*time.Minute)); got < want-time.Second || got > want+time.Second {
			t.Errorf("another answers after %v, want %v", got, want)
		}
	}
}

// A resolver has ten seconds. One that does not come back is not called twice at
// a time.
func TestResolverTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		var calls atomic.Int32
		ask := vault.Ask(func(ctx context.Context, c vault.Conflict) (vault.Resolution, error) {
			calls.Add(1)
			<-block
			return vault.Resolution{}, nil
		})
		begin := time.Now()
		for range 2 {
			if _, err := ask(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(begin); took != 10*time.Second || calls.Load() != 1 {
			t.Errorf("took %v, called %d times", took, calls.Load())
		}
		close(block)
		synctest.Wait()
		if _, err := ask(t.Context()); err != nil || calls.Load() != 2 {
			t.Errorf("after it came back: %v, called %d times", err, calls.Load())
		}
	})
}
