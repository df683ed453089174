package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
)

// history returns the versions of a record, newest first.
func history(t testing.TB, n *vault.Namespace, name string) (out []*vault.Record) {
	t.Helper()
	for rec, err := range n.History(t.Context(), name) {
		fatal(t, err)
		out = append(out, rec)
	}
	return out
}

// longText returns a value that is kept as an object.
func longText(text string) string { return strings.Repeat(text+" ", 70<<10/(len(text)+1)) }

// E31: what lost is in the history, can be read, long or short, and brought back
// on any device.
func TestScenarioE31(t *testing.T) {
	ctx := t.Context()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	p := newPerson(t)
	a := p.device(vault.Config{Now: (&manual{day.Add(time.Hour)}).now})
	b := p.device(vault.Config{Now: (&manual{day}).now})
	values := map[string][2]string{"short": {"wins", "loses"}, "long": {longText("wins"), longText("loses")}}
	for name, w := range values {
		put(t, a, name, w[0])
		_, err := b.Namespace("notes").Put(ctx, name, []byte(w[1]), vault.ContentType("text/plain"))
		fatal(t, err)
	}
	sync(t, b, a, b)
	for name, w := range values {
		put(t, a, name, w[0]) // it settles the matter, not knowing better
	}
	sync(t, a, b)
	for name, w := range values {
		n := b.Namespace("notes")
		var loser *vault.Record
		for _, rec := range history(t, n, name) {
			if rec.Device == "device 2" {
				loser = rec
			}
		}
		if loser == nil || loser.Live {
			t.Fatalf("%s: not in the history, or live: %+v", name, loser)
		}
		rec, err := n.Version(ctx, name, loser.Commit)
		fatal(t, err)
		if string(rec.Value) != w[1] || rec.ContentType != "text/plain" || rec.Device != "device 2" || rec.Live {
			t.Errorf("%s: version is %d bytes of %q", name, len(rec.Value), rec.ContentType)
		}
		_, err = n.Revert(ctx, name, loser.Commit)
		fatal(t, err)
	}
	sync(t, b, a)
	for name, w := range values {
		rec, err := a.Namespace("notes").Get(ctx, name)
		fatal(t, err)
		if string(rec.Value) != w[1] || rec.Siblings != 0 || rec.ContentType != "text/plain" {
			t.Errorf("%s: reverted to %d bytes of %q", name, len(rec.Value), rec.ContentType)
		}
	}
	sameDigest(t, a, b)
	n := a.Namespace("notes")
	for id, want := range map[commitlog.ChangeID]error{
		{Commit: 1 << 30}: vault.ErrNotFound,
		{}:                vault.ErrNotFound, // nothing waits to be sent
	} {
		if _, err := n.Version(ctx, "short", id); !errors.Is(err, want) {
			t.Errorf("version %v: %v", id, err)
		}
		if _, err := n.Revert(ctx, "short", id); !errors.Is(err, want) {
			t.Errorf("revert to %v: %v", id, err)
		}
	}
	// A version of another record is none of this one.
	other := history(t, n, "long")[0].Commit
	if _, err := n.Version(ctx, "short", other); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("a version of another record: %v", err)
	}
}

// Removed records come back as they were, sent or not, on any device; those that
// are there do not.
func TestUndelete(t *testing.T) {
	ctx := t.Context()
	clock := &manual{time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: clock.now}), p.device(vault.Config{Now: clock.now})
	n := a.Namespace("notes")
	value := longText("x")
	put(t, a, "long", value)
	put(t, a, "short", "1")
	_, err := n.Put(ctx, "expired", []byte("e"), vault.Expires(clock.t.Add(time.Hour)))
	fatal(t, err)
	sync(t, a, b)
	for _, name := range []string{"long", "short"} {
		fatal(t, n.Delete(ctx, name))
	}
	fatal(t, func() error { _, err := n.Undelete(ctx, "short"); return err }()) // the delete was not sent
	if got := look(t, n, "short"); got != "1 of 1" {
		t.Errorf("unsent: %s", got)
	}
	fatal(t, n.Delete(ctx, "short"))
	sync(t, a, b)
	clock.t = clock.t.Add(2 * time.Hour)
	for _, name := range []string{"long", "short", "expired"} {
		_, err := b.Namespace("notes").Undelete(ctx, name)
		fatal(t, err)
	}
	sync(t, b, a)
	rec, err := n.Get(ctx, "long")
	fatal(t, err)
	if string(rec.Value) != value || look(t, n, "short") != "1 of 1" || look(t, n, "expired") != "e of 1" {
		t.Errorf("undeleted: %d bytes, %s, %s", len(rec.Value), look(t, n, "short"), look(t, n, "expired"))
	}
	sameDigest(t, a, b)
	_, err = n.Put(ctx, "later", nil, vault.Available(clock.t.Add(time.Hour)))
	fatal(t, err)
	for name, want := range map[string]error{"short": vault.ErrCondition, "later": vault.ErrCondition, "never": vault.ErrNotFound} {
		if _, err := n.Undelete(ctx, name); !errors.Is(err, want) {
			t.Errorf("undelete of %s: %v, want %v", name, err, want)
		}
	}
	removed := slices.IndexFunc(history(t, n, "short"), func(r *vault.Record) bool { return r.Deleted })
	if _, err := n.Revert(ctx, "short", history(t, n, "short")[removed].Commit); !errors.Is(err, vault.ErrInvalid) {
		t.Errorf("revert to a removal: %v", err)
	}
}

