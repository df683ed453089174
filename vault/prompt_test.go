package vault_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/kistvault/kist/vault"
)

// While a session is in step, a put signs what it writes, and what follows while
// that is under way waits together: of three values of a record, the first is a
// version, and the third takes the place of the second.
func TestPutSignsAtOnce(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "0")
	sync(t, a, b)

	var armed atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	step := func() { // holds the session once, so that it signs nothing itself
		if armed.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
	}
	runLive(t, a, vault.SyncOptions{Step: step}, nil)
	armed.Store(true)
	a.SyncNow()
	<-held
	for _, value := range []string{"1", "2", "3"} {
		put(t, a, "x", value)
	}
	if got := pending(t, a); got != 2 {
		t.Errorf("%d changes are pending, want 2", got)
	}
	close(release)
	fatal(t, a.WaitForUpload(t.Context()))

	sync(t, b)
	var got []string
	for rec, err := range b.Namespace("notes").History(t.Context(), "x") {
		fatal(t, err)
		got = append(got, string(rec.Value))
	}
	if want := []string{"3", "1", "0"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
	sameDigest(t, a, b)
}
