package vault_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// D28: widen, narrow, widen again: each time the difference comes or goes, and
// nothing else does; a widened record is an event, a forgotten one is none.
func TestWidenAndNarrow(t *testing.T) {
	p, a := newWorld(t, 50)
	write(t, a, "notes", "large", xs(300_000))
	sync(t, a)
	b := p.selecting(only("contacts"))
	if r := sync(t, b); r.Forgotten != 103 {
		t.Errorf("forgot %d", r.Forgotten)
	}
	sub := b.Watch(t.Context(), "")
	objects := dirSize(t, b)
	for round := range 2 {
		choose(t, b, only("contacts", "notes"))
		if _, done, err := b.Selection(t.Context()); err != nil || done {
			t.Errorf("carried out before the sync: %v", err)
		}
		l, o := over(nil, 0)
		r, err := b.Sync(t.Context(), o)
		fatal(t, err)
		inStep(t, b)
		if r.Pulled != 51 || r.Forgotten != 0 || len(l.blobs) != 0 || l.objects < 300_000 || len(listed(t, b, "notes")) != 51 || valueIn(t, b, "notes", "large") != xs(300_000) {
			t.Errorf("round %d, widened: %+v, %d names, blobs %v", round, r, len(listed(t, b, "notes")), l.blobs)
		}
		seen := make(map[string]bool)
		for range 51 {
			rec := <-sub.C
			if rec.Deleted || rec.Namespace != "notes" || seen[rec.Name] {
				t.Fatalf("event %+v", rec)
			}
			seen[rec.Name] = true
		}
		sameDigest(t, a, b)

		choose(t, b, only("contacts"))
		if got := len(listed(t, b, "notes")); got != 52 { // and the error behind them
			t.Errorf("before the sync %d names are left", got)
		}
		l, o = over(nil, 0)
		r, err = b.Sync(t.Context(), o)
		fatal(t, err)
		inStep(t, b)
		if r.Pulled != 0 || r.Forgotten != 52 || l.fetched != 0 || valueIn(t, b, "notes", "large") != "not selected" {
			t.Errorf("round %d, narrowed: %+v", round, r)
		}
		if now := dirSize(t, b); now != objects {
			t.Errorf("objects take %d bytes, before %d", now, objects)
		}
		sameDigest(t, a, b)
	}
	write(t, a, "contacts", "last", "v")
	sync(t, a, b)
	if rec := <-sub.C; rec.Name != "last" { // and no event about what was forgotten
		t.Errorf("event %+v", rec)
	}
	// The secondary still has all of it.
	c := p.device(vault.Config{})
	if valueIn(t, c, "notes", "large") != xs(300_000) {
		t.Error("a third device does not have everything")
	}
}

// D28: widening that is cut again and again goes on where it was, and needs no
// more content than there is; narrowing in between is not confused by it.
func TestWidenInterrupted(t *testing.T) {
	const records = 400
	p, a := newWorld(t, records)
	write(t, a, "notes", "large", xs(5<<20))
	sync(t, a)
	dir := t.TempDir() + "/vault"
	b, _ := p.deviceIn(dir, vault.Config{})
	choose(t, b, only("contacts"))
	sync(t, b)
	reopen := func() {
		fatal(t, b.Close())
		b = openVault(t, dir, vault.Config{})
	}
	choose(t, b, only("contacts", "notes"))
	fetched, rounds := 0, 0
	for ; ; rounds++ {
		if rounds > 100 {
			t.Fatal("it never ends")
		}
		l, o := over(nil, 40+rounds)
		r, err := b.Sync(t.Context(), o)
		fetched += l.fetched
		if err == nil {
			break
		}
		if !errors.Is(err, wire.ErrUnreachable) || r.Missing == 0 && !selecting(t, b) {
			t.Fatalf("round %d: %+v, %v", rounds, r, err)
		}
		reopen()
		if rounds == 5 {
			choose(t, b, only("contacts"))
			sync(t, b)
			inStep(t, b)
			choose(t, b, only("contacts", "notes"))
		}
	}
	inStep(t, b)
	if rounds < 10 || fetched > 3*records+30*rounds+20 {
		t.Errorf("%d rounds, %d fetched", rounds, fetched)
	}
	if got := len(listed(t, b, "notes")); got != records+1 || valueIn(t, b, "notes", "large") != xs(5<<20) {
		t.Errorf("%d names", got)
	}
	sameDigest(t, a, b)
}

