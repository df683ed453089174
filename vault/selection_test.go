package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A line is a session's connection that counts what comes, and may change it.
type line struct {
	client.Messenger
	mu       gosync.Mutex   // Send and Receive run at the same time
	blobs    map[string]int // blobs that came, by namespace tag
	commits  int            // bundles that came
	fetched  int            // BLOBS that came
	objects  int            // … of them, bytes of objects
	binds    []wire.Tags    // what was asked for
	asked    map[uint32]bool
	change   func(m wire.Message) wire.Message // may be nil
	cutAfter int                               // BLOBS after which the line is cut; 0: never
}

var errCut = fmt.Errorf("%w: cut", wire.ErrUnreachable)

// over returns options that sync over a line, and the line.
func over(change func(wire.Message) wire.Message, cutAfter int) (*line, vault.SyncOptions) {
	l := &line{blobs: make(map[string]int), asked: make(map[uint32]bool), change: change, cutAfter: cutAfter}
	return l, vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		l.Messenger = c
		return l, err
	}}
}

func (l *line) Send(ctx context.Context, m wire.Message) error {
	l.mu.Lock()
	switch m := m.(type) {
	case *wire.Bind:
		l.binds = append(l.binds, m.Tags)
	case *wire.Fetch:
		l.asked[m.Request] = m.Object
	}
	l.mu.Unlock()
	return l.Messenger.Send(ctx, m)
}

func (l *line) Receive(ctx context.Context) (wire.Message, error) {
	m, err := l.Messenger.Receive(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change != nil {
		m = l.change(m)
	}
	switch m := m.(type) {
	case *wire.Download:
		for _, item := range m.Items {
			if item.Kind != wire.ItemBundle {
				continue
			}
			b, err := commitlog.ParseBundle(item.Data)
			if err != nil {
				return nil, err
			}
			l.commits++
			for _, blob := range b.Blobs {
				if blob != nil {
					l.blobs[b.Commit.Header.Tag.String()]++
				}
			}
		}
	case *wire.Blobs:
		l.fetched++
		if l.cutAfter > 0 && l.fetched > l.cutAfter {
			return nil, errCut
		}
		if l.asked[m.Request] {
			l.objects += len(m.Data)
		}
	}
	return m, nil
}

// A world is a vault with three namespaces of so many records on a device that
// keeps everything.
func newWorld(t *testing.T, records int) (*person, *vault.Vault) {
	t.Helper()
	p := newPerson(t)
	a := p.device(vault.Config{})
	for _, ns := range []string{"contacts", "calendar", "notes"} {
		for i := range records {
			write(t, a, ns, fmt.Sprintf("%s %03d", ns, i), "value")
		}
		sync(t, a)
	}
	return p, a
}

func write(t testing.TB, v *vault.Vault, ns, name, value string) {
	t.Helper()
	_, err := v.Namespace(ns).Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

// xs is a value that is kept as an object.
func xs(n int) string { return strings.Repeat("x", n) }

// narrow returns a device that keeps these namespaces alone from its first sync.
func (p *person) selecting(sel vault.Selection) *vault.Vault {
	p.t.Helper()
	v := p.device(vault.Config{})
	choose(p.t, v, sel)
	return v
}

func choose(t testing.TB, v *vault.Vault, sel vault.Selection) {
	t.Helper()
	fatal(t, v.SetSelection(t.Context(), sel))
}

func only(namespaces ...string) vault.Selection { return vault.Selection{Namespaces: namespaces} }

// listed lists a namespace; "not selected" stands for that error.
func listed(t testing.TB, v *vault.Vault, ns string) (out []string) {
	t.Helper()
	for rec, err := range v.Namespace(ns).List(t.Context()) {
		if errors.Is(err, vault.ErrNotSelected) {
			out = append(out, "not selected")
			continue
		}
		fatal(t, err)
		out = append(out, rec.Name)
	}
	return out
}

// inStep fails unless the selection is carried out and nothing is wanting.
func inStep(t testing.TB, v *vault.Vault) *vault.Status {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	problems, err := v.Problems(t.Context(), 10)
	fatal(t, err)
	if st.Selecting || st.Missing != 0 || st.Quarantine != 0 || len(problems) != 0 {
		t.Errorf("not in step: %+v, problems %v", st, problems)
	}
	return st
}

func tagOf(t testing.TB, v *vault.Vault, ns string) string {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	for _, n := range st.Namespaces {
		if n.Name == ns {
			return n.Tag.String()
		}
	}
	t.Fatalf("no namespace %q", ns)
	return ""
}

// D26: a device that keeps one namespace, or two, or all, gets the blobs of
// these and no others, and every header; it is in step, and its digest is that
// of a device that keeps everything.
func TestSelectNamespaces(t *testing.T) {
	for _, keep := range [][]string{{"contacts"}, {"calendar", "notes"}, nil, {"nothing.here"}} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			p, a := newWorld(t, 20)
			dir := t.TempDir() + "/vault"
			b := p.unenrolled(dir)
			choose(t, b, vault.Selection{Namespaces: keep})
			l, o := over(nil, 0)
			if _, err := b.Enrol(t.Context(), p.root.Authority(), nil, o); err != nil {
				t.Fatal(err)
			}
			l2, o2 := over(nil, 0)
			r, err := b.Sync(t.Context(), o2)
			fatal(t, err)
			if r.Missing != 0 || r.Quarantine != 0 || l2.fetched != 0 {
				t.Errorf("report %+v, %d fetched", r, l2.fetched)
			}
			st := inStep(t, b)
			if st.Commits != uint64(l.commits+l2.commits) {
				t.Errorf("%d commits, %d of them came", st.Commits, l.commits+l2.commits)
			}
			for _, ns := range []string{"contacts", "calendar", "notes"} {
				kept := keep == nil || slices.Contains(keep, ns)
				n := l.blobs[tagOf(t, a, ns)] + l2.blobs[tagOf(t, a, ns)]
				list := listed(t, b, ns)
				_, err := b.Namespace(ns).Get(t.Context(), ns+" 007")
				if kept && (n != 21 || len(list) != 20 || err != nil) {
					t.Errorf("%s: %d blobs, %d records, %v", ns, n, len(list), err)
				}
				if !kept && (n != 0 || !slices.Equal(list, []string{"not selected"}) || !errors.Is(err, vault.ErrNotSelected)) {
					t.Errorf("%s, not kept: %d blobs, %q, %v", ns, n, list, err)
				}
			}
			sync(t, a)
			sameDigest(t, a, b)
		})
	}
}

