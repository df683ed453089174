package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// compact has the secondary drop all that anything has ended.
func (p *person) compact() {
	p.t.Helper()
	// Twice: what a device has asked about of late stays for one more.
	for range 2 {
		_, err := p.server.Engine().Compact(p.t.Context(), time.Now().Add(time.Hour))
		fatal(p.t, err)
	}
}

// same checks that a device shows what another shows, with a log that is whole and
// verified, whatever it has of the history.
func (r *restoring) same(t *testing.T, v *vault.Vault) {
	t.Helper()
	sync(t, v, r.a)
	sameDigest(t, r.a, v)
	st, err := v.Status(t.Context())
	fatal(t, err)
	want, err := r.a.Status(t.Context())
	fatal(t, err)
	if st.Base != 0 || st.Root != want.Root || st.Records != want.Records || st.Conflicts != want.Conflicts {
		t.Errorf("base %d, root %v, %d records, %d conflicts; want 0, %v, %d, %d", st.Base, st.Root, st.Records, st.Conflicts, want.Root, want.Records, want.Conflicts)
	}
	for _, ns := range []string{"notes", "files"} {
		if got, want := listed(t, v, ns), listed(t, r.a, ns); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", ns, got, want)
		}
	}
}

// F37, F42, H53: what was compacted still verifies. A device takes the whole log
// whose dead content is gone, or begins with a checkpoint of which much has been
// superseded and compacted since, and verifies all below it: it shows what the
// others show. Those have their history, and can bring from it what the secondary
// has no more.
func TestRestoreFromCompacted(t *testing.T) {
	ctx := t.Context()
	r := newRestoring(t, 12)
	n := r.a.Namespace("notes")
	for i := range 3 {
		_, err := n.Put(ctx, "long", []byte(longText(fmt.Sprint(i))))
		fatal(t, err)
		sync(t, r.a)
	}
	old := history(t, n, "long")[2].Commit
	sync(t, r.b)
	digest, _, err := r.a.Digest(ctx)
	fatal(t, err)
	r.compact()

	whole := r.unenrolled(t.TempDir() + "/vault")
	_, err = whole.Enrol(ctx, r.root.Authority(), nil, vault.SyncOptions{Whole: true})
	fatal(t, err)
	if st, err := whole.Status(ctx); err != nil || st.Base != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if got, _, err := whole.Digest(ctx); got != digest || err != nil {
		t.Errorf("digest %v, %v; want %v, as before compaction", got, err, digest)
	}
	r.same(t, whole)

	base := r.unenrolled(t.TempDir() + "/vault")
	l := &tapped{}
	_, err = base.Enrol(ctx, r.root.Authority(), nil, l.options())
	fatal(t, err)
	if st, err := base.Status(ctx); err != nil || st.Base == 0 || st.Base >= st.Commits || l.got[wire.TypeState] == 0 {
		t.Fatalf("it did not begin with a checkpoint: %+v, %v", st, err)
	}
	sync(t, r.a)
	sameDigest(t, r.a, base) // before the history is here
	_, err = base.Sync(ctx, vault.SyncOptions{Full: true})
	fatal(t, err)
	r.same(t, base)
	put(t, base, "after", "all")
	r.same(t, base)
	for _, v := range []*vault.Vault{whole, base, r.a, r.b} {
		_, err := v.Sync(ctx, vault.SyncOptions{Full: true}) // nothing to mend
		fatal(t, err)
		r.same(t, v)
		_, err = v.Check(ctx, nil) // with all of the log, from nothing
		fatal(t, err)
	}

	// What is gone is said to be, and how much there was of it is known.
	_, err = base.Namespace("notes").Version(ctx, "long", old)
	if !errors.Is(err, vault.ErrCompacted) || !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("a version that the secondary has no more: %v", err)
	}
	if _, err := base.Namespace("notes").Revert(ctx, "long", old); !errors.Is(err, vault.ErrCompacted) {
		t.Errorf("reverting to it: %v", err)
	}
	if _, err := base.Namespace("files").Version(ctx, "long", old); errors.Is(err, vault.ErrCompacted) {
		t.Errorf("a version of another namespace: %v", err)
	}

	// Who has it brings it back: the object goes up again.
	_, err = n.Revert(ctx, "long", old)
	fatal(t, err)
	sync(t, r.a, base, whole)
	for _, v := range []*vault.Vault{base, whole} {
		if get(t, v, "long") != longText("0") {
			t.Error("it did not come back")
		}
	}
	r.same(t, base)
	if !t.Failed() {
		r.compact() // and stays
		v := r.unenrolled(t.TempDir() + "/vault")
		_, err = v.Enrol(ctx, r.root.Authority(), nil, vault.SyncOptions{Whole: true})
		fatal(t, err)
		r.same(t, v)
	}
}

