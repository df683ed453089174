package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// D27: an invalid selection is an error at once, which names the pattern and
// what is wrong, and nothing changes.
func TestInvalidSelection(t *testing.T) {
	v := newVault(t, vault.Config{})
	before := vault.Selection{Namespaces: []string{"notes"}, Lazy: 1 << 20}
	choose(t, v, before)
	for _, tt := range []struct {
		sel  vault.Selection
		want string
	}{
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Pattern: "a(b"}}}, "pattern \"a(b\": missing closing ): \"a(b\""},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Pattern: `(?=x)`}}}, "invalid or unsupported Perl syntax"},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Pattern: "\xff"}}}, "not UTF-8"},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes"}}}, "needs a pattern or a prefix"},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Pattern: "a", Prefix: "b"}}}, "not both"},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "Notes!", Pattern: "a"}}}, `namespace "Notes!"`},
		{vault.Selection{Namespaces: []string{"calendar"}, Filters: []vault.Filter{{Namespace: "notes", Pattern: "a"}}}, "not among those that are kept"},
		{only("_ctl"), `namespace "_ctl"`},
		{vault.Selection{Lazy: -1}, "size of -1 bytes"},
		{vault.Selection{Filters: []vault.Filter{{Namespace: "notes", Prefix: xs(513)}}}, "longer than any name"},
	} {
		err := v.SetSelection(t.Context(), tt.sel)
		if !errors.Is(err, vault.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.sel, err, tt.want)
		}
	}
	got, _, err := v.Selection(t.Context())
	fatal(t, err)
	if fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("selection is %+v", got)
	}
}

// D27: a pattern or a prefix keeps the long values of names that match; all
// names and short values are there. One that matches nothing is in step.
func TestSelectByName(t *testing.T) {
	const size = 100_000
	for _, tt := range []struct {
		name    string
		filters []vault.Filter
		want    []string
	}{
		{"pattern", []vault.Filter{{Namespace: "files", Pattern: `^2026/.*\.jpg$`}}, []string{"2026/b.jpg"}},
		{"pattern anywhere", []vault.Filter{{Namespace: "files", Pattern: `6/`}}, []string{"2026/b.jpg", "2026/c.txt"}},
		{"prefix", []vault.Filter{{Namespace: "files", Prefix: "2025/"}}, []string{"2025/a.jpg"}},
		{"either", []vault.Filter{{Namespace: "files", Prefix: "2025/"}, {Namespace: "files", Pattern: "txt$"}}, []string{"2025/a.jpg", "2026/c.txt"}},
		{"no match", []vault.Filter{{Namespace: "files", Pattern: "no such"}}, nil},
		{"of another namespace", []vault.Filter{{Namespace: "notes", Pattern: "no such"}}, []string{"2025/a.jpg", "2026/b.jpg", "2026/c.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPerson(t)
			a := p.device(vault.Config{})
			all := []string{"2025/a.jpg", "2026/b.jpg", "2026/c.txt"}
			for _, n := range all {
				write(t, a, "files", n, xs(size))
			}
			write(t, a, "files", "short", "short")
			b := p.selecting(vault.Selection{Filters: tt.filters})
			sync(t, a)
			l, o := over(nil, 0)
			_, err := b.Sync(t.Context(), o)
			fatal(t, err)
			st := inStep(t, b)
			if st.Records != 4 || valueIn(t, b, "files", "short") != "short" {
				t.Errorf("%d records", st.Records)
			}
			if low, high := len(tt.want)*size, len(tt.want)*(size*9/8+100); l.objects < low || l.objects > high {
				t.Errorf("%d bytes of objects, for %d values", l.objects, len(tt.want))
			}
			for _, n := range all {
				got := valueIn(t, b, "files", n)
				if want := slices.Contains(tt.want, n); want != (len(got) == size) || !want && got != "away" {
					t.Errorf("%s: %.10q", n, got)
				}
			}
			sameDigest(t, a, b)
		})
	}
}

