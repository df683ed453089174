package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// retain sets a retention and carries it out.
func retain(t *testing.T, v *vault.Vault, r vault.Retention) vault.Compacted {
	t.Helper()
	fatal(t, v.SetRetention(t.Context(), r))
	c, err := v.Compact(t.Context())
	fatal(t, err)
	if got, err := v.Retention(t.Context()); got != r || err != nil {
		t.Errorf("retention %+v, %v; want %+v", got, err, r)
	}
	return c
}

// values lists the versions of a record, newest first: short values, "…" for long
// ones, "-" for removals, "?" for what is not here any more.
func values(t *testing.T, v *vault.Vault, ns, name string) string {
	t.Helper()
	var out []string
	for rec, err := range v.Namespace(ns).History(t.Context(), name) {
		fatal(t, err)
		switch {
		case rec.Deleted:
			out = append(out, "-")
		case rec.Time.IsZero():
			out = append(out, "?")
		case rec.Value == nil:
			r, err := v.Namespace(ns).Version(t.Context(), name, rec.Commit)
			if err != nil || int64(len(r.Value)) != rec.Size {
				t.Errorf("%s at %v: %v", name, rec.Commit, err)
			}
			out = append(out, "…")
		default:
			out = append(out, string(rec.Value))
		}
	}
	return strings.Join(out, " ")
}

