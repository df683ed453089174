package vault_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/kistvault/kist/vault"
)

// everything returns what a device shows of some namespaces, with siblings and
// without values that are away.
func everything(t testing.TB, v *vault.Vault, namespaces ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, ns := range namespaces {
		for rec, err := range v.Namespace(ns).List(t.Context()) {
			fatal(t, err)
			value := string(rec.Value)
			if rec.Value == nil {
				got := valueIn(t, v, ns, rec.Name)
				value = fmt.Sprintf("%d %.8s", len(got), got)
			}
			out[ns+"/"+rec.Name] = fmt.Sprintf("%s +%d", value, rec.Siblings)
		}
	}
	return out
}

// D28, E29: whatever two devices write, a third writes, chooses and forgets, in
// whatever order they sync: what the third keeps is what the others have, and
// when it keeps everything again, it has everything, conflicts too.
func TestSelectionsConverge(t *testing.T) {
	all := []string{"one", "two", "three"}
	for seed := range uint64(max(2, 6/sample)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			p := newPerson(t)
			devices := []*vault.Vault{p.device(vault.Config{}), p.device(vault.Config{}), p.device(vault.Config{})}
			c := devices[2]
			var sel vault.Selection
			for step := range 120 {
				v := devices[r.IntN(3)]
				ns, name := all[r.IntN(3)], fmt.Sprint(r.IntN(6))
				switch r.IntN(10) {
				case 0, 1, 2, 3:
					value := fmt.Sprint(step)
					if r.IntN(4) == 0 {
						value += xs(70_000 + r.IntN(2)*100_000)
					}
					write(t, v, ns, name, value)
				case 4:
					if err := v.Namespace(ns).Delete(t.Context(), name); err != nil && !errors.Is(err, vault.ErrNotSelected) {
						t.Fatal(err)
					}
				case 5:
					sel = vault.Selection{}
					for _, n := range all {
						if r.IntN(2) == 0 {
							sel.Namespaces = append(sel.Namespaces, n)
						}
					}
					if r.IntN(3) == 0 {
						sel.Lazy = 100_000
					}
					if sel.Keeps("one") && r.IntN(3) == 0 {
						sel.Filters = []vault.Filter{{Namespace: "one", Pattern: "[135]"}}
					}
					choose(t, c, sel)
				default:
					sync(t, v)
				}
			}
			a, b := devices[0], devices[1]
			sync(t, a, b, c, a, b, c)
			inStep(t, c)
			sameDigest(t, a, c)
			sameDigest(t, b, c)
			for _, ns := range all {
				if !sel.Keeps(ns) {
					continue
				}
				want := everything(t, a, ns)
				for name, got := range everything(t, c, ns) {
					if got != want[name] && !strings.HasPrefix(got, "4 away") {
						t.Errorf("%s: %q, want %q", name, got, want[name])
					}
					delete(want, name)
				}
				if len(want) > 0 {
					t.Errorf("%s: not shown: %q", ns, want)
				}
			}
			choose(t, c, vault.Selection{})
			sync(t, c)
			if got, want := everything(t, c, all...), everything(t, a, all...); !maps.Equal(got, want) {
				t.Errorf("shows %q\nwant %q", got, want)
			}
			if n, want := dirSize(t, c), dirSize(t, a); n > want {
				t.Errorf("%d bytes of objects, the other has %d", n, want)
			}
		})
	}
}
