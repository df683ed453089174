package vault_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kistvault/kist/vault"
)

// Of a namespace that is no longer kept, what stays of a conflict with a change that
// was not sent is that change alone.
func TestNarrowWithUnsentConflict(t *testing.T) {
	for _, live := range []bool{false, true} {
		p := newPerson(t)
		a, b := p.device(vault.Config{Now: later(0).now}), p.device(vault.Config{Now: later(1).now})
		put(t, a, "x", "0")
		sync(t, a, b)
		put(t, a, "x", "mine")
		_, err := b.Namespace("notes").PutFrom(t.Context(), "x", strings.NewReader(xs(100_000)))
		fatal(t, err)
		sync(t, b)
		if live {
			choose(t, a, only("contacts"))
		}
		_, err = a.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly})
		fatal(t, err)
		choose(t, a, only("contacts"))
		sync(t, a, b)
		inStep(t, a)
		if got := conflicts(t, a); len(got) != 0 || dirSize(t, a) != 0 {
			t.Errorf("conflicts %q, %d bytes", got, dirSize(t, a))
		}
		if got := listed(t, a, "notes"); !slices.Equal(got, []string{"x", "not selected"}) || get(t, a, "x") != "mine" {
			t.Errorf("left here: %q", got)
		}
		if got := conflicts(t, b); len(got) != 1 {
			t.Errorf("the other device: %q", got)
		}
		choose(t, a, vault.Selection{})
		sync(t, a)
		if got := conflicts(t, a); len(got) != 1 {
			t.Errorf("in the end: %q", got)
		}
		sameDigest(t, a, b)
	}
}