// What is kept by number: the newest versions of each record, the present one
// counted and removals not. The digest is as before, the secondary and other devices
// keep what they have, and what is gone is said to be.
func TestRetentionVersions(t *testing.T) {
	ctx := t.Context()
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	n := a.Namespace("notes")
	for i := range 5 {
		put(t, a, "edited", fmt.Sprint("v", i))
		sync(t, a)
	}
	for i := range 3 {
		put(t, a, "removed", fmt.Sprint("r", i))
		sync(t, a)
	}
	fatal(t, n.Delete(ctx, "removed"))
	sync(t, a)
	for i := range 4 {
		_, err := n.Put(ctx, "long", []byte(longText(fmt.Sprint(i))))
		fatal(t, err)
		sync(t, a)
	}
	_, err := n.Revert(ctx, "long", history(t, n, "long")[3].Commit) // the first one's object, again
	fatal(t, err)
	sync(t, a, b)
	before := history(t, n, "edited")
	if got := len(objectFiles(t, a)); got != 4 {
		t.Fatalf("%d files of long values", got)
	}

	c := retain(t, a, vault.Retention{Versions: 2})
	if c.Versions != 3+1+3 || c.Bytes < 2*70<<10 {
		t.Errorf("dropped %+v", c)
	}
	for name, want := range map[string]string{"edited": "v4 v3 ? ? ?", "removed": "- r2 r1 ?", "long": "… … ? ? ?"} {
		if got := values(t, a, "notes", name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := len(objectFiles(t, a)); got != 2 {
		t.Errorf("%d files of long values, want 2", got)
	}
	if get(t, a, "edited") != "v4" || get(t, a, "long") != longText("0") {
		t.Error("the present version is another")
	}
	sameDigest(t, a, b)
	for name, err := range map[string]error{
		"Version": func() error { _, err := n.Version(ctx, "edited", before[4].Commit); return err }(),
		"Revert":  func() error { _, err := n.Revert(ctx, "edited", before[4].Commit); return err }(),
	} {
		if !errors.Is(err, vault.ErrCompacted) || !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s of what is gone: %v", name, err)
		}
	}
	_, err = n.Undelete(ctx, "removed")
	fatal(t, err)
	if get(t, a, "removed") != "r2" {
		t.Errorf("it came back as %q", get(t, a, "removed"))
	}
	if got := values(t, b, "notes", "edited"); got != "v4 v3 v2 v1 v0" {
		t.Errorf("on another device: %s", got)
	}

	if _, err := a.Check(ctx, nil); err != nil {
		t.Errorf("looking through all of it: %v", err)
	}

	// A full sync has nothing to mend, a second run nothing to do, and a new device
	// finds everything at the secondary.
	_, err = a.Sync(ctx, vault.SyncOptions{Full: true})
	fatal(t, err)
	if got := values(t, a, "notes", "edited"); got != "v4 v3 ? ? ?" {
		t.Errorf("after a full sync: %s", got)
	}
	if c, err := a.Compact(ctx); c.Versions != 1 || err != nil { // the one that came back is the newest now
		t.Errorf("once more: %+v, %v", c, err)
	}
	if c, err := a.Compact(ctx); c != (vault.Compacted{}) || err != nil {
		t.Errorf("and once more: %+v, %v", c, err)
	}
	d := p.device(vault.Config{})
	sync(t, d)
	if got := values(t, d, "notes", "edited"); got != "v4 v3 v2 v1 v0" {
		t.Errorf("on a new device: %s", got)
	}
	sync(t, a, b, d)
	sameDigest(t, a, b)
	sameDigest(t, a, d)

	// All is kept again: what is gone does not come back.
	retain(t, a, vault.Retention{})
	put(t, a, "edited", "v5")
	sync(t, a)
	if got := values(t, a, "notes", "edited"); got != "v5 v4 v3 ? ? ?" {
		t.Errorf("with all kept: %s", got)
	}
	for _, r := range []vault.Retention{{Versions: -1}, {Days: -1}, {Days: 1 << 30}} {
		if err := a.SetRetention(ctx, r); !errors.Is(err, vault.ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// What is kept by age, and what is kept by either. A removed record that was not
// touched for longer cannot be brought back, and says so.
func TestRetentionDays(t *testing.T) {
	const day = 24 * time.Hour
	ctx := t.Context()
	clock := &manual{time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)}
	p := newPerson(t)
	a := p.device(vault.Config{Now: clock.now})
	for i := range 6 { // v0 is superseded at day 1, v4 at day 5
		put(t, a, "edited", fmt.Sprint("v", i))
		sync(t, a)
		clock.t = clock.t.Add(day)
	}
	put(t, a, "removed", "r0")
	sync(t, a)
	fatal(t, a.Namespace("notes").Delete(ctx, "removed"))
	sync(t, a)
	check := func(r vault.Retention, dropped int, edited, removed string) {
		t.Helper()
		if c := retain(t, a, r); c.Versions != dropped {
			t.Errorf("%+v: dropped %+v, want %d", r, c, dropped)
		}
		if e, r := values(t, a, "notes", "edited"), values(t, a, "notes", "removed"); e != edited || r != removed {
			t.Errorf("left %s and %s, want %s and %s", e, r, edited, removed)
		}
	}
	check(vault.Retention{Days: 6}, 0, "v5 v4 v3 v2 v1 v0", "- r0") // at day 6
	check(vault.Retention{Days: 5}, 1, "v5 v4 v3 v2 v1 ?", "- r0")
	check(vault.Retention{Days: 3, Versions: 4}, 1, "v5 v4 v3 v2 ? ?", "- r0")
	check(vault.Retention{Days: 1, Versions: 3}, 1, "v5 v4 v3 ? ? ?", "- r0")
	check(vault.Retention{Days: 2, Versions: 1}, 1, "v5 v4 ? ? ? ?", "- r0")

	// Time alone brings more to drop, and the next sync does it.
	clock.t = clock.t.Add(day)
	check(vault.Retention{Days: 2}, 1, "v5 ? ? ? ? ?", "- r0")
	clock.t = clock.t.Add(day)
	if r := sync(t, a); r.Compacted != 1 {
		t.Errorf("sync dropped %d", r.Compacted)
	}
	check(vault.Retention{Days: 2}, 0, "v5 ? ? ? ? ?", "- ?")
	_, err := a.Namespace("notes").Undelete(ctx, "removed")
	if !errors.Is(err, vault.ErrCompacted) || !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("bringing back what is gone: %v", err)
	}
}

// Whatever the retention: what is needed for a conflict stays, with its ancestor,
// and so does what a pending change follows on, and what is shown instead of a version
// that cannot be used. It goes when nothing needs it any more.
func TestRetentionSpares(t *testing.T) {
	ctx := t.Context()
	clock := &manual{time.Now()}
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: clock.now}), p.device(vault.Config{})
	for _, name := range []string{"dispute", "pending", "unread"} {
		for _, value := range []string{"old", "ancestor"} {
			put(t, a, name, value)
			sync(t, a)
		}
	}
	sync(t, b)
	put(t, a, "dispute", "a's")
	put(t, b, "dispute", "b's")
	fatal(t, vault.Poison(b, "notes", "unread", poisons["a later form"]))
	for _, v := range []*vault.Vault{b, a, b} {
		_, err := v.Sync(ctx, vault.SyncOptions{})
		fatal(t, err)
	}
	put(t, a, "pending", "not sent")
	if c := retain(t, a, vault.Retention{Versions: 1}); c.Versions != 1 {
		t.Errorf("dropped %+v, want the first version of the one that cannot be used", c)
	}
	conflict, err := a.Namespace("notes").Conflict(ctx, "dispute")
	fatal(t, err)
	if len(conflict.Versions) != 2 || conflict.Ancestor == nil || string(conflict.Ancestor.Value) != "ancestor" {
		t.Errorf("conflict: %+v", conflict)
	}
	if rec, err := a.Namespace("notes").Get(ctx, "unread"); err != nil || string(rec.Value) != "ancestor" || rec.Unread.Commit == 0 {
		t.Errorf("in place of what cannot be used: %+v, %v", rec, err)
	}
	if got := values(t, a, "notes", "pending"); got != "not sent ancestor old" {
		t.Errorf("pending: %s", got)
	}

	put(t, a, "dispute", "settled")
	put(t, a, "unread", "used")
	sync(t, a, b)
	clock.t = clock.t.Add(25 * time.Hour)
	if r := sync(t, a); r.Compacted != 4+2+2 { // and the one that cannot be used, in history only
		t.Errorf("sync dropped %d: %s, %s, %s", r.Compacted, values(t, a, "notes", "dispute"), values(t, a, "notes", "pending"), values(t, a, "notes", "unread"))
	}
	for name, want := range map[string]string{"dispute": "settled", "pending": "not sent", "unread": "used"} {
		if got := get(t, a, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	sameDigest(t, a, b)
}

// Cut off anywhere and opened anew, it goes on where it was.
func TestRetentionCut(t *testing.T) {
	p := newPerson(t)
	dir := t.TempDir() + "/vault"
	a, _ := p.deviceIn(dir, vault.Config{})
	const records, rounds = 700, 4
	for i := range rounds {
		fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
			for j := range records {
				if _, err := tx.Put(fmt.Sprint("n", j), fmt.Append(nil, i)); err != nil {
					return err
				}
			}
			return nil
		}))
		sync(t, a)
	}
	fatal(t, a.SetRetention(t.Context(), vault.Retention{Versions: 2}))
	dropped := 0
	for cut := 2; ; cut++ {
		c, err := a.Compact(&endsAfter{t.Context(), cut})
		dropped += c.Versions
		fatal(t, a.Close())
		a = openVault(t, dir, vault.Config{})
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if dropped != records*(rounds-2) {
		t.Errorf("dropped %d", dropped)
	}
	for _, name := range []string{"n0", "n699"} {
		if got := values(t, a, "notes", name); got != "3 2 ? ?" {
			t.Errorf("%s: %s", name, got)
		}
	}

	// The store is as large as before, until it is written anew.
	if _, _, err := vault.Shrink(t.Context(), dir); !errors.Is(err, vault.ErrInUse) {
		t.Errorf("shrinking a vault in use: %v", err)
	}
	fatal(t, a.Close())
	before, after, err := vault.Shrink(t.Context(), dir)
	if err != nil || after >= before {
		t.Errorf("from %d to %d bytes, %v", before, after, err)
	}
	a = openVault(t, dir, vault.Config{})
	put(t, a, "n0", "4")
	sync(t, a)
	sameDigest(t, a, p.device(vault.Config{}))
}

