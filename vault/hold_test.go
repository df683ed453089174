package vault

import "testing"

// A session that still has the waiter of a transaction whose caller has left
// keeps nothing from being signed by it, and takes no hold from the next one.
func TestHoldOfTheLeft(t *testing.T) {
	v := engineOf(t).v
	first, second := &transaction{v: v}, &transaction{v: v}
	look := func(of *transaction, want bool) {
		t.Helper()
		if err := v.view(func(s *state) error { _, err := of.ready(s); return err }); err != nil {
			t.Fatal(err)
		}
		if got := v.hold.Load(); got != want {
			t.Errorf("hold %v, want %v", got, want)
		}
	}
	look(first, true)
	first.finish()
	look(first, false)
	look(second, true)
	first.setHold(false)
	if !v.hold.Load() {
		t.Error("the next one has lost its hold")
	}
	second.finish()
	look(second, false)
}
