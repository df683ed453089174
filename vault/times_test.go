package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

// A9: times in the past and in the future, set anew before a sync; List, Get,
// Watch and Status agree on every device, and an expiry alone makes no commit.
func TestScenarioA9(t *testing.T) {
	ctx := t.Context()
	clock := &manual{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	start := clock.t
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: clock.now}), p.device(vault.Config{Now: clock.now})
	n := a.Namespace("notes")
	hour := func(h int) time.Time { return start.Add(time.Duration(h) * time.Hour) }
	for _, w := range []struct {
		name string
		opts []vault.Option
	}{
		{"always", nil},
		{"past", []vault.Option{vault.Expires(hour(-1))}},
		{"short", []vault.Option{vault.Expires(hour(1))}},
		{"late", []vault.Option{vault.Available(hour(1))}},
		{"was late", []vault.Option{vault.Available(hour(-1))}},
		{"window", []vault.Option{vault.Available(hour(1)), vault.Expires(hour(3))}},
		{"never", []vault.Option{vault.Available(hour(3)), vault.Expires(hour(1))}},
		{"reset", []vault.Option{vault.Expires(hour(1))}},
		{"reset", nil},
		{"set", nil},
		{"set", []vault.Option{vault.Expires(hour(1))}},
		{"moved", []vault.Option{vault.Expires(hour(1))}},
		{"moved", []vault.Option{vault.Expires(hour(3))}},
	} {
		_, err := n.Put(ctx, w.name, []byte(w.name), w.opts...)
		fatal(t, err)
	}
	check := func(h int, want ...string) {
		t.Helper()
		clock.t = hour(h)
		slices.Sort(want)
		for i, v := range []*vault.Vault{a, b} {
			if got := names(t, v.Namespace("notes")); !slices.Equal(got, want) {
				t.Errorf("hour %d, device %d: listed %q, want %q", h, i, got, want)
			}
			st, err := v.Status(ctx)
			fatal(t, err)
			if st.Records != len(want) || st.Namespaces[0].Records != len(want) {
				t.Errorf("hour %d, device %d: counted %d, want %d", h, i, st.Records, len(want))
			}
			for _, name := range []string{"always", "past", "short", "late", "was late", "window", "never", "reset", "set", "moved"} {
				_, err := v.Namespace("notes").Get(ctx, name)
				if is := err == nil; is != slices.Contains(want, name) {
					t.Errorf("hour %d, device %d: get of %s: %v", h, i, name, err)
				}
			}
			// A new watcher sees the same.
			ctx, cancel := context.WithCancel(ctx)
			sub := v.Watch(ctx, "notes", vault.Since(0))
			var seen []string
			for range 10 {
				if rec := <-sub.C; !rec.Deleted {
					seen = append(seen, rec.Name)
				}
			}
			slices.Sort(seen)
			if !slices.Equal(seen, want) {
				t.Errorf("hour %d, device %d: watched %q, want %q", h, i, seen, want)
			}
			cancel()
			if err := sub.Err(); !errors.Is(err, context.Canceled) { // it looks at the clock until then
				t.Errorf("watch: %v", err)
			}
		}
	}
	sync(t, a, b)
	commits := sync(t, a).Commits
	check(0, "always", "short", "was late", "reset", "set", "moved")
	check(2, "always", "late", "was late", "window", "reset", "moved")
	check(4, "always", "late", "was late", "reset")
	if r := sync(t, a, b); r.Commits != commits || r.Pushed != 0 {
		t.Errorf("expiry made commits: %d, there were %d", r.Commits, commits)
	}
	sameDigest(t, a, b)
	// An expired record is absent, and a new one takes its place.
	_, err := b.Namespace("notes").Put(ctx, "short", []byte("new"), vault.IfAbsent())
	fatal(t, err)
	_, err = b.Namespace("notes").Put(ctx, "always", nil, vault.IfAbsent())
	if !errors.Is(err, vault.ErrCondition) {
		t.Errorf("if absent: %v", err)
	}
	sync(t, b, a)
	check(4, "always", "late", "was late", "reset", "short")
}

// Watch tells when a record expires or becomes available: once, in order, and
// not what was written anew before.
func TestWatchTellsTimes(t *testing.T) {
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v, err := vault.Open(ctx, dir, vault.Config{})
		fatal(t, err)
		defer v.Close()
		n := v.Namespace("notes")
		start := time.Now()
		put := func(name string, opts ...vault.Option) {
			t.Helper()
			_, err := n.Put(ctx, name, nil, opts...)
			fatal(t, err)
		}
		put("before", vault.Expires(start.Add(30*time.Minute)))
		put("other", vault.Expires(start.Add(time.Hour)))
		sub := v.Watch(ctx, "notes")
		put("c", vault.Expires(start.Add(3*time.Hour)))
		put("a", vault.Available(start.Add(time.Hour)), vault.Expires(start.Add(2*time.Hour)))
		put("anew", vault.Expires(start.Add(time.Hour)))
		put("anew")
		synctest.Wait()
		var got []string
		for len(got) < 9 {
			rec := <-sub.C
			state := "there"
			if rec.Deleted {
				state = "gone"
			}
			line := fmt.Sprintf("%v %s %s", time.Since(start).Round(time.Second), rec.Name, state)
			if n := len(got); n > 0 && got[n-1] == line {
				continue // it was read between the two puts of one record
			}
			got = append(got, line)
			if len(got) == 6 {
				put("written", vault.Expires(start.Add(150*time.Minute)))
			}
		}
		want := []string{
			"0s c there", "0s a gone", "0s anew there", "30m0s before gone", "1h0m0s a there", "1h0m0s other gone",
			"1h0m0s written there", "2h0m0s a gone", "2h30m0s written gone",
		}
		slices.SortFunc(got[4:6], func(a, b string) int { return len(a) - len(b) })
		if !slices.Equal(got, want) {
			t.Errorf("told\n%q, want\n%q", got, want)
		}
		if rec := <-sub.C; rec.Name != "c" || !rec.Deleted || time.Since(start).Round(time.Second) != 3*time.Hour {
			t.Errorf("at last: %+v after %v", rec, time.Since(start))
		}
		cancel()
		for range sub.C {
		}
	})
}

