package vault_test

import (
	"context"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// An answer that is void before it is sent is dropped, and the resolver is asked
// about what there is then.
func TestVoidAnswerIsGivenAgain(t *testing.T) {
	vs := resolving(t, 2, func(context.Context, vault.Conflict) (vault.Resolution, error) {
		return vault.Resolution{Value: []byte("answer")}, nil
	}, vault.Config{})
	a, b := vs[0], vs[1]
	n := a.Namespace("notes")
	// Of y and of what a writes next, a has seen one version.
	put(t, a, "y", "a")
	sync(t, a, b)
	put(t, a, "y", "a1")
	put(t, b, "y", "b")
	fatal(t, b.Namespace("notes").Delete(t.Context(), "x"))
	sync(t, a, b)
	resolve(t, b, later(12).t) // the author, and not sent yet
	if got := look(t, b.Namespace("notes"), "y"); got != "answer of 1" {
		t.Fatalf("answered: %s", got)
	}
	put(t, a, "y", "a2") // without knowing of b
	sync(t, a)
	if got := look(t, n, "y"); got != "a2 of 2" && got != "b of 2" {
		t.Fatalf("other device: %s", got)
	}
	_, err := b.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly})
	fatal(t, err)
	resolve(t, b, later(13).t)
	vault.Asked(b)
	sync(t, b) // drops the answer
	if !vault.Asked(b) {
		t.Error("nobody looks at what was answered in vain")
	}
	resolve(t, b, later(14).t)
	resolve(t, a, later(14).t)
	sync(t, b, a, b)
	for _, v := range vs {
		if got := look(t, v.Namespace("notes"), "y"); got != "answer of 1" {
			t.Errorf("in the end: %s", got)
		}
	}
	sameDigest(t, a, b)
}

// A time to answer that a wrong clock has put far away is decided anew.
func TestAnswerAfterAWrongClock(t *testing.T) {
	vs := resolving(t, 3, join, vault.Config{})
	c := vs[2] // not the author: it waits for a minute at least
	now := later(3).t
	if next := resolve(t, c, now.AddDate(10, 0, 0)); next.Before(now.AddDate(9, 0, 0)) {
		t.Fatalf("due at %v", next)
	}
	next := resolve(t, c, now)
	if wait := next.Sub(now); wait > time.Hour {
		t.Fatalf("due in %v", wait)
	}
	resolve(t, c, next)
	if got := look(t, c.Namespace("notes"), "x"); got != "ab0 of 1" {
		t.Errorf("shows %q", got)
	}
}

// An edit of all that an answer was about ends the answer, though its author never
// saw it: then the record has the edit's times, on the author's device too.
func TestEditOverAnAnswer(t *testing.T) {
	p := newPerson(t)
	clocks := []*manual{later(0), later(1), later(2)}
	var vs []*vault.Vault
	for _, c := range clocks {
		v := p.device(vault.Config{Now: c.now})
		vs = append(vs, v)
		v.SetResolver("notes", func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Value: []byte("answer"), Expires: later(240).t}, nil
		})
	}
	byHand(vs...)
	a, b, c := vs[0], vs[1], vs[2]
	fatal(t, a.Namespace("notes").SetStrategy(t.Context(), vault.StrategyResolver))
	sync(t, a, b)
	put(t, a, "x", "a")
	put(t, b, "x", "b")
	sync(t, a, b, c)
	put(t, c, "x", "edit") // of both
	clocks[1].t = later(24).t
	resolve(t, b, clocks[1].t)
	sync(t, b)
	_, err := c.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly})
	fatal(t, err)
	if got := look(t, c.Namespace("notes"), "x"); got != "answer of 2" {
		t.Errorf("before the edit is sent: %s", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	sub := c.Watch(ctx, "notes")
	sync(t, c, a, b)
	if rec := <-sub.C; string(rec.Value) != "edit" {
		t.Errorf("event: %s", rec.Value)
	}
	stop()
	_ = sub.Err() // it looks at the clock no more
	for i, v := range vs {
		for _, now := range []time.Time{later(48).t, later(480).t} {
			clocks[i].t = now
			if got := look(t, v.Namespace("notes"), "x"); got != "edit of 1" {
				t.Errorf("device %d at %v: %s", i, now, got)
			}
		}
	}
	sameDigest(t, a, c)
}