// D26: what others write goes on coming for what is kept, and for nothing else.
func TestSelectionGoesOn(t *testing.T) {
	p, a := newWorld(t, 3)
	b := p.selecting(only("contacts"))
	sync(t, b)
	sub := b.Watch(t.Context(), "")
	write(t, a, "contacts", "contacts 001", "new")
	write(t, a, "notes", "notes 001", "new")
	fatal(t, a.Namespace("notes").Delete(t.Context(), "notes 002"))
	fatal(t, a.Namespace("contacts").Delete(t.Context(), "contacts 002"))
	write(t, a, "photos", "a new namespace", "new")
	sync(t, a)
	l, o := over(nil, 0)
	r, err := b.Sync(t.Context(), o)
	fatal(t, err)
	if r.Missing != 0 || r.Pulled != 2 || l.fetched != 0 || len(l.blobs) != 1 {
		t.Errorf("report %+v, blobs %v", r, l.blobs)
	}
	for range 2 {
		if rec := <-sub.C; rec.Namespace != "contacts" {
			t.Errorf("event of %+v", rec)
		}
	}
	if got := listed(t, b, "contacts"); !slices.Equal(got, []string{"contacts 000", "contacts 001"}) {
		t.Errorf("%q", got)
	}
	inStep(t, b)
	sameDigest(t, a, b)
}

