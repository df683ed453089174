package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

var strategies = []vault.Strategy{vault.StrategyTimestamp, vault.StrategyFirst, vault.StrategyLast, vault.StrategyResolver}

// byHand is a vault whose resolvers run when the test says so.
func byHand(vs ...*vault.Vault) {
	for _, v := range vs {
		vault.ByHand(v, func(n int64) int64 { return 0 })
	}
}

// look describes what a device shows of a record: its value, and how many
// versions there are.
func look(t testing.TB, n *vault.Namespace, name string) string {
	t.Helper()
	rec, err := n.Get(t.Context(), name)
	if errors.Is(err, vault.ErrNotFound) {
		return "-"
	}
	fatal(t, err)
	return fmt.Sprintf("%s of %d", rec.Value, rec.Siblings+1)
}

// conflicts lists the records of a vault that have a conflict.
func conflicts(t testing.TB, v *vault.Vault) (out []string) {
	t.Helper()
	for c, err := range v.Conflicts(t.Context()) {
		fatal(t, err)
		text := c.Namespace + "/" + c.Name + ":"
		for _, r := range c.Versions {
			text += " " + describe(r)
		}
		if c.Ancestor != nil {
			text += " from " + describe(c.Ancestor)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func describe(r *vault.Record) string {
	text := string(r.Value)
	if r.Deleted {
		text = "removed"
	}
	if r.Pending {
		text += "(pending)"
	}
	return text
}

// E29, E35: each kind of conflict, with each strategy, between three and five
// devices, in several orders of syncing: all devices come to the same state,
// and it is the one that the strategy says.
func TestScenarioE29(t *testing.T) {
	// What each device does to a record: u update, d delete, c create, . nothing.
	// In records that begin with c, there is nothing before.
	kinds := []string{"uu.", "ud.", "du.", "dd.", "cc.", "uuu", "udu", "dud", "ddu", "ddd", "ccc", "u.u", "c.c"}
	five := []string{"uuuuu", "ududu", "ddddd", "ccccc", "du.u.", "uddd.", "c...c", ".uuu."}
	for _, tt := range []struct {
		kinds  []string
		orders [][]int
	}{
		{kinds, [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}}},
		{five, [][]int{{4, 2, 0, 1, 3}, {0, 1, 2, 3, 4}}},
	} {
		for _, order := range tt.orders {
			t.Run(fmt.Sprint(order), func(t *testing.T) { allKinds(t, tt.kinds, order) })
		}
	}
}

func allKinds(t *testing.T, kinds []string, order []int) {
	t.Parallel()
	ctx := t.Context()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	p := newPerson(t)
	var vs []*vault.Vault
	var clocks []*manual
	for i := range order {
		clocks = append(clocks, &manual{day})
		vs = append(vs, p.device(vault.Config{Now: clocks[i].now}))
	}
	byHand(vs...)
	for _, st := range strategies {
		n := vs[0].Namespace(st.String())
		fatal(t, n.SetStrategy(ctx, st))
		for _, kind := range kinds {
			if kind[0] != 'c' {
				_, err := n.Put(ctx, kind, []byte("0"))
				fatal(t, err)
			}
		}
		for _, v := range vs {
			v.SetResolver(st.String(), greatest)
		}
	}
	sync(t, vs...)
	for i, v := range vs {
		// The later the device, the later its clock, but for the last one.
		clocks[i].t = day.Add(time.Duration(1+(i+1)%len(vs)) * time.Hour)
		for _, st := range strategies {
			n := v.Namespace(st.String())
			for _, kind := range kinds {
				switch kind[i] {
				case 'u', 'c':
					_, err := n.Put(ctx, kind, []byte{'a' + byte(i)})
					fatal(t, err)
				case 'd':
					fatal(t, n.Delete(ctx, kind))
				}
			}
		}
	}
	for range 2 {
		for _, i := range order {
			sync(t, vs[i])
		}
	}
	for _, v := range vs[1:] {
		sameDigest(t, vs[0], v)
	}
	check := func(st vault.Strategy, want func(kind string, left int) string) {
		t.Helper()
		for _, kind := range kinds {
			left := strings.Count(kind, "u") + strings.Count(kind, "c")
			for i, v := range vs {
				if got := look(t, v.Namespace(st.String()), kind); left == 0 && got != "-" || left > 0 && got != want(kind, left) {
					t.Errorf("%v, %s, device %d: %s, want %s", st, kind, i, got, want(kind, left))
				}
			}
		}
	}
	// pick returns the value of the device that is the best, of those that wrote.
	pick := func(kind string, better func(i, j int) bool) int {
		best := -1
		for i := range kind {
			if (kind[i] == 'u' || kind[i] == 'c') && (best < 0 || better(i, best)) {
				best = i
			}
		}
		return best
	}
	latest := func(i, j int) bool { return clocks[i].t.After(clocks[j].t) }
	for st, better := range map[vault.Strategy]func(i, j int) bool{
		vault.StrategyTimestamp: latest,
		vault.StrategyResolver:  latest, // nobody was asked yet
		vault.StrategyFirst:     func(i, j int) bool { return slices.Index(order, i) < slices.Index(order, j) },
		vault.StrategyLast:      func(i, j int) bool { return slices.Index(order, i) > slices.Index(order, j) },
	} {
		check(st, func(kind string, left int) string {
			return fmt.Sprintf("%c of %d", 'a'+pick(kind, better), left)
		})
	}
	for _, v := range vs[1:] {
		if got, want := conflicts(t, v), conflicts(t, vs[0]); !slices.Equal(got, want) {
			t.Errorf("conflicts:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}

	// The authors answer, and then there is one version everywhere.
	for _, v := range vs {
		_, err := vault.ResolveDue(ctx, v, day.AddDate(0, 0, 1))
		fatal(t, err)
	}
	sync(t, vs...)
	sync(t, vs...)
	check(vault.StrategyResolver, func(kind string, left int) string {
		return fmt.Sprintf("%c of 1", 'a'+pick(kind, func(i, j int) bool { return i > j }))
	})
	for _, v := range vs[1:] {
		sameDigest(t, vs[0], v)
	}
}

// greatest keeps the greatest value.
func greatest(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
	best := c.Versions[0]
	for _, r := range c.Versions {
		if string(r.Value) > string(best.Value) {
			best = r
		}
	}
	return vault.Resolution{Keep: best}, nil
}

// E30: a pending local change and a pulled one, each not knowing of the other,
// are both reported, with device and time, to a listener.
func TestScenarioE30(t *testing.T) {
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ name, mine, theirs, want string }{
		{"both edit", "m", "t", "m(pending) t from 0"},
		{"mine removes", "", "t", "t removed(pending)"},
		{"theirs removes", "m", "", "m(pending) removed"},
		{"both remove", "", "", ""},
		{"both write the same", "=", "=", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			p := newPerson(t)
			told := make(chan vault.Conflict, 10)
			ca, cb := &manual{day.Add(time.Hour)}, &manual{day}
			a := p.device(vault.Config{Now: ca.now, Conflict: func(c vault.Conflict) { told <- c }})
			b := p.device(vault.Config{Now: cb.now})
			put(t, a, "x", "0")
			sync(t, a, b)
			ca.t, cb.t = day.Add(3*time.Hour), day.Add(2*time.Hour)
			for v, value := range map[*vault.Vault]string{a: tt.mine, b: tt.theirs} {
				if value == "" {
					fatal(t, v.Namespace("notes").Delete(ctx, "x"))
				} else {
					put(t, v, "x", value)
				}
			}
			sync(t, b)
			r, err := a.Sync(ctx, vault.SyncOptions{Mode: vault.PullOnly})
			fatal(t, err)
			if tt.want == "" {
				if r.Conflicts != 0 {
					t.Errorf("%d conflicts reported", r.Conflicts)
				}
				put(t, a, "other", "mine")
				sync(t, a, b)
				put(t, b, "other", "1")
				put(t, a, "other", "2")
				sync(t, b, a)
				if c := <-told; c.Name != "other" {
					t.Errorf("told of %q", c.Name)
				}
				return
			}
			if r.Conflicts != 1 {
				t.Errorf("%d conflicts reported, want 1", r.Conflicts)
			}
			c := <-told
			var got []string
			for _, r := range c.Versions {
				got = append(got, describe(r))
				wantDevice, wantTime := "device 2", cb.t
				if r.Pending {
					wantDevice, wantTime = "device 1", ca.t
				}
				if r.Device != wantDevice || r.Time.UnixMilli() != wantTime.UnixMilli() {
					t.Errorf("%s: by %s at %v", describe(r), r.Device, r.Time)
				}
			}
			text := strings.Join(got, " ")
			if c.Ancestor != nil {
				text += " from " + describe(c.Ancestor)
			}
			if want, _, _ := strings.Cut(tt.want, " from "); !strings.HasPrefix(text, want) || c.Namespace != "notes" || c.Name != "x" {
				t.Errorf("told %s/%s: %s, want %s", c.Namespace, c.Name, text, tt.want)
			}
			// The other device is told in words of its own.
			if r := sync(t, a); r.Conflicts != 0 {
				t.Errorf("the own commit raised %d conflicts", r.Conflicts)
			}
			r, err = b.Sync(ctx, vault.SyncOptions{})
			fatal(t, err)
			if r.Conflicts != 1 {
				t.Errorf("the other device saw %d conflicts, want 1", r.Conflicts)
			}
			sameDigest(t, a, b)
		})
	}
}

// E30: a listener that panics is told of the next; one that blocks holds up
// nothing, and what it was not told it is told after the next start.
func TestScenarioE30Listener(t *testing.T) {
	p := newPerson(t)
	dir := t.TempDir() + "/v"
	told, block := make(chan string), make(chan struct{})
	a, _ := p.deviceIn(dir, vault.Config{})
	b := p.device(vault.Config{})
	fatal(t, a.Close())
	clash := func(a *vault.Vault, name string) {
		put(t, a, name, "a")
		put(t, b, name, "b")
		sync(t, b, a)
	}
	a = openVault(t, dir, vault.Config{Conflict: func(c vault.Conflict) {
		told <- c.Name
		panic(c.Name)
	}})
	// until waits until the listener has been told of all these.
	until := func(names ...string) {
		for len(names) > 0 {
			name := <-told
			names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		}
	}
	clash(a, "x")
	clash(a, "y")
	until("x", "y")
	fatal(t, a.Close())

	a = openVault(t, dir, vault.Config{Conflict: func(c vault.Conflict) { told <- c.Name; <-block }})
	clash(a, "z")
	<-told
	clash(a, "w")
	fatal(t, a.Close()) // while the listener has not come back
	openVault(t, dir, vault.Config{Conflict: func(c vault.Conflict) { told <- c.Name }})
	until("z", "w")
	close(block)
}

// E36: the strategy is changed by a device, while others are away that write, or
// set another one at the same time.
func TestScenarioE36(t *testing.T) {
	ctx := t.Context()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	p := newPerson(t)
	var vs []*vault.Vault
	var clocks []*manual
	for i := range 3 {
		clocks = append(clocks, &manual{day.Add(time.Duration(i) * time.Hour)})
		vs = append(vs, p.device(vault.Config{Now: clocks[i].now}))
	}
	a, b, c := vs[0], vs[1], vs[2]
	put(t, a, "x", "0")
	sync(t, vs...)
	for i, v := range vs {
		_, err := v.Namespace("notes").Put(ctx, "x", []byte{'a' + byte(i)}, vault.Expires(day.AddDate(1, 0, i)))
		fatal(t, err)
	}
	sync(t, b, a, c)
	sync(t, b, a, c)
	all := func(want string) {
		t.Helper()
		for i, v := range vs {
			if got := look(t, v.Namespace("notes"), "x"); got != want {
				t.Errorf("device %d: %s, want %s", i, got, want)
			}
		}
		sameDigest(t, a, b)
		sameDigest(t, a, c)
	}
	all("c of 3")
	fatal(t, a.Namespace("notes").SetStrategy(ctx, vault.StrategyFirst))
	if got := look(t, a.Namespace("notes"), "x"); got != "b of 3" {
		t.Errorf("at once: %s", got)
	}
	sync(t, a, b)
	if got := look(t, b.Namespace("notes"), "x"); got != "b of 3" {
		t.Errorf("pulled: %s", got)
	}
	// The times that are kept with the record follow.
	clocks[1].t = day.AddDate(1, 0, 1)
	if got := look(t, b.Namespace("notes"), "x"); got != "-" {
		t.Errorf("its expiry: %s", got)
	}
	clocks[1].t = day.Add(2 * time.Hour)

	// c has not heard of it, writes, and sets another one, later by its clock.
	put(t, c, "y", "c")
	clocks[2].t = day.Add(24 * time.Hour)
	fatal(t, c.Namespace("notes").SetStrategy(ctx, vault.StrategyLast))
	put(t, b, "y", "b")
	sync(t, c, b, a)
	sync(t, c, b, a)
	all("c of 3")
	for _, v := range vs {
		st, err := v.Namespace("notes").Strategy(ctx)
		fatal(t, err)
		if st != vault.StrategyLast {
			t.Errorf("strategy %v", st)
		}
		if got := look(t, v.Namespace("notes"), "y"); got != "b of 2" {
			t.Errorf("y: %s", got)
		}
	}
	// A device that restores comes to the same.
	vs = append(vs, p.device(vault.Config{}))
	all("c of 3")
	if err := a.Namespace("notes").SetStrategy(ctx, 4); !errors.Is(err, vault.ErrInvalid) {
		t.Errorf("a reserved strategy: %v", err)
	}
}

// A watcher sees the record that another strategy shows.
func TestStrategyIsWatched(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "a")
	sync(t, a)
	put(t, b, "x", "b")
	sync(t, b, a)
	sub := a.Watch(ctx, "notes")
	fatal(t, a.Namespace("notes").SetStrategy(ctx, vault.StrategyFirst))
	if rec := <-sub.C; string(rec.Value) != "a" || rec.Siblings != 1 {
		t.Errorf("event: %+v", rec)
	}
}

// So it does where the other strategy was said and never sent, and now holds again
// what the log says.
func TestStrategyTakenBackIsWatched(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	notes := b.Namespace("notes")
	fatal(t, notes.SetStrategy(ctx, vault.StrategyLast))
	sync(t, b, a)
	put(t, a, "x", "a")
	sync(t, a)
	put(t, b, "x", "b")
	_, err := b.Sync(ctx, vault.SyncOptions{Mode: vault.PullOnly})
	fatal(t, err)
	for _, tt := range []struct {
		strategy vault.Strategy
		want     string
	}{{vault.StrategyFirst, "a"}, {vault.StrategyLast, "b"}} {
		before, err := notes.Get(ctx, "x")
		fatal(t, err)
		fatal(t, notes.SetStrategy(ctx, tt.strategy))
		after, err := notes.Get(ctx, "x")
		fatal(t, err)
		if string(after.Value) != tt.want || after.Revision <= before.Revision {
			t.Errorf("%v: %q at revision %d, before %q at %d", tt.strategy, after.Value, after.Revision, before.Value, before.Revision)
		}
	}
}

// Versions that say the same are one and need no answer; those that differ are
// listed, with what they come from, and counted.
func TestConflictsAreListed(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	dir := t.TempDir() + "/v"
	a, _ := p.deviceIn(dir, vault.Config{Now: later(0).now})
	b := p.device(vault.Config{Now: later(1).now})
	put(t, a, "same", "0")
	put(t, a, "deep", "0")
	put(t, a, "type", "0")
	put(t, a, "alone", "0")
	sync(t, a, b)
	for range 2 { // a writes twice, b once: what they have in common is further back
		put(t, a, "deep", "a")
		sync(t, a)
	}
	put(t, a, "same", "1")
	put(t, b, "same", "1")
	put(t, b, "deep", "b")
	put(t, a, "type", "1")
	_, err := b.Namespace("notes").Put(ctx, "type", []byte("1"), vault.ContentType("text/plain"))
	fatal(t, err)
	sync(t, a, b, a)
	want := []string{"notes/deep: b a from 0", "notes/type: 1 1 from 0"}
	check := func(v *vault.Vault) {
		t.Helper()
		if got := conflicts(t, v); !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		st, err := v.Status(ctx)
		fatal(t, err)
		if st.Conflicts != len(want) {
			t.Errorf("counted %d", st.Conflicts)
		}
	}
	check(a)
	check(b)
	if got := look(t, a.Namespace("notes"), "same"); got != "1 of 1" {
		t.Errorf("same: %s", got)
	}
	// A store from before the index is given one.
	fatal(t, a.Close())
	fatal(t, vault.AgeStore(dir+"/vault.db"))
	a = openVault(t, dir, vault.Config{Now: later(0).now})
	check(a)
	for name, err := range a.Conflicts(ctx) {
		fatal(t, err)
		_, err = a.Namespace("notes").Settle(ctx, name.Name, vault.Resolution{Keep: name.Versions[1]})
		fatal(t, err)
	}
	want = nil
	check(a)
	sync(t, a, b)
	check(b)
	sameDigest(t, a, b)
}

// A namespace that is forgotten takes its conflicts and its strategy along, and
// they come back with it.
func TestConflictsOfASelection(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: later(0).now}), p.device(vault.Config{Now: later(1).now})
	n := a.Namespace("notes")
	fatal(t, n.SetStrategy(ctx, vault.StrategyFirst))
	put(t, a, "x", "0")
	sync(t, a, b)
	put(t, a, "x", "a")
	_, err := b.Namespace("notes").Put(ctx, "x", []byte("b"), vault.Expires(later(24).t))
	fatal(t, err)
	sync(t, a, b, a)
	want := []string{"notes/x: a b from 0"}
	check := func(want []string) {
		t.Helper()
		st, err := a.Status(ctx)
		fatal(t, err)
		if got := conflicts(t, a); !slices.Equal(got, want) || st.Conflicts != len(want) {
			t.Errorf("listed %q, counted %d, want %q", got, st.Conflicts, want)
		}
	}
	check(want)
	fatal(t, a.SetSelection(ctx, vault.Selection{Namespaces: []string{"other"}}))
	sync(t, a)
	check(nil)
	fatal(t, a.SetSelection(ctx, vault.Selection{}))
	sync(t, a)
	check([]string{"notes/x: a b"}) // what came before is not fetched again
	if st, err := n.Strategy(ctx); err != nil || st != vault.StrategyFirst {
		t.Errorf("strategy %v, %v", st, err)
	}
	sameDigest(t, a, b)
}
