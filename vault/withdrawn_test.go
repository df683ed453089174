package vault_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A version that was not sent yet when its record was removed comes back with it, and
// the secondary never has it.
func TestUndeleteUnsent(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	clock := &manual{time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
	a, b := p.device(vault.Config{Now: clock.now}), p.device(vault.Config{Now: clock.now})
	n := a.Namespace("notes")
	long := longText("unsent")
	for _, name := range []string{"edited", "edited, long", "edited elsewhere", "written again", "in a transaction", "too long ago"} {
		put(t, a, name, "sent")
	}
	sync(t, a, b)
	remove := func(name string) {
		t.Helper()
		clock.t = clock.t.Add(time.Second)
		fatal(t, n.Delete(ctx, name))
	}
	back := func(name, want string) {
		t.Helper()
		rec, err := n.Removed(ctx, name)
		if want == "-" {
			if !errors.Is(err, vault.ErrNotFound) {
				t.Errorf("%s: removed was %v, %v", name, rec, err)
			}
		} else if fatal(t, err); rec.Size != int64(len(want)) || rec.Pending != (want != "sent") || rec.Revision != 0 {
			t.Errorf("%s: removed was %+v", name, rec)
		}
		if _, err = n.Undelete(ctx, name); (want == "-") != errors.Is(err, vault.ErrNotFound) || want != "-" && err != nil {
			t.Errorf("undelete %s: %v", name, err)
		}
		if got := get(t, a, name); got != want {
			t.Errorf("%s: %.20q, want %.20q", name, got, want)
		}
	}
	// Before the removal is sent, and of what never was.
	for _, name := range []string{"edited", "new"} {
		put(t, a, name, "unsent")
		remove(name)
		if got := get(t, a, name); got != "-" {
			t.Errorf("%s: %q", name, got)
		}
		back(name, "unsent")
		remove(name)
	}
	put(t, a, "edited, long", long)
	put(t, a, "new, long", long)
	remove("edited, long")
	remove("new, long")
	put(t, a, "edited elsewhere", "unsent")
	remove("edited elsewhere")
	put(t, a, "written again", "unsent")
	remove("written again")
	put(t, a, "written again", "unsent, too")
	put(t, a, "written again", "sent")
	put(t, a, "too long ago", "unsent")
	remove("too long ago")
	put(t, a, "in a transaction", "unsent")
	fatal(t, a.Update(ctx, "notes", func(tx *vault.Tx) error { return tx.Delete("in a transaction") }))
	fatal(t, a.Update(ctx, "notes", func(tx *vault.Tx) error {
		if _, err := tx.Put("made in one", []byte("unsent")); err != nil {
			return err
		}
		return tx.Delete("made in one") // nobody has ever seen it
	}))
	if _, pending, err := a.Digest(ctx); err != nil || pending != 6 { // five removals, and one put
		t.Errorf("%d changes to send, %v", pending, err)
	}

	// After it was sent, too.
	sync(t, a, b)
	for _, name := range []string{"new", "new, long", "made in one"} {
		if past, _ := pastOf(t, b, "notes/"+name); len(past) != 0 {
			t.Errorf("the other device has %s: %q", name, past)
		}
	}
	for _, name := range []string{"edited", "edited, long"} {
		if past, _ := pastOf(t, b, "notes/"+name); len(past) != 2 { // sent, and removed
			t.Errorf("the other device has of %s: %q", name, past)
		}
	}
	back("edited", "unsent")
	back("new", "unsent")
	back("edited, long", long)
	back("new, long", long)
	back("in a transaction", "unsent")
	back("made in one", "-")
	// What came to an end later, here or elsewhere, is newer.
	put(t, b, "edited elsewhere", "sent")
	sync(t, b)
	fatal(t, b.Namespace("notes").Delete(ctx, "edited elsewhere"))
	sync(t, a, b, a)
	sync(t, a)
	back("edited elsewhere", "sent")
	fatal(t, n.Delete(ctx, "written again"))
	back("written again", "sent")

	clock.t = clock.t.Add(31 * 24 * time.Hour)
	back("too long ago", "sent")
	sync(t, a, b)
	sameDigest(t, a, b)
	if _, err := a.Check(ctx, nil); err != nil {
		t.Error(err)
	}
}

// What was taken back is not kept longer than 30 days, and a change to another history
// brings it along.
func TestWithdrawnIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		put(t, p.b.Vault, "taken back", "unsent")
		fatal(t, p.b.Namespace("notes").Delete(t.Context(), "taken back"))
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		p.merged(t)
		if rec, err := p.b.Namespace("notes").Removed(t.Context(), "taken back"); err != nil || rec.Size != int64(len("unsent")) {
			t.Fatalf("%+v, %v", rec, err)
		}
		if n := vault.Withdrawn(p.b.Vault); n != 1 {
			t.Errorf("%d are kept", n)
		}
		time.Sleep(31 * 24 * time.Hour)
		if _, err := p.b.Namespace("notes").Removed(t.Context(), "taken back"); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("after 31 days: %v", err)
		}
		vaulttest.Sync(t, p.b)
		if n := vault.Withdrawn(p.b.Vault); n != 0 {
			t.Errorf("after 31 days %d are kept", n)
		}
	})
}