// D28: what was written here and is not sent is never forgotten: it goes up, and
// supersedes what it was written over.
func TestNarrowWithUnsentWrites(t *testing.T) {
	p, a := newWorld(t, 5)
	b := p.device(vault.Config{})
	write(t, b, "notes", "notes 001", "mine")
	write(t, b, "notes", "notes 002", xs(100_000))
	fatal(t, b.Namespace("notes").Delete(t.Context(), "notes 003"))
	choose(t, b, only("contacts"))
	write(t, b, "notes", "new", "mine")
	r := sync(t, b)
	if r.Pushed != 4 {
		t.Errorf("pushed %d", r.Pushed)
	}
	inStep(t, b)
	sync(t, a)
	if valueIn(t, a, "notes", "notes 001") != "mine" || valueIn(t, a, "notes", "notes 002") != xs(100_000) || valueIn(t, a, "notes", "notes 003") != "-" || valueIn(t, a, "notes", "new") != "mine" {
		t.Error("the other device does not have what was written")
	}
	for rec, err := range a.Namespace("notes").List(t.Context()) {
		if fatal(t, err); rec.Siblings != 0 {
			t.Errorf("%s came to have %d siblings", rec.Name, rec.Siblings)
		}
	}
	// What this device wrote is shown until another one changes it.
	if got := listed(t, b, "notes"); !slices.Equal(got, []string{"new", "notes 001", "notes 002", "not selected"}) {
		t.Errorf("left here: %q", got)
	}
	write(t, a, "notes", "notes 001", "theirs")
	fatal(t, a.Namespace("notes").Delete(t.Context(), "notes 002"))
	sync(t, a, b)
	if got := listed(t, b, "notes"); !slices.Equal(got, []string{"new", "not selected"}) || dirSize(t, b) != 0 {
		t.Errorf("left here: %q, %d bytes", got, dirSize(t, b))
	}
	sameDigest(t, a, b)
}

// C22, D28: a session that runs follows a new selection without being started
// anew, in both directions, and its uploads go on.
func TestSelectWhileLive(t *testing.T) {
	p, a := newWorld(t, 30)
	b := p.selecting(only("contacts"))
	sync(t, b)
	sub := b.Watch(t.Context(), "")
	l, o := over(nil, 0)
	runLive(t, b, o, nil)
	runLive(t, a, vault.SyncOptions{}, nil)

	choose(t, b, only("contacts", "notes"))
	write(t, b, "notes", "from b", "v")
	seen := make(map[string]bool)
	for len(seen) < 31 {
		seen[(<-sub.C).Name] = true
	}
	write(t, a, "notes", "from a", "v")
	for rec := range sub.C {
		if rec.Name == "from a" {
			break
		}
	}
	sync(t, b) // through the session that runs
	choose(t, b, only("notes"))
	sync(t, b) // through the session that runs
	write(t, a, "contacts", "unseen", "v")
	write(t, a, "notes", "seen", "v")
	for rec := range sub.C {
		if rec.Name == "seen" {
			break
		}
	}
	inStep(t, b)
	if got := listed(t, b, "contacts"); !slices.Equal(got, []string{"not selected"}) {
		t.Errorf("%q", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.binds) != 3 || len(l.binds[0]) != 1 || len(l.binds[1]) != 2 || len(l.binds[2]) != 1 || l.blobs[tagOf(t, a, "contacts")] != 0 {
		t.Errorf("asked for %v, got %v", l.binds, l.blobs)
	}
}

// D28: beside a session that runs, a sync returns when a new selection is carried
// out, and a fetch when the value is here; neither begins a session of its own.
func TestSelectBesideRun(t *testing.T) {
	p, a := newWorld(t, 100)
	write(t, a, "files", "large", xs(2<<20))
	sync(t, a)
	b := p.selecting(vault.Selection{Namespaces: []string{"contacts"}, Lazy: 1 << 20})
	sync(t, b)
	l, o := over(nil, 0)
	runLive(t, b, o, nil)
	for _, sel := range []vault.Selection{
		{Lazy: 1 << 20}, only("notes"), {Lazy: 1 << 20}, {Namespaces: []string{"files", "notes"}, Lazy: 1 << 20},
	} {
		choose(t, b, sel)
		sync(t, b)
		inStep(t, b)
		for _, ns := range []string{"contacts", "notes"} {
			if kept, got := sel.Keeps(ns), listed(t, b, ns); kept != (len(got) == 100) || !kept && len(got) != 1 {
				t.Errorf("%+v: %s has %d records", sel, ns, len(got))
			}
		}
	}
	if got := valueIn(t, b, "files", "large"); got != "away" {
		t.Errorf("before: %.10q", got)
	}
	fatal(t, b.Namespace("files").Fetch(t.Context(), "large", vault.SyncOptions{}))
	if got := valueIn(t, b, "files", "large"); got != xs(2<<20) {
		t.Errorf("fetched: %.10q", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.binds) != 5 {
		t.Errorf("bound %d times", len(l.binds))
	}
	sameDigest(t, a, b)
}

// B18, D26: a full sync compares the whole log and brings nothing that is not
// kept.
func TestFullSyncKeepsSelection(t *testing.T) {
	p, a := newWorld(t, 10)
	b := p.selecting(only("contacts"))
	sync(t, b)
	write(t, b, "notes", "mine", "v")
	l, o := over(nil, 0)
	o.Full = true
	_, err := b.Sync(t.Context(), o)
	fatal(t, err)
	inStep(t, b)
	if len(l.blobs) != 1+1 || l.blobs[tagOf(t, a, "notes")] != 0 { // contacts and the control log
		t.Errorf("blobs came: %v", l.blobs)
	}
	if got := listed(t, b, "notes"); !slices.Equal(got, []string{"mine", "not selected"}) {
		t.Errorf("%q", got)
	}
	sync(t, a)
	sameDigest(t, a, b)
}