// A conflict that ended in a removal comes back as what was shown before it.
func TestUndeleteOfSiblings(t *testing.T) {
	ctx := t.Context()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, st := range []vault.Strategy{vault.StrategyTimestamp, vault.StrategyFirst, vault.StrategyLast} {
		p := newPerson(t)
		a := p.device(vault.Config{Now: (&manual{day.Add(time.Hour)}).now})
		b := p.device(vault.Config{Now: (&manual{day}).now})
		fatal(t, a.Namespace("notes").SetStrategy(ctx, st))
		put(t, a, "x", "0")
		sync(t, a, b)
		put(t, a, "x", "a")
		put(t, b, "x", "b")
		sync(t, a, b, a)
		want := look(t, a.Namespace("notes"), "x")
		fatal(t, a.Namespace("notes").Delete(ctx, "x"))
		sync(t, a, b)
		_, err := b.Namespace("notes").Undelete(ctx, "x")
		fatal(t, err)
		if got := look(t, b.Namespace("notes"), "x"); got[:1] != want[:1] {
			t.Errorf("%v: %s, before it was %s", st, got, want)
		}
	}
}

// A person settles a conflict: one, another, both, something new, or nothing. An
// answer to what is no longer so is refused.
func TestSettle(t *testing.T) {
	ctx := t.Context()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	p := newPerson(t)
	a := p.device(vault.Config{Now: (&manual{day.Add(time.Hour)}).now})
	b := p.device(vault.Config{Now: (&manual{day}).now})
	n := a.Namespace("notes")
	value := longText("b")
	names := []string{"one", "two", "both", "new", "none", "long", "stale"}
	for _, name := range names {
		put(t, a, name, "a")
		put(t, b, name, "b")
	}
	put(t, b, "long", value)
	sync(t, a, b, a)
	found := make(map[string]*vault.Conflict)
	for c, err := range a.Conflicts(ctx) {
		fatal(t, err)
		found[c.Name] = c
	}
	if len(found) != len(names) {
		t.Fatalf("%d conflicts", len(found))
	}
	r, err := found["long"].Open(ctx, found["long"].Versions[1])
	fatal(t, err)
	got, err := io.ReadAll(r)
	fatal(t, errors.Join(err, r.Close()))
	if !bytes.Equal(got, []byte(value)) {
		t.Errorf("the long version has %d bytes", len(got))
	}
	settle := func(name string, answer vault.Resolution) error {
		_, err := n.Settle(ctx, name, answer, vault.IfRevision(found[name].Versions[0].Revision))
		return err
	}
	fatal(t, settle("one", vault.Resolution{Keep: found["one"].Versions[0]}))
	fatal(t, settle("two", vault.Resolution{Keep: found["two"].Versions[1]}))
	fatal(t, settle("new", vault.Resolution{Value: []byte("c"), ContentType: "text/plain"}))
	fatal(t, settle("none", vault.Resolution{Delete: true}))
	for _, name := range []string{"both", "long"} {
		second, err := n.SettleBoth(ctx, name)
		fatal(t, err)
		if want := []string{name + " (device 2, 2026-11-20)"}; !slices.Equal(second, want) {
			t.Errorf("second name %q, want %q", second, want)
		}
	}
	put(t, b, "stale", "c")
	sync(t, b, a)
	if err := settle("stale", vault.Resolution{Delete: true}); !errors.Is(err, vault.ErrCondition) {
		t.Errorf("stale: %v", err)
	}
	if _, err := n.SettleBoth(ctx, "one"); !errors.Is(err, vault.ErrCondition) {
		t.Errorf("both of one: %v", err)
	}
	for _, answer := range []vault.Resolution{{}, {Delete: true, Value: []byte{}}} {
		if err := settle("one", answer); !errors.Is(err, vault.ErrInvalid) {
			t.Errorf("%+v: %v", answer, err)
		}
	}
	sync(t, a, b)
	for name, want := range map[string]string{
		"one": "a of 1", "two": "b of 1", "new": "c of 1", "none": "-",
		"both": "a of 1", "both (device 2, 2026-11-20)": "b of 1", "long": "a of 1", "long (device 2, 2026-11-20)": value + " of 1",
	} {
		for _, v := range []*vault.Vault{a, b} {
			if got := look(t, v.Namespace("notes"), name); got != want {
				t.Errorf("%s: %.40s, want %.40s", name, got, want)
			}
		}
	}
	sameDigest(t, a, b)

	// The second name is one that is free, and not too long.
	for i, name := range []string{"both", "both", strings.Repeat("ä", 256)} {
		put(t, a, name, "") // so that the next is later, whatever has gone before
		put(t, a, name, "a")
		put(t, b, name, fmt.Sprint("b", i))
		sync(t, a, b, a)
		second, err := n.SettleBoth(ctx, name)
		fatal(t, err)
		if len(second) != 1 || len(second[0]) > 512 || !strings.Contains(second[0], "(device 2, 2026-11-20") {
			t.Errorf("second name %q", second)
		}
		if want := fmt.Sprintf("both (device 2, 2026-11-20, %d)", i+2); i < 2 && second[0] != want {
			t.Errorf("second name %q, want %q", second[0], want)
		}
		sync(t, a, b)
	}
}
