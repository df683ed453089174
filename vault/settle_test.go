package vault_test

import (
	"errors"
	"testing"

	"github.com/kistvault/kist/vault"
)

// A person chooses a version that is not sent yet, and while they think it is sent.
func TestKeepWhatWasPending(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: later(0).now}), p.device(vault.Config{Now: later(1).now})
	n := a.Namespace("notes")
	clash := func(mine string) *vault.Conflict {
		t.Helper()
		put(t, a, "x", "0"+mine)
		sync(t, a, b)
		put(t, b, "x", "theirs")
		sync(t, b)
		put(t, a, "x", mine)
		_, err := a.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly})
		fatal(t, err)
		c, err := n.Conflict(t.Context(), "x")
		fatal(t, err)
		return c
	}
	pending := func(c *vault.Conflict) *vault.Record {
		for _, r := range c.Versions {
			if r.Pending {
				return r
			}
		}
		t.Fatal("no version is pending")
		return nil
	}
	c := clash("mine")
	sync(t, a)
	if _, err := n.Settle(t.Context(), "x", vault.Resolution{Keep: pending(c)}, vault.IfRevision(c.Versions[0].Revision)); err != nil {
		t.Errorf("sent meanwhile: %v", err)
	}
	if got := look(t, n, "x"); got != "mine of 1" {
		t.Errorf("shows %s", got)
	}

	// Another one took its place: it is not kept instead.
	c = clash("first")
	put(t, a, "x", "second")
	if _, err := n.Settle(t.Context(), "x", vault.Resolution{Keep: pending(c)}); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("written over: %v, want ErrNotFound", err)
	}
	if got := look(t, n, "x"); got != "second of 1" {
		t.Errorf("shows %s", got)
	}
}

// A conflict of which an expired version shows can be settled, and what a person
// keeps is there.
func TestKeepWhatHasExpired(t *testing.T) {
	p := newPerson(t)
	clock := later(0)
	a, b := p.device(vault.Config{Now: clock.now}), p.device(vault.Config{Now: later(2).now})
	for _, name := range []string{"x", "y"} {
		put(t, a, name, "a")
		_, err := b.Namespace("notes").Put(t.Context(), name, []byte("b"), vault.Expires(later(10).t))
		fatal(t, err)
	}
	sync(t, b, a)
	clock.t = later(12).t
	n := a.Namespace("notes")
	if got := look(t, n, "x"); got != "-" {
		t.Fatalf("shows %s", got)
	}
	c, err := n.Conflict(t.Context(), "x")
	fatal(t, err)
	_, err = n.Settle(t.Context(), "x", vault.Resolution{Keep: c.Versions[0]}, vault.IfRevision(c.Versions[0].Revision))
	fatal(t, err)
	if got := look(t, n, "x"); got != "b of 1" {
		t.Errorf("shows %s", got)
	}
	names, err := n.SettleBoth(t.Context(), "y")
	fatal(t, err)
	if got := look(t, n, "y"); got != "b of 1" || look(t, n, names[0]) != "a of 1" {
		t.Errorf("shows %s and %s", got, look(t, n, names[0]))
	}
}

// Each record has its long values to itself: where only one of two that were kept
// is selected, the other's is forgotten and its own is not.
func TestSettleBothThenSelect(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: later(0).now}), p.device(vault.Config{Now: later(1).now})
	for _, v := range []*vault.Vault{a, b} {
		_, err := v.Namespace("notes").Put(t.Context(), "x", long(100_000, v.Device().String()))
		fatal(t, err)
	}
	sync(t, a, b, a)
	names, err := a.Namespace("notes").SettleBoth(t.Context(), "x")
	fatal(t, err)
	sync(t, a, b)
	choose(t, b, vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Prefix: names[0]}}})
	sync(t, b)
	if got := get(t, b, names[0]); got != string(long(100_000, a.Device().String())) {
		t.Errorf("%d bytes", len(got))
	}
	sameDigest(t, a, b)
}