// D26: a secondary that hides a commit, or content that is kept, is caught; also
// where the commit is of a namespace that is not kept.
func TestSelectionHidesNothing(t *testing.T) {
	drop := func(n int) func(wire.Message) wire.Message { // the n-th bundle from behind
		return func(m wire.Message) wire.Message {
			if d, ok := m.(*wire.Download); ok && len(d.Items) >= n {
				i := len(d.Items) - n
				d.Items = slices.Delete(slices.Clone(d.Items), i, i+1)
			}
			return m
		}
	}
	empty := func(m wire.Message) wire.Message { // no blobs, and none later
		switch m := m.(type) {
		case *wire.Download:
			for i, item := range m.Items {
				b, err := commitlog.ParseBundle(item.Data)
				if err != nil || b.Commit.Header.Kind == commitlog.KindControl {
					continue
				}
				clear(b.Blobs)
				data, _ := b.AppendBinary(nil)
				m.Items[i] = wire.Cut(data)[0]
			}
		case *wire.Blobs:
			return &wire.Blobs{Request: m.Request, Absent: true}
		}
		return m
	}
	for name, change := range map[string]func(wire.Message) wire.Message{
		"of what is kept": drop(3), "of another namespace": drop(2), "content": empty,
	} {
		t.Run(name, func(t *testing.T) {
			p, a := newWorld(t, 3)
			b := p.selecting(only("contacts"))
			sync(t, b)
			for _, ns := range []string{"contacts", "notes", "contacts"} {
				write(t, a, ns, "another", "v")
				sync(t, a)
			}
			_, o := over(change, 0)
			_, err := b.Sync(t.Context(), o)
			if !vault.IsAlarm(err) || !errors.Is(err, commitlog.ErrOmission) {
				t.Fatalf("got %v", err)
			}
			sync(t, b) // from an honest one
			inStep(t, b)
			sameDigest(t, a, b)
		})
	}
}

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
			if st.Records != 4 || get2(t, b, "files", "short") != "short" {
				t.Errorf("%d records", st.Records)
			}
			if low, high := len(tt.want)*size, len(tt.want)*(size*9/8+100); l.objects < low || l.objects > high {
				t.Errorf("%d bytes of objects, for %d values", l.objects, len(tt.want))
			}
			for _, n := range all {
				got := get2(t, b, "files", n)
				if want := slices.Contains(tt.want, n); want != (len(got) == size) || !want && got != "away" {
					t.Errorf("%s: %.10q", n, got)
				}
			}
			sameDigest(t, a, b)
		})
	}
}