// endsAfter is a context that ends when it has been asked some times.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A vault that is verified in the background, from a checkpoint on, drops what comes
// of the past in the end.
func TestRetentionWithPast(t *testing.T) {
	r := newRestoring(t, 6)
	for j := range 6 {
		put(t, r.a, fmt.Sprintf("both %d", j), "settled")
	}
	sync(t, r.a)
	v := r.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	if st, err := v.Status(t.Context()); err != nil || st.Base == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	if c := retain(t, v, vault.Retention{Versions: 1}); c.Versions == 0 {
		t.Error("nothing dropped of what came after the checkpoint")
	}
	_, err = v.Sync(t.Context(), vault.SyncOptions{Full: true})
	fatal(t, err)
	sync(t, v)
	st, err := v.Status(t.Context())
	fatal(t, err)
	if st.Base != 0 {
		t.Fatalf("base %d", st.Base)
	}
	sameDigest(t, r.a, v)
	old := 0
	for rec, err := range v.Namespace("notes").List(t.Context()) {
		fatal(t, err)
		for _, rec := range history(t, v.Namespace("notes"), rec.Name) {
			if !rec.Live && !rec.Time.IsZero() && !rec.Deleted {
				old++
			}
		}
	}
	if old > 0 {
		t.Errorf("%d superseded versions are kept", old)
	}
}