// D27, D28: long values are left at the secondary, and fetched when they are
// read, once; offline that is a clear error and the rest is there.
func TestLazyValues(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	write(t, a, "files", "small", xs(60_000))
	write(t, a, "files", "medium", xs(200_000))
	write(t, a, "files", "large", xs(3<<20))
	sync(t, a)
	dir := t.TempDir() + "/vault"
	b := p.unenrolled(dir)
	choose(t, b, vault.Selection{Lazy: 250_000})
	l, o := over(nil, 0)
	_, err := b.Enrol(t.Context(), p.root.Authority(), nil, o)
	fatal(t, err)
	if l.objects > 230_000 {
		t.Errorf("%d bytes of objects came", l.objects)
	}
	inStep(t, b)
	files := b.Namespace("files")
	if valueIn(t, b, "files", "small") != xs(60_000) || valueIn(t, b, "files", "medium") != xs(200_000) {
		t.Error("what is not lazy is not there")
	}
	rec, r, err := files.Open(t.Context(), "large")
	if !errors.Is(err, vault.ErrNotHere) || r != nil || rec == nil || rec.Size != 3<<20 || !rec.Away {
		t.Errorf("open: %+v, %v", rec, err)
	}
	for rec, err := range files.List(t.Context()) {
		if fatal(t, err); rec.Away != (rec.Name == "large") {
			t.Errorf("%s: away %v", rec.Name, rec.Away)
		}
	}

	p.server.Stop()
	if err := files.Fetch(t.Context(), "medium", vault.SyncOptions{}); err != nil {
		t.Errorf("what is here: %v", err)
	}
	if err := files.Fetch(t.Context(), "large", vault.SyncOptions{}); !errors.Is(err, wire.ErrUnreachable) {
		t.Errorf("offline: %v", err)
	}
	if valueIn(t, b, "files", "large") != "away" {
		t.Error("it is here")
	}
	p.server.Start()

	// Asked for before the vault was closed, and cut in between.
	fatal(t, b.Close())
	b = openVault(t, dir, vault.Config{})
	files = b.Namespace("files")
	l, o = over(nil, 1)
	if err := files.Fetch(t.Context(), "large", o); !errors.Is(err, errCut) {
		t.Errorf("cut: %v", err)
	}
	l2, o := over(nil, 0)
	fatal(t, files.Fetch(t.Context(), "large", o))
	if valueIn(t, b, "files", "large") != xs(3<<20) || l.objects != 1<<20 || l2.objects > 3<<20 {
		t.Errorf("%d and %d bytes", l.objects, l2.objects)
	}
	inStep(t, b)
	l, o = over(nil, 0)
	fatal(t, files.Fetch(t.Context(), "large", o))
	if l.Messenger != nil {
		t.Error("asked again for what is here")
	}
	if err := files.Fetch(t.Context(), "none", vault.SyncOptions{}); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("fetched what is not: %v", err)
	}

	// What was read is given up with the next selection; eager, all comes.
	choose(t, b, vault.Selection{Lazy: 100_000})
	sync(t, b)
	if valueIn(t, b, "files", "large") != "away" || valueIn(t, b, "files", "medium") != "away" || dirSize(t, b) != 0 {
		t.Errorf("%d bytes of objects are here", dirSize(t, b))
	}
	choose(t, b, vault.Selection{})
	sync(t, b)
	if valueIn(t, b, "files", "large") != xs(3<<20) || valueIn(t, b, "files", "medium") != xs(200_000) {
		t.Error("eager again: not here")
	}
	sameDigest(t, a, b)
}

// A value that was asked for, and then superseded before it came, is no alarm
// and nothing is missing.
func TestLazySupersededMeanwhile(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	write(t, a, "files", "x", xs(200_000))
	b := p.selecting(vault.Selection{Lazy: 1})
	sync(t, a, b)
	p.server.Stop()
	if err := b.Namespace("files").Fetch(t.Context(), "x", vault.SyncOptions{}); err == nil {
		t.Error("fetched from nowhere")
	}
	p.server.Start()
	write(t, a, "files", "x", xs(300_000))
	sync(t, a, b)
	inStep(t, b)
	fatal(t, b.Namespace("files").Fetch(t.Context(), "x", vault.SyncOptions{}))
	if valueIn(t, b, "files", "x") != xs(300_000) {
		t.Error("another value")
	}
}

// The selection is sealed: no name of it can be read in the store.
func TestSelectionIsSealed(t *testing.T) {
	dir := t.TempDir() + "/vault"
	p := newPerson(t)
	v, _ := p.deviceIn(dir, vault.Config{})
	choose(t, v, vault.Selection{Namespaces: []string{"quetzal-namespace"}, Filters: []vault.Filter{{Namespace: "quetzal-namespace", Pattern: "quetzal-pattern"}, {Namespace: "quetzal-namespace", Prefix: "quetzal-prefix"}}})
	fatal(t, v.Close())
	for name, b := range filesIn(t, dir) {
		if bytes.Contains(b, []byte("quetzal")) {
			t.Errorf("a name stands in %s", name)
		}
	}
	v = openVault(t, dir, vault.Config{})
	sel, _, err := v.Selection(t.Context())
	fatal(t, err)
	if len(sel.Filters) != 2 || sel.Filters[0].Prefix+sel.Filters[1].Prefix != "quetzal-prefix" || sel.Filters[0].Pattern+sel.Filters[1].Pattern != "quetzal-pattern" {
		t.Errorf("%+v", sel)
	}
}
