package vault_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// Of the last commit below the checkpoint nothing need be live, and then it is not
// here.
func TestRestoreBehindRemoval(t *testing.T) {
	clock := &manual{t: time.Now().Add(-25 * time.Hour)}
	p := newPerson(t)
	a := p.device(vault.Config{Now: clock.now})
	for i := range 5 {
		put(t, a, fmt.Sprint(i), "x")
		sync(t, a)
	}
	fatal(t, a.Namespace("notes").Delete(t.Context(), "0"))
	clock.t = clock.t.Add(25 * time.Hour)
	sync(t, a) // posts
	size := inStep(t, a).Commits
	v := p.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), p.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	if st, err := v.Status(t.Context()); err != nil || st.Base != size {
		t.Fatalf("it began at %d of %d, %v", st.Base, size, err)
	}
	sync(t, v, a)
	sameDigest(t, a, v)
	if st, err := v.Status(t.Context()); err != nil || st.Base != 0 {
		t.Errorf("base %d, %v", st.Base, err)
	}
}
