package vault_test

import (
	"testing"

	"github.com/kistvault/kist/vault"
)

// A value that the disk has lost or spoilt before it was sent is set aside, and
// holds up nothing else.
func TestLostObject(t *testing.T) {
	for how, spoil := range spoilt {
		t.Run(how, func(t *testing.T) { testLostObject(t, spoil) })
	}
}

func testLostObject(t *testing.T, spoil func(t testing.TB, path string)) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "long", xs(100_000))
	put(t, a, "short", "1")
	_, err := a.Namespace("other").Put(t.Context(), "x", []byte("1"))
	fatal(t, err)
	for _, path := range objectFiles(t, a) {
		spoil(t, path)
	}
	r, err := a.Sync(t.Context(), vault.SyncOptions{})
	fatal(t, err)
	if r.Aside == 0 {
		t.Errorf("report %+v", r)
	}
	sync(t, b)
	if valueIn(t, b, "other", "x") != "1" {
		t.Error("another namespace's change was held up")
	}
	put(t, a, "long", xs(100_001))
	sync(t, a, b)
	if get(t, b, "long") != xs(100_001) || get(t, b, "short") != "1" {
		t.Error("not all came after the value was written again")
	}
	sameDigest(t, a, b)
}
