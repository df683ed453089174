package vaulttest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

func put(t testing.TB, d *vaulttest.Device, name, value string) {
	t.Helper()
	_, err := d.Namespace("notes").Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

func get(t testing.TB, d *vaulttest.Device, name string) string {
	t.Helper()
	rec, err := d.Namespace("notes").Get(t.Context(), name)
	fatal(t, err)
	return string(rec.Value)
}

func two(t testing.TB) (s *vaulttest.Secondary, a, b *vaulttest.Device) {
	t.Helper()
	s = vaulttest.NewSecondary(t)
	v := s.NewVault(t)
	return s, v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
}

// It works outside a bubble, too.
func TestRealTime(t *testing.T) {
	_, a, b := two(t)
	put(t, a, "x", "1")
	vaulttest.Sync(t, a, b)
	if got := get(t, b, "x"); got != "1" {
		t.Errorf("%q", got)
	}
	vaulttest.InStep(t, a, b)
}

func TestInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		put(t, a, "x", "1")
		start := time.Now()
		vaulttest.Sync(t, a, b)
		if took := time.Since(start); took != 0 {
			t.Errorf("a perfect network takes %v", took)
		}
		vaulttest.InStep(t, a, b)
		for _, f := range a.Network.Frames() {
			t.Log(f)
		}
		a.Network.SetLatency(time.Second)
		put(t, a, "x", "2")
		start = time.Now()
		vaulttest.Sync(t, a, b)
		t.Log(time.Since(start))
	})
}

// The example of the documentation works.
func TestExample(t *testing.T) { testNotes(t) }