// get2 returns a value; "away" and "not selected" stand for these errors.
func get2(t testing.TB, v *vault.Vault, ns, name string) string {
	t.Helper()
	rec, err := v.Namespace(ns).Get(t.Context(), name)
	switch {
	case errors.Is(err, vault.ErrNotHere):
		return "away"
	case errors.Is(err, vault.ErrNotSelected):
		return "not selected"
	case errors.Is(err, vault.ErrNotFound):
		return "-"
	}
	fatal(t, err)
	return string(rec.Value)
}

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
		if r.Pulled != 52 || r.Forgotten != 0 || len(l.blobs) != 0 || l.objects < 300_000 || len(listed(t, b, "notes")) != 51 || get2(t, b, "notes", "large") != xs(300_000) {
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
		if r.Pulled != 0 || r.Forgotten != 52 || l.fetched != 0 || get2(t, b, "notes", "large") != "not selected" {
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
	if get2(t, c, "notes", "large") != xs(300_000) {
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
	if got := len(listed(t, b, "notes")); got != records+1 || get2(t, b, "notes", "large") != xs(5<<20) {
		t.Errorf("%d names", got)
	}
	sameDigest(t, a, b)
}

func selecting(t testing.TB, v *vault.Vault) bool {
	t.Helper()
	_, done, err := v.Selection(t.Context())
	fatal(t, err)
	return !done
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
	if get2(t, a, "notes", "notes 001") != "mine" || get2(t, a, "notes", "notes 002") != xs(100_000) || get2(t, a, "notes", "notes 003") != "-" || get2(t, a, "notes", "new") != "mine" {
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

// D26: own writes to a namespace that is not kept go up, one behind the other,
// without conflicts and without a second record about the namespace; what needs
// to know the record is refused.
func TestWriteWhatIsNotKept(t *testing.T) {
	p, a := newWorld(t, 2)
	b := p.selecting(only("contacts"))
	sync(t, b)
	for i := range 3 {
		write(t, b, "notes", "log", fmt.Sprint(i))
		write(t, b, "photos", "first", fmt.Sprint(i))
		if get2(t, b, "notes", "log") != fmt.Sprint(i) {
			t.Errorf("not shown: %q", get2(t, b, "notes", "log"))
		}
		r := sync(t, b)
		if want := map[bool]int{true: 3, false: 2}[i == 0]; r.Pushed != want || r.Conflicts != 0 { // photos is new
			t.Errorf("%d: %+v", i, r)
		}
		sync(t, a)
		rec, err := a.Namespace("notes").Get(t.Context(), "log")
		fatal(t, err)
		if string(rec.Value) != fmt.Sprint(i) || rec.Siblings != 0 {
			t.Errorf("%d: %q, %d siblings", i, rec.Value, rec.Siblings)
		}
	}
	n := b.Namespace("notes")
	_, err := n.Put(t.Context(), "notes 001", []byte("v"), vault.IfAbsent())
	if !errors.Is(err, vault.ErrNotSelected) {
		t.Errorf("IfAbsent: %v", err)
	}
	if err := n.Delete(t.Context(), "notes 001"); !errors.Is(err, vault.ErrNotSelected) {
		t.Errorf("delete: %v", err)
	}
	err = b.Update(t.Context(), "notes", func(tx *vault.Tx) error { _, err := tx.Get("notes 001"); return err })
	if !errors.Is(err, vault.ErrNotSelected) {
		t.Errorf("get in a transaction: %v", err)
	}
	for _, err := range n.History(t.Context(), "notes 001") {
		if !errors.Is(err, vault.ErrNotSelected) {
			t.Errorf("history: %v", err)
		}
	}
	fatal(t, n.Delete(t.Context(), "log"))
	sync(t, b, a)
	if get2(t, a, "notes", "log") != "-" || get2(t, b, "notes", "log") != "not selected" {
		t.Error("deleted")
	}
	// Selected again, everything is there, once.
	choose(t, b, vault.Selection{})
	sync(t, b)
	if got, want := listed(t, b, "notes"), listed(t, a, "notes"); !slices.Equal(got, want) || get2(t, b, "photos", "first") != "2" {
		t.Errorf("%q, want %q", got, want)
	}
	sameDigest(t, a, b)
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
	if get2(t, b, "files", "small") != xs(60_000) || get2(t, b, "files", "medium") != xs(200_000) {
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
	if get2(t, b, "files", "large") != "away" {
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
	if get2(t, b, "files", "large") != xs(3<<20) || l.objects != 1<<20 || l2.objects > 3<<20 {
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
	if get2(t, b, "files", "large") != "away" || get2(t, b, "files", "medium") != "away" || dirSize(t, b) != 0 {
		t.Errorf("%d bytes of objects are here", dirSize(t, b))
	}
	choose(t, b, vault.Selection{})
	sync(t, b)
	if get2(t, b, "files", "large") != xs(3<<20) || get2(t, b, "files", "medium") != xs(200_000) {
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
	if get2(t, b, "files", "x") != xs(300_000) {
		t.Error("another value")
	}
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

// unenrolled returns a device that has not synced yet.
func (p *person) unenrolled(dir string) *vault.Vault {
	p.t.Helper()
	d := newDevice(p.t, p.root)
	d.Servers = []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: keyfile.Binding(p.invite.Binding.String())}}
	p.devices++
	fatal(p.t, vault.Create(dir, d, fmt.Sprintf("device %d", p.devices)))
	return openVault(p.t, dir, vault.Config{})
}

// filesIn returns all files below a directory.
func filesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	fatal(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out[path], err = os.ReadFile(path)
		}
		return err
	}))
	return out
}

// dirSize returns how many bytes of objects a vault of a test holds.
func dirSize(t testing.TB, v *vault.Vault) (n int) {
	t.Helper()
	for _, b := range filesIn(t, filepath.Join(vault.Dir(v), "objects")) {
		n += len(b)
	}
	return n
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
	if got := get2(t, b, "files", "large"); got != "away" {
		t.Errorf("before: %.10q", got)
	}
	fatal(t, b.Namespace("files").Fetch(t.Context(), "large", vault.SyncOptions{}))
	if got := get2(t, b, "files", "large"); got != xs(2<<20) {
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