// A checkpoint at whose size the newest commit holds nothing that is live: what comes
// of it is not here, and the device syncs all the same.
func TestCheckpointAfterRemoval(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "1")
	put(t, a, "y", "1")
	sync(t, a)
	fatal(t, a.Namespace("notes").Delete(t.Context(), "x"))
	sync(t, a, b) // the second posts its first checkpoint
	v := p.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), p.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	if st, err := v.Status(t.Context()); err != nil || st.Base == 0 || st.Base+1 != st.Commits {
		t.Fatalf("%+v, %v", st, err)
	}
	sync(t, v, a, v)
	sameDigest(t, a, v)
	if st, err := v.Status(t.Context()); err != nil || st.Base != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// A device that was away for longer than content is kept: the versions between do not
// come. While it catches up its record shows what it did, is not taken for removed,
// and what is written meanwhile is an edit of it.
func TestCatchUpWithCompacted(t *testing.T) {
	ctx := t.Context()
	for name, write := range map[string]func(v *vault.Vault) error{
		"nothing": func(*vault.Vault) error { return nil },
		"an edit": func(v *vault.Vault) error {
			_, err := v.Namespace("notes").Put(ctx, "x", []byte("meanwhile"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPerson(t)
			a, b := p.device(vault.Config{}), p.device(vault.Config{})
			put(t, a, "x", "v0")
			sync(t, a, b)
			for i := 1; i < 5; i++ {
				put(t, a, "x", fmt.Sprint("v", i))
				put(t, a, "other", fmt.Sprint(i))
				sync(t, a)
			}
			p.compact()
			// Commit by commit, and the line breaks after some.
			for cut := 1; ; cut += sample {
				l := &tapped{}
				l.change = func(m wire.Message) (out []wire.Message) {
					d, ok := m.(*wire.Download)
					if !ok {
						return []wire.Message{m}
					}
					for _, item := range d.Items {
						one := *d
						one.Items = []wire.Item{item}
						out = append(out, &one)
					}
					if len(out) > 2 {
						out = append(out[:2], wire.NewError(wire.CodeShutdown, ""))
					}
					return out
				}
				_, err := b.Sync(ctx, l.options())
				if err == nil {
					break
				}
				if !errors.Is(err, wire.ErrShutdown) {
					t.Fatal(err)
				}
				if rec, err := b.Namespace("notes").Get(ctx, "x"); err != nil || string(rec.Value) != "v0" || rec.Unread.Commit == 0 {
					t.Fatalf("after %d: %+v, %v", cut, rec, err)
				}
				if cut == 1 {
					fatal(t, write(b))
					if name == "an edit" {
						break
					}
				}
			}
			sync(t, b, a)
			sameDigest(t, a, b)
			if name == "nothing" {
				if rec, err := b.Namespace("notes").Get(ctx, "x"); err != nil || string(rec.Value) != "v4" || rec.Unread.Commit != 0 || rec.Siblings != 0 {
					t.Errorf("%+v, %v", rec, err)
				}
				if got := values(t, b, "notes", "x"); got != "v4 ? ? ? v0" {
					t.Errorf("history: %s", got)
				}
				return
			}
			// The edit was of what b knew to be there, and meets v4.
			c, err := b.Namespace("notes").Conflict(ctx, "x")
			if err != nil || len(c.Versions) != 2 {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

// D6: what a device that was stolen deletes or overwrites is there for the retention
// time, on a new device too; after it, on the devices that had it.
func TestScenarioD6(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	thief := p.device(vault.Config{})
	put(t, a, "deleted", "precious")
	put(t, a, "overwritten", "dear")
	sync(t, a, thief)
	fatal(t, thief.Namespace("notes").Delete(t.Context(), "deleted"))
	put(t, thief, "overwritten", "ha")
	sync(t, thief, a)
	_, err := p.server.Engine().Compact(t.Context(), time.Now().Add(-29*24*time.Hour))
	fatal(t, err)
	fresh := p.device(vault.Config{})
	sync(t, fresh)
	p.compact()
	for _, v := range []*vault.Vault{a, fresh} {
		n := v.Namespace("notes")
		if got := values(t, v, "notes", "overwritten"); got != "ha dear" {
			t.Errorf("overwritten: %s", got)
		}
		_, err := n.Undelete(t.Context(), "deleted")
		fatal(t, err)
		_, err = n.Revert(t.Context(), "overwritten", history(t, n, "overwritten")[1].Commit)
		fatal(t, err)
		if get(t, v, "deleted") != "precious" || get(t, v, "overwritten") != "dear" {
			t.Error("it is not back")
		}
	}
}

// H53: a secondary compacts while devices write and sync. Nothing of what is live is
// lost, and nobody notices.
func TestCompactWhileSyncing(t *testing.T) {
	p := newPerson(t)
	devices := []*vault.Vault{p.device(vault.Config{}), p.device(vault.Config{})}
	ctx, cancel := context.WithCancel(t.Context())
	// When each device's session began. A secondary drops nothing that was ended after
	// that: with a retention of days, no session is as old.
	var begun [2]atomic.Int64
	for i := range begun {
		begun[i].Store(time.Now().UnixMilli())
	}
	var beside gosync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() {
		for ctx.Err() == nil {
			before := time.UnixMilli(min(begun[0].Load(), begun[1].Load()) - 1)
			if _, err := p.server.Engine().Compact(ctx, before); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("compact: %v", err)
				return
			}
		}
	})
	var writers gosync.WaitGroup
	for i, v := range devices {
		writers.Go(func() {
			n := v.Namespace("notes")
			for round := range 12 {
				for j := range 4 {
					if _, err := n.Put(ctx, fmt.Sprint("both ", j), fmt.Append(nil, i, round, j)); err != nil {
						t.Error(err)
					}
				}
				_, err := n.Put(ctx, fmt.Sprint("own ", i), []byte(longText(fmt.Sprint(round%2))))
				if err == nil && round > 2 { // names an object that was let go, and may be gone
					var old []commitlog.ChangeID
					for rec, herr := range n.History(ctx, fmt.Sprint("own ", i)) {
						if err = errors.Join(err, herr); herr == nil && !rec.Pending {
							old = append(old, rec.Commit)
						}
					}
					if err == nil && len(old) > 1 {
						_, err = n.Revert(ctx, fmt.Sprint("own ", i), old[len(old)-1])
					}
				}
				if err == nil && round%5 == 4 {
					err = n.Delete(ctx, "both 0")
				}
				var r *vault.Report
				if err == nil {
					begun[i].Store(time.Now().UnixMilli())
					r, err = v.Sync(ctx, vault.SyncOptions{})
				}
				if err != nil || r.Aside+r.Missing+r.Quarantine != 0 {
					t.Errorf("device %d: %+v, %v", i, r, err)
					return
				}
			}
		})
	}
	writers.Wait()
	cancel()
	beside.Wait()
	sync(t, devices[0], devices[1], devices[0])
	sameDigest(t, devices[0], devices[1])
	p.compact()
	v := p.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), p.root.Authority(), nil, vault.SyncOptions{Whole: true})
	fatal(t, err)
	sync(t, v, devices[0])
	sameDigest(t, devices[0], v)
	for _, name := range listed(t, v, "notes") {
		if get(t, v, name) != get(t, devices[0], name) {
			t.Errorf("%s is another", name)
		}
	}
}

// C4: content of a live change that is called superseded is an omission, at one and
// at two levels; so is a change that hides the one that is live by superseding
// it, unless a device of the vault has signed that. What was superseded by a verified
// change, and what that had superseded before, is not missed.
func TestLiveCalledCompacted(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	for _, value := range []string{"first", "second", "third"} {
		put(t, a, "x", value)
		sync(t, a)
	}
	var ids []commitlog.ChangeID // of the three, newest first
	for _, rec := range history(t, a.Namespace("notes"), "x") {
		ids = append(ids, rec.Commit)
	}
	// without leaves out the content of commits, and says so where it is asked for.
	without := func(change func(b *commitlog.Bundle), out ...commitlog.ChangeID) func(m wire.Message) []wire.Message {
		return func(m wire.Message) []wire.Message {
			switch m := m.(type) {
			case *wire.Download:
				for i, item := range m.Items {
					b, err := commitlog.ParseBundle(item.Data)
					fatal(t, err)
					for _, id := range out {
						if id.Commit == b.ID {
							b.Blobs[id.Index] = nil
						}
					}
					if change != nil {
						change(b)
					}
					data, err := b.AppendBinary(nil)
					fatal(t, err)
					m.Items[i].Data = data
				}
			case *wire.Blobs:
				return []wire.Message{&wire.Blobs{Request: m.Request, Absent: true}}
			}
			return []wire.Message{m}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(m wire.Message) []wire.Message
		want   error
	}{
		{"nothing left out", without(nil), nil},
		{"superseded", without(nil, ids[1]), nil},
		{"superseded, and superseded before", without(nil, ids[1], ids[2]), nil},
		{"superseded before", without(nil, ids[2]), nil},
		{"live", without(nil, ids[0]), commitlog.ErrOmission},
		{"live, and superseded", without(nil, ids[0], ids[1], ids[2]), commitlog.ErrOmission},
		{"by a change that is forged", without(func(b *commitlog.Bundle) {
			if b.ID == ids[0].Commit {
				b.Commit.Raw[len(b.Commit.Raw)-1] ^= 1
			}
		}, ids[1]), commitlog.ErrSignature},
		{"by a change of nobody", without(func(b *commitlog.Bundle) {
			if b.ID == ids[0].Commit {
				stranger, err := newDevice(t, keys.GenerateRoot()).Seed.Keys()
				fatal(t, err)
				h := b.Commit.Header
				h.Device, h.Seq, h.PrevLeaf = stranger.ID(), 1, commitlog.Hash{}
				c, err := commitlog.Build(h, b.Commit.Changes, func(m []byte) [64]byte {
					return stranger.Sign.Sign(keys.PurposeCommit, p.root.VaultID(), m)
				})
				fatal(t, err)
				b.Commit = c
			}
		}, ids[1]), commitlog.ErrUnknownSigner},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := p.unenrolled(t.TempDir() + "/vault")
			l := &tapped{change: tt.change}
			o := l.options()
			o.Whole = true
			_, err := v.Enrol(t.Context(), p.root.Authority(), nil, o)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			st, serr := v.Status(t.Context())
			fatal(t, serr)
			if (st.Alarm != "") != (tt.want != nil) || st.Enrolled != (tt.want == nil) {
				t.Errorf("enrolled %v, alarm %q", st.Enrolled, st.Alarm)
			}
			if tt.want == nil && get(t, v, "x") != "third" {
				t.Errorf("it shows %q", get(t, v, "x"))
			}
		})
	}
}
