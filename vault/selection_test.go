package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

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
			fatal(t, b.TryAgain(t.Context()))
			sync(t, b) // from an honest one
			inStep(t, b)
			sameDigest(t, a, b)
		})
	}
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
		if valueIn(t, b, "notes", "log") != fmt.Sprint(i) {
			t.Errorf("not shown: %q", valueIn(t, b, "notes", "log"))
		}
		r := sync(t, b)
		if r.Pushed != 2 || r.Conflicts != 0 {
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
	if valueIn(t, a, "notes", "log") != "-" || valueIn(t, b, "notes", "log") != "not selected" {
		t.Error("deleted")
	}
	// Selected again, everything is there, once.
	choose(t, b, vault.Selection{})
	sync(t, b)
	if got, want := listed(t, b, "notes"), listed(t, a, "notes"); !slices.Equal(got, want) || valueIn(t, b, "photos", "first") != "2" {
		t.Errorf("%q, want %q", got, want)
	}
	sameDigest(t, a, b)
}
