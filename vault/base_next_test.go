package vault_test

import (
	"errors"
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

// What is half here is nothing: before the device is admitted nobody reads it, or
// writes what could be lost with it.
func TestNothingIsUsedBeforeItIsWhole(t *testing.T) {
	r := newRestoring(t, 6)
	v := r.unenrolled(t.TempDir() + "/vault")
	notes := v.Namespace("notes")
	cut := 0
	for n := 1; ; n++ {
		l := &tapped{cut: n}
		_, err := v.Enrol(t.Context(), r.root.Authority(), nil, l.options())
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		st, err := v.Status(t.Context())
		fatal(t, err)
		if !st.Beginning {
			continue
		}
		cut++
		if _, err := notes.Put(t.Context(), "mine", []byte("x")); !errors.Is(err, vault.ErrIncomplete) {
			t.Errorf("cut after %d messages, written: %v", n, err)
		}
		if _, err := notes.Get(t.Context(), "both 0"); !errors.Is(err, vault.ErrIncomplete) {
			t.Errorf("cut after %d messages, read: %v", n, err)
		}
		for rec, err := range notes.List(t.Context()) {
			if !errors.Is(err, vault.ErrIncomplete) {
				t.Errorf("cut after %d messages, listed: %v, %v", n, rec, err)
			}
		}
	}
	if cut < 3 {
		t.Errorf("cut %d times", cut)
	}
	put(t, v, "mine", "x")
	sync(t, v)
	r.equal(t, v)
}
