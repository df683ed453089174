package vault_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
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

// A secondary that sends live changes without end is stopped at the number that the
// checkpoint names.
func TestRestoreOfEndlessChanges(t *testing.T) {
	r := newRestoring(t, 6)
	v := r.unenrolled(t.TempDir() + "/vault")
	states := 0
	var last *commitlog.Excerpt
	change := excerptsOf(func(x []*commitlog.Excerpt) []*commitlog.Excerpt {
		last = x[len(x)-1]
		last.Raw = slices.Clone(last.Raw)
		binary.BigEndian.PutUint16(last.Raw[118:], 65535) // its number of changes
		return x
	})
	l := &tapped{change: func(m wire.Message) []wire.Message {
		s, ok := m.(*wire.State)
		if !ok {
			return []wire.Message{m}
		}
		change(m)
		s.Done = false
		out := []wire.Message{s}
		c := &last.Changes[len(last.Changes)-1]
		for range 100 {
			more := &wire.State{Request: s.Request}
			for range 100 {
				c.Index++
				data := commitlog.AppendExcerptChange(commitlog.AppendExcerpt(nil, last.ID, last.Raw, 1), c.Index, c.Change.Entry, c.Blob)
				more.Items = append(more.Items, wire.Item{Kind: wire.ItemExcerpt, Data: data})
			}
			out = append(out, more)
		}
		states += len(out)
		return out
	}}
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, l.options())
	if !errors.Is(err, commitlog.ErrCheckpoint) || !strings.Contains(err.Error(), "more live changes") || len(l.queue) == 0 {
		t.Errorf("got %v, %d of %d messages not read", err, len(l.queue), states)
	}
}

// A secondary is caught at a false history below the checkpoint. When the person lets
// the device try again, nothing of it is left, and the true one is taken.
func TestTrueHistoryAfterAFalseOne(t *testing.T) {
	r := newRestoring(t, 6)
	for _, cut := range []int{1, 5} {
		v := r.unenrolled(t.TempDir() + "/vault")
		_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
		fatal(t, err)
		st, err := v.Status(t.Context())
		fatal(t, err)
		before, err := vault.IndexSize(v)
		fatal(t, err)
		l := &tapped{change: func(m wire.Message) []wire.Message {
			if c, ok := m.(*wire.Commits); ok {
				n := len(c.Items) - cut
				c.Items[n].Data[8+216-1] ^= 1 // a signature
				fatal(t, vault.TakePast(v, c.Items[:n]))
				c.Items = c.Items[n:]
			}
			return []wire.Message{m}
		}}
		_, err = v.Sync(t.Context(), l.options())
		if !errors.Is(err, commitlog.ErrSignature) {
			t.Fatal(err)
		}
		if some, err := v.Status(t.Context()); err != nil || some.Verified == 0 || some.Verified >= st.Base {
			t.Fatal(some.Verified, err)
		}
		fatal(t, v.TryAgain(t.Context()))
		if none, err := v.Status(t.Context()); err != nil || none.Verified != 0 || none.Base != st.Base {
			t.Errorf("%d of %d are verified, %v", none.Verified, none.Base, err)
		}
		if after, err := vault.IndexSize(v); err != nil || after != before {
			t.Errorf("%d records and versions, before %d, %v", after, before, err)
		}
		for name, err := range v.Namespace("notes").List(t.Context()) {
			fatal(t, err)
			for _, err := range v.Namespace("notes").History(t.Context(), name.Name) {
				fatal(t, err)
			}
		}
		r.equal(t, v)
	}
}
