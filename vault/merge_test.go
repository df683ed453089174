package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
)

// F43, "other history": the secondary was restored from a backup, and a device that
// had seen no more than that has written to it since. The owner brings both together,
// and every device changes over by itself, whatever it knew: nothing that anybody wrote
// is lost, and nothing that was removed comes back.
func TestMerge(t *testing.T) {
	p := newPerson(t)
	ctx := t.Context()
	a, b, c := p.device(vault.Config{}), p.device(vault.Config{}), p.device(vault.Config{})
	for _, name := range []string{"kept", "edited by both", "removed by a", "removed by a, edited by c", "edited by a, removed by c", "removed by c"} {
		put(t, a, name, "first")
	}
	sync(t, a, b, c)
	old := p.backup(t)

	// What the secondary will have lost. Device b has seen the first half of it.
	put(t, a, "edited by both", "by a")
	put(t, a, "edited by a, removed by c", "by a")
	fatal(t, a.Namespace("notes").Delete(ctx, "removed by a"))
	fatal(t, a.Namespace("notes").Delete(ctx, "removed by a, edited by c"))
	put(t, a, "new, and removed again", "x")
	_, err := a.Namespace("files").Put(ctx, "long", long(1<<20, "a"))
	fatal(t, err)
	sync(t, a, b)
	put(t, b, "from b", "b")
	sync(t, b, a)
	fatal(t, a.Namespace("notes").Delete(ctx, "new, and removed again"))
	put(t, a, "edited by a twice", "1")
	sync(t, a)
	put(t, a, "edited by a twice", "2")
	d := p.device(vault.Config{}) // which the backup does not know
	put(t, d, "from d", "d")
	sync(t, d, a)
	put(t, b, "unsent by b", "b")
	put(t, d, "unsent by d", "d")

	old()
	put(t, c, "edited by both", "by c")
	put(t, c, "removed by a, edited by c", "by c")
	fatal(t, c.Namespace("notes").Delete(ctx, "edited by a, removed by c"))
	fatal(t, c.Namespace("notes").Delete(ctx, "removed by c"))
	put(t, c, "from c", "c")
	sync(t, c)
	for i, v := range []*vault.Vault{a, b} {
		if _, err := v.Sync(ctx, vault.SyncOptions{}); !vault.IsAlarm(err) {
			t.Fatalf("device %d: got %v, want an alarm", i, err)
		}
	}
	if _, err := a.Refill(ctx, p.root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
		t.Fatalf("got %v, want a fork", err)
	}

	m, err := a.Merge(ctx, p.root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	if m.Kept == 0 || m.Lost == 0 || m.Theirs == 0 {
		t.Errorf("%+v", m)
	}
	sync(t, c, b, d, a, b, c, d, a)
	for _, v := range []*vault.Vault{a, b, c, d} {
		if al, err := v.Alarm(ctx); al != nil || err != nil {
			t.Errorf("alarm %v, %v", al, err)
		}
		if _, err := v.VerifyLog(ctx, nil); err != nil {
			t.Errorf("verify: %v", err)
		}
		inStep(t, v)
		sameDigest(t, v, a)
		for name, want := range map[string]string{
			"kept": "first", "removed by a": "-", "removed by a, edited by c": "by c", "edited by a, removed by c": "by a", "removed by c": "-",
			"new, and removed again": "-", "from b": "b", "from c": "c", "from d": "d", "unsent by b": "b", "unsent by d": "d", "edited by a twice": "2",
		} {
			if got := get(t, v, name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if valueIn(t, v, "files", "long") == "-" {
			t.Error("the long value is not there")
		}
		if got := siblingsOf(t, v, "edited by both"); !slices.Equal(got, []string{"by a", "by c"}) {
			t.Errorf("edited by both: %q", got)
		}
	}
	// A new device takes all of it for one history.
	e := p.device(vault.Config{})
	sync(t, e, a)
	sameDigest(t, e, a)
	// And so it goes on.
	put(t, d, "later", "d")
	sync(t, d, a, b, c, e)
	for _, v := range []*vault.Vault{a, b, c, e} {
		if got := get(t, v, "later"); got != "d" {
			t.Errorf("later: %q", got)
		}
		sameDigest(t, v, a)
	}
}

// siblingsOf returns the values of a record's versions, sorted.
func siblingsOf(t testing.TB, v *vault.Vault, name string) (out []string) {
	t.Helper()
	for c, err := range v.Conflicts(t.Context()) {
		fatal(t, err)
		if c.Name != name {
			continue
		}
		for _, r := range c.Versions {
			out = append(out, string(r.Value))
		}
	}
	slices.Sort(out)
	return out
}

// A device whose log went on after the one that was reset brings what it has beyond.
func TestMergeBeyond(t *testing.T) {
	p := newPerson(t)
	ctx := t.Context()
	a, b, c := p.device(vault.Config{}), p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "first")
	sync(t, a, b, c)
	old := p.backup(t)
	put(t, a, "x", "lost")
	put(t, a, "y", "lost")
	sync(t, a, b)
	for i := range 40 { // which a never sees
		put(t, b, fmt.Sprint("beyond ", i), "b")
		sync(t, b)
	}
	put(t, b, "x", "beyond")
	fatal(t, b.Namespace("notes").Delete(ctx, "y"))
	sync(t, b)
	old()
	put(t, c, "z", "c")
	sync(t, c)
	_, err := a.Merge(ctx, p.root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	sync(t, c, b, a, c)
	for _, v := range []*vault.Vault{a, b, c} {
		sameDigest(t, v, a)
		for name, want := range map[string]string{"x": "beyond", "y": "-", "z": "c", "beyond 7": "b"} {
			if got := get(t, v, name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

// Without the owner's word, or where no history parts, nothing happens.
func TestMergeRefused(t *testing.T) {
	p := newPerson(t)
	ctx := t.Context()
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "1")
	sync(t, a, b)
	if _, err := a.Merge(ctx, p.root.Authority(), vault.SyncOptions{}); !errors.Is(err, vault.ErrNoMerge) {
		t.Errorf("got %v, want no merge", err)
	}
	old := p.backup(t)
	put(t, a, "x", "2")
	sync(t, a)
	old()
	if _, err := a.Merge(ctx, p.root.Authority(), vault.SyncOptions{}); !errors.Is(err, vault.ErrNoMerge) {
		t.Errorf("got %v, want no merge", err)
	}
	put(t, b, "x", "3")
	sync(t, b)
	before, pending, err := a.Digest(ctx)
	fatal(t, err)
	for range 3 {
		if _, err := a.Sync(ctx, vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
			t.Errorf("got %v, want a fork", err)
		}
	}
	if all, err := a.Alarms(ctx); err != nil || len(all) != 1 {
		t.Errorf("%d alarms, %v", len(all), err)
	}
	c := p.selecting(only("files"))
	if _, err := c.Merge(ctx, p.root.Authority(), vault.SyncOptions{}); !errors.Is(err, vault.ErrNotAll) {
		t.Errorf("got %v, want incomplete", err)
	}
	if d, n, err := a.Digest(ctx); d != before || n != pending || err != nil {
		t.Errorf("something changed: %v", err)
	}
}
