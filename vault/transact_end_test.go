package vault

import (
	"errors"
	"testing"
)

// What comes between the moment at which all was here and the transaction's run
// may lack its content: then it does not run, since a record would seem to be
// absent that is not.
func TestTransactIncomplete(t *testing.T) {
	v := engineOf(t).v
	if err := v.update(func(s *state) error { return s.setSweep(logStart) }); err != nil {
		t.Fatal(err)
	}
	runs := 0
	tr := &transaction{v: v, ctx: t.Context(), namespace: "notes", tag: v.keys.tag("notes"), fn: func(tx *Tx) error {
		runs++
		return nil
	}}
	sign := func() {
		t.Helper()
		if b, err := tr.sign(); b != nil || err != nil {
			t.Fatal(b, err)
		}
	}
	if sign(); runs != 0 || tr.ended {
		t.Errorf("%d runs without content, ended %v", runs, tr.ended)
	}
	if err := v.update(func(s *state) error { return s.meta.Delete(metaSweep) }); err != nil {
		t.Fatal(err)
	}
	if sign(); runs != 1 || !tr.ended {
		t.Errorf("%d runs, ended %v", runs, tr.ended)
	}
}

// Who asked a runner for its session just before a pause is told of the pause,
// and goes on without it.
func TestPauseEndsWaiting(t *testing.T) {
	v := engineOf(t).v
	v.Pause()
	r := &runner{v: v, o: &SyncOptions{}, nudge: v.nudge}
	once := &waiter{ctx: t.Context(), once: true, done: make(chan outcome, 1)}
	long := &waiter{ctx: t.Context(), down: true, done: make(chan outcome, 1)}
	r.add(once, nil)
	r.add(long, nil)
	rested := make(chan error)
	go func() { rested <- r.rest(t.Context()) }()
	if out := <-once.done; !errors.Is(out.err, errPaused) {
		t.Error(out.err)
	}
	v.Resume()
	if err := <-rested; err != nil || len(r.waiters) != 1 {
		t.Errorf("%v, %d wait", err, len(r.waiters))
	}
}