// More moments than a subscription holds are told all the same.
func TestWatchTellsManyTimes(t *testing.T) {
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v, err := vault.Open(ctx, dir, vault.Config{NoSync: true})
		fatal(t, err)
		defer v.Close()
		const many = 5000
		start := time.Now()
		err = v.Update(ctx, "notes", func(tx *vault.Tx) error {
			for i := range many {
				at := start.Add(time.Hour + time.Duration(i*7%many)*time.Second)
				if _, err := tx.Put(fmt.Sprint(i*7%many), nil, vault.Expires(at)); err != nil {
					return err
				}
			}
			return nil
		})
		fatal(t, err)
		sub := v.Watch(ctx, "")
		for i := range many {
			rec := <-sub.C
			if want := start.Add(time.Hour + time.Duration(i)*time.Second); rec.Name != fmt.Sprint(i) || !rec.Deleted || time.Until(want).Abs() > time.Second {
				t.Fatalf("%d: %q at %v", i, rec.Name, time.Since(start))
			}
		}
		cancel()
		for range sub.C {
		}
	})
}

// E33: a device ten years ahead does not win for ever and infects no clock; one
// that is two days behind sees the same state as all others.
func TestScenarioE33(t *testing.T) {
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	ctx := t.Context()
	p := newPerson(t)
	ahead := p.device(vault.Config{Now: (&manual{day.AddDate(10, 0, 0)}).now})
	right := p.device(vault.Config{Now: (&manual{day}).now})
	behind := p.device(vault.Config{Now: (&manual{day.AddDate(0, 0, -2)}).now})
	vs := []*vault.Vault{ahead, right, behind}
	put(t, ahead, "x", "ahead")
	sync(t, vs...)
	for _, v := range []*vault.Vault{right, behind} {
		put(t, v, "x", "seen") // whoever has seen it supersedes it
		put(t, v, "y", "own")
		sync(t, vs...)
		sync(t, vs...)
		for i, w := range vs {
			if got := look(t, w.Namespace("notes"), "x"); got != "seen of 1" {
				t.Errorf("device %d: %s", i, got)
			}
		}
	}
	// Other records keep the time of their writers.
	rec, err := ahead.Namespace("notes").Get(ctx, "y")
	fatal(t, err)
	if want := day; rec.Time.Before(want.AddDate(0, 0, -3)) || rec.Time.After(want.AddDate(0, 0, 1)) {
		t.Errorf("y was written %v", rec.Time)
	}
	// Concurrent: the clock decides, the same everywhere, until somebody has seen it.
	put(t, ahead, "z", "far")
	put(t, behind, "z", "past")
	put(t, right, "z", "now")
	for range 2 {
		sync(t, behind, ahead, right)
	}
	for i, v := range vs {
		if got := look(t, v.Namespace("notes"), "z"); got != "far of 3" {
			t.Errorf("device %d: %s", i, got)
		}
		sameDigest(t, ahead, v)
	}
	put(t, behind, "z", "settled")
	sync(t, behind, ahead, right)
	for i, v := range vs {
		if got := look(t, v.Namespace("notes"), "z"); got != "settled of 1" {
			t.Errorf("device %d: %s", i, got)
		}
	}
}

// E35: the same key is created on two and on three devices: identical everywhere
// over two full cycles, and stays so.
func TestScenarioE35(t *testing.T) {
	p := newPerson(t)
	told := make(chan vault.Conflict, 16)
	vs := []*vault.Vault{p.device(vault.Config{Now: later(0).now, Conflict: func(c vault.Conflict) { told <- c }})}
	for i := range 2 {
		vs = append(vs, p.device(vault.Config{Now: later(i + 1).now}))
	}
	for i, v := range vs {
		if i < 2 {
			put(t, v, "two", fmt.Sprint(i))
		}
		put(t, v, "three", fmt.Sprint(i))
		sync(t, v)
	}
	for range 2 {
		r := sync(t, vs...)
		if r.Pushed != 0 {
			t.Errorf("pushed %d", r.Pushed)
		}
		for i, v := range vs {
			for name, want := range map[string]int{"two": 2, "three": 3} {
				got := look(t, v.Namespace("notes"), name)
				if first := look(t, vs[0].Namespace("notes"), name); got != first || got != fmt.Sprintf("%d of %d", want-1, want) {
					t.Errorf("%s on device %d: %s, on device 0 %s", name, i, got, first)
				}
				if h := history(t, v.Namespace("notes"), name); len(h) != want {
					t.Errorf("%s on device %d: %d versions in the history", name, i, len(h))
				}
			}
			if got := conflicts(t, v); !slices.Equal(got, conflicts(t, vs[0])) || len(got) != 2 {
				t.Errorf("device %d: conflicts %q", i, got)
			}
			sameDigest(t, vs[0], v)
		}
	}
	for range 2 { // one record each, whatever came of it in between
		if c := <-told; c.Ancestor != nil {
			t.Errorf("%s has an ancestor", c.Name)
		}
	}
}
