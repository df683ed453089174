package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/vault"
)

// A scene is a secondary and two devices in a state that can be brought back as
// often as is needed: device a has much to send and much to fetch.
type scene struct {
	t     *testing.T
	p     *person
	taps  crashtest.Taps
	saved string
	a, b  string // the devices' directories
}

// newScene makes a scene. prepare gets both devices, open and in step.
func newScene(t *testing.T, prepare func(a, b *vault.Vault)) *scene {
	t.Helper()
	taps := crashtest.NewTaps()
	server := secondarytest.NewWith(t, secondarytest.Options{Tap: taps.Tap})
	s := &scene{
		t: t, taps: taps, saved: t.TempDir(), a: filepath.Join(t.TempDir(), "a"), b: filepath.Join(t.TempDir(), "b"),
		p: &person{t: t, root: keys.GenerateRoot(), server: server, invite: server.Invite()},
	}
	a, _ := s.p.deviceIn(s.a, vault.Config{})
	b, _ := s.p.deviceIn(s.b, vault.Config{})
	sync(t, a, b)
	prepare(a, b)
	fatal(t, errors.Join(a.Close(), b.Close()))
	server.Stop()
	for i, dir := range []string{server.Dir, s.a, s.b} {
		crashtest.Copy(t, filepath.Join(s.saved, fmt.Sprint(i)), dir)
	}
	return s
}

// again brings the scene back.
func (s *scene) again() {
	s.t.Helper()
	s.p.server.Stop()
	for i, dir := range []string{s.p.server.Dir, s.a, s.b} {
		fatal(s.t, os.RemoveAll(dir))
		crashtest.Copy(s.t, dir, filepath.Join(s.saved, fmt.Sprint(i)))
	}
	s.p.server.Start()
}

// try brings the scene back, syncs device a with a crash at the n-th point of a
// kind, and opens what the crash left. It reports whether the crash came.
func (s *scene) try(at crashtest.Point, n int, signed *crashtest.Signed) (over bool) {
	s.t.Helper()
	s.again()
	return s.crash(at, n, signed)
}

// crash syncs device a with a crash.
func (s *scene) crash(at crashtest.Point, n int, signed *crashtest.Signed) (over bool) {
	s.t.Helper()
	c := crashtest.New(s.t, at, n, s.taps, signed, s.a)
	a := s.open(s.a, vault.Config{Now: c.Now, NoSync: true})
	_, err := a.Sync(s.t.Context(), vault.SyncOptions{Dial: c.Dial, Step: c.Step})
	if err != nil && !c.Over() {
		s.t.Fatalf("%s, %d: %v", at, n, err)
	}
	if vault.IsAlarm(err) {
		s.t.Errorf("%s, %d: alarm: %v", at, n, err)
	}
	fatal(s.t, a.Close())
	c.Restore()
	return c.Over()
}

// open opens a vault that the test closes.
func (s *scene) open(dir string, conf vault.Config) *vault.Vault {
	s.t.Helper()
	v, err := vault.Open(s.t.Context(), dir, conf)
	fatal(s.t, err)
	return v
}

// An outcome is all there is to see of a scene when both devices are in step.
type outcome struct {
	records map[string]string // "namespace/name" → what device a holds
	commits uint64
}

// settle syncs device a and then b, which has nothing of its own to send, checks
// everything that has to hold, and returns what is there. signed sees that what
// is sent again is the same.
func (s *scene) settle(what string, signed *crashtest.Signed) outcome {
	t := s.t
	t.Helper()
	s.crash("", 0, signed)
	a, b := s.open(s.a, vault.Config{NoSync: true}), s.open(s.b, vault.Config{NoSync: true})
	defer func() { fatal(t, errors.Join(a.Close(), b.Close())) }()
	sync(t, b)
	sameDigest(t, a, b)
	o := outcome{records: records(t, a)}
	for _, v := range []*vault.Vault{a, b} {
		st, err := v.Status(t.Context())
		fatal(t, err)
		if st.Pending != 0 || st.Aside != 0 || st.Missing != 0 || st.Quarantine != 0 || st.Alarm != "" {
			t.Errorf("%s: %s: %d pending, %d aside, %d missing, %d in quarantine, alarm %q", what, st.DeviceName, st.Pending, st.Aside, st.Missing, st.Quarantine, st.Alarm)
		}
		if o.commits == 0 {
			o.commits = st.Commits
		}
		if st.Commits != o.commits || st.Records != len(o.records) {
			t.Errorf("%s: %s: %d commits and %d records, want %d and %d", what, st.DeviceName, st.Commits, st.Records, o.commits, len(o.records))
		}
	}
	s.sequences(what)
	return o
}

// sequences checks that in the secondary's log each author's sequence numbers
// follow each other, and its commits.
func (s *scene) sequences(what string) {
	type last struct {
		seq  uint64
		leaf commitlog.Hash
	}
	authors := make(map[keys.DeviceID]last)
	_, err := s.p.server.Engine().Read(s.t.Context(), engine.ReadRequest{Vault: s.p.root.VaultID()}, func(e *engine.Entry) (bool, error) {
		h := &e.Bundle.Commit.Header
		if before := authors[h.Device]; h.Seq != before.seq+1 || h.PrevLeaf != before.leaf {
			s.t.Errorf("%s: commit %d has number %d of its author, after %d", what, e.ID, h.Seq, before.seq)
		}
		authors[h.Device] = last{h.Seq, e.Bundle.Commit.Leaf()}
		return true, nil
	})
	fatal(s.t, err)
}

// records returns all that a vault shows, and how many versions there are of it.
func records(t testing.TB, v *vault.Vault) map[string]string {
	t.Helper()
	out := make(map[string]string)
	namespaces, err := v.Namespaces(t.Context())
	fatal(t, err)
	for _, ns := range namespaces {
		for rec, err := range v.Namespace(ns).List(t.Context()) {
			fatal(t, err)
			whole, err := v.Namespace(ns).Get(t.Context(), rec.Name)
			fatal(t, err)
			versions := 0
			for _, err := range v.Namespace(ns).History(t.Context(), rec.Name) {
				fatal(t, err)
				versions++
			}
			out[ns+"/"+rec.Name] = fmt.Sprintf("%x, %d siblings, %d versions", sha256.Sum256(whole.Value), whole.Siblings, versions)
		}
	}
	return out
}

// long returns a value of n bytes.
func long(n int, seed string) []byte { return bytes.Repeat([]byte(seed), n/len(seed)+1)[:n] }

// busy prepares a scene in which device a has all kinds of changes to send, and
// all kinds to fetch.
func busy(t testing.TB) func(a, b *vault.Vault) {
	return func(a, b *vault.Vault) {
		ctx := t.Context()
		pair := func(v *vault.Vault, value string) {
			fatal(t, v.Update(ctx, "pairs", func(tx *vault.Tx) error {
				for _, name := range []string{"one", "two"} {
					if _, err := tx.Put(name, []byte(value)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		put(t, a, "both", "0")
		put(t, a, "ends here", "0")
		put(t, a, "ends there", "0")
		put(t, a, "follows", "0")
		pair(a, "0")
		sync(t, a, b)

		put(t, b, "both", "b")
		put(t, b, "there", "b")
		fatal(t, b.Namespace("notes").Delete(ctx, "ends there"))
		_, err := b.Namespace("files").Put(ctx, "there", long(1<<20+1000, "b"))
		fatal(t, err)
		sync(t, b)
		put(t, b, "follows", "b")
		sync(t, b)

		put(t, a, "both", "a")
		put(t, a, "here", "a")
		fatal(t, a.Namespace("notes").Delete(ctx, "ends here"))
		pair(a, "1")
		fatal(t, a.Update(ctx, "pairs", func(tx *vault.Tx) error { return tx.Delete("one") }))
		_, err = a.Namespace("files").Put(ctx, "here", long(1<<20+1000, "a"))
		fatal(t, err)
		_, err = a.Namespace("files").Put(ctx, "short", long(70<<10, "s"))
		fatal(t, err)
	}
}

// expect fails the test unless two outcomes are equal.
func expect(t testing.TB, what string, got, want outcome) {
	t.Helper()
	if got.commits != want.commits {
		t.Errorf("%s: %d commits, want %d", what, got.commits, want.commits)
	}
	if !maps.Equal(got.records, want.records) {
		t.Errorf("%s: the records are\n%v\nwant\n%v", what, got.records, want.records)
	}
}

// uncut returns the outcome where nothing is cut.
func (s *scene) uncut() outcome {
	s.t.Helper()
	s.try("", 0, nil)
	return s.settle("without a crash", nil)
}

// sample is which points of each kind are tried: all of them.
var sample = 1

// each lets a sync end at each point of a kind, one after the other, from the
// same state. After each the next sync goes on, which after looks at. It returns
// how many points there were. With the race detector, which is slow, it takes a
// sample.
func (s *scene) each(at crashtest.Point, after func(what string, signed *crashtest.Signed)) (points int) {
	s.t.Helper()
	for n := 1; ; n += sample {
		signed := crashtest.NewSigned(s.t)
		over := s.try(at, n, signed)
		after(fmt.Sprintf("%s, %d", at, n), signed)
		if !over || s.t.Failed() {
			return n - 1
		}
	}
}

// A5, B15, B16: a sync ends at any point, once at each: a message is lost, or
// its answer, in either direction; the connection is cut within a frame; the
// device ends between two transactions, within one, or around the change of a
// file. The next sync goes on, and everything is as it would have been. Where an
// answer is lost, the secondary ends as well, and comes back.
func TestCrashInSync(t *testing.T) {
	for _, tt := range []struct {
		at    crashtest.Point
		least int // that the scene has
	}{
		{crashtest.Sending, 9}, {crashtest.Sent, 9}, {crashtest.Received, 9},
		{crashtest.FrameUp, 12}, {crashtest.FrameIn, 12},
		{crashtest.Between, 12}, {crashtest.Within, 4}, {crashtest.File, 4},
	} {
		t.Run(string(tt.at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, busy(t))
			s.again()
			size := s.size()
			want := s.uncut()
			if len(want.records) != 8 {
				t.Fatalf("the scene has %d records: %v", len(want.records), want.records)
			}
			sent := false // a commit was in the log, and its answer lost
			points := s.each(tt.at, func(what string, signed *crashtest.Signed) {
				sent = sent || s.size() > size
				if tt.at == crashtest.Sent { // the secondary ends, too
					s.p.server.Stop()
					s.p.server.Start()
				}
				expect(t, what, s.settle(what, signed), want)
			})
			if points < tt.least {
				t.Errorf("only %d points, want %d or more", points, tt.least)
			}
			if tt.at == crashtest.Sent && !sent {
				t.Error("no commit was in the log without an answer")
			}
		})
	}
}

// B16: the sync of one vault is cut at its first point, the next at its second,
// and so on: it converges.
func TestCrashAgainAndAgain(t *testing.T) {
	for _, at := range []crashtest.Point{crashtest.Sending, crashtest.Sent, crashtest.Received, crashtest.Between} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, busy(t))
			want := s.uncut()
			s.again()
			signed := crashtest.NewSigned(t)
			n := 1
			for s.crash(at, n, signed) {
				n++
			}
			expect(t, string(at), s.settle(string(at), signed), want)
			if n < 4 {
				t.Errorf("only %d syncs", n)
			}
		})
	}
}

// B16: commits that go in parts are cut between and within them, in both
// directions.
func TestCrashInParts(t *testing.T) {
	for _, at := range []crashtest.Point{crashtest.Sent, crashtest.Received, crashtest.FrameUp, crashtest.FrameIn} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(a, b *vault.Vault) {
				for i, v := range []*vault.Vault{a, b} {
					fatal(t, v.Update(t.Context(), "large", func(tx *vault.Tx) error {
						for j := range 35 { // 2.2 MiB: two parts
							if _, err := tx.Put(fmt.Sprint(i, j), long(64<<10, fmt.Sprint(j))); err != nil {
								return err
							}
						}
						return nil
					}))
				}
				sync(t, b)
			})
			want := s.uncut()
			points := s.each(at, func(what string, signed *crashtest.Signed) {
				expect(t, what, s.settle(what, signed), want)
			})
			if points < 3 {
				t.Errorf("only %d points", points)
			}
		})
	}
}

// size returns the size of the secondary's log.
func (s *scene) size() uint64 {
	s.t.Helper()
	head, err := s.p.server.Engine().Head(s.t.Context(), s.p.root.VaultID(), math.MaxUint64)
	fatal(s.t, err)
	return head.Size
}

// A5: a device ends around each durable step of a write. What the caller was not
// told of has happened or not, all of it, and can be written again; what the
// caller was told of is there.
func TestCrashInWrite(t *testing.T) {
	ctx := context.Background()
	all := func(v *vault.Vault, do func(tx *vault.Tx, name string) error) error {
		return v.Update(ctx, "notes", func(tx *vault.Tx) error {
			for _, name := range []string{"x", "y", "z"} {
				if err := do(tx, name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	tests := []struct {
		name    string
		write   func(v *vault.Vault) error
		want    [3]string // of x, y, z, afterwards
		pending int       // changes in the outbox afterwards
		files   bool      // it changes files beside the store
	}{
		{"put", func(v *vault.Vault) error {
			_, err := v.Namespace("notes").Put(ctx, "x", []byte("new"))
			return err
		}, [3]string{"new", "sent", "not sent"}, 2, false},
		{"put over one not sent", func(v *vault.Vault) error {
			_, err := v.Namespace("notes").Put(ctx, "z", []byte("new"))
			return err
		}, [3]string{"sent", "sent", "new"}, 1, false},
		{"delete", func(v *vault.Vault) error {
			return v.Namespace("notes").Delete(ctx, "x")
		}, [3]string{"-", "sent", "not sent"}, 2, false},
		{"delete of one not sent", func(v *vault.Vault) error {
			return v.Namespace("notes").Delete(ctx, "z")
		}, [3]string{"sent", "sent", "-"}, 0, false},
		{"transaction", func(v *vault.Vault) error {
			return all(v, func(tx *vault.Tx, name string) error {
				_, err := tx.Put(name, []byte("new"))
				return err
			})
		}, [3]string{"new", "new", "new"}, 4, false},
		{"long value", func(v *vault.Vault) error {
			_, err := v.Namespace("notes").Put(ctx, "x", long(70<<10, "new"))
			return err
		}, [3]string{string(long(70<<10, "new")), "sent", "not sent"}, 2, true},
	}
	look := func(t *testing.T, v *vault.Vault) [3]string {
		t.Helper()
		return [3]string{get(t, v, "x"), get(t, v, "y"), get(t, v, "z")}
	}
	before := [3]string{"sent", "sent", "not sent"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(a, b *vault.Vault) {
				put(t, a, "x", "sent")
				put(t, a, "y", "sent")
				sync(t, a, b)
				put(t, a, "z", "not sent")
			})
			for _, at := range crashtest.Images {
				points := 0
				for s.crashWrite(at, points+1, tt.write) {
					points++
					a := s.open(s.a, vault.Config{})
					got := look(t, a)
					if at == crashtest.Between && got != tt.want { // it was acknowledged
						t.Errorf("%s, %d: lost: %.20q", at, points, got)
					}
					if at != crashtest.Between && got != before {
						t.Errorf("%s, %d: half done: %.20q", at, points, got)
					}
					if got != tt.want {
						fatal(t, tt.write(a))
					}
					st, err := a.Status(ctx)
					fatal(t, err)
					if got := look(t, a); got != tt.want || st.Pending != tt.pending {
						t.Errorf("%s, %d: %.20q and %d pending, want %.20q and %d", at, points, got, st.Pending, tt.want, tt.pending)
					}
					b := s.open(s.b, vault.Config{})
					sync(t, a, b)
					if got := look(t, b); got != tt.want {
						t.Errorf("%s, %d: the other device has %.20q, want %.20q", at, points, got, tt.want)
					}
					sameDigest(t, a, b)
					fatal(t, errors.Join(a.Close(), b.Close()))
				}
				if points == 0 && (at != crashtest.File || tt.files) {
					t.Errorf("%s: no point", at)
				}
			}
		})
	}
}

// crashWrite brings the scene back and makes a write on device a with a crash at
// the n-th point of a kind. It reports whether the crash came.
func (s *scene) crashWrite(at crashtest.Point, n int, write func(v *vault.Vault) error) bool {
	s.t.Helper()
	s.again()
	c := crashtest.New(s.t, at, n, s.taps, nil, s.a)
	a := s.open(s.a, vault.Config{Now: c.Now, NoSync: true})
	err := write(a)
	if err != nil && !c.Over() {
		s.t.Fatalf("%s, %d: %v", at, n, err)
	}
	c.Step() // acknowledged
	fatal(s.t, a.Close())
	c.Restore()
	return c.Over()
}

// A5: what is written over changes that are signed and on their way goes behind
// them, whatever became of those.
func TestWriteAfterCrash(t *testing.T) {
	for _, at := range []crashtest.Point{crashtest.Sent, crashtest.Received} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, busy(t))
			s.each(at, func(what string, signed *crashtest.Signed) {
				a := s.open(s.a, vault.Config{NoSync: true})
				put(t, a, "here", "later")
				fatal(t, a.Namespace("notes").Delete(t.Context(), "both"))
				_, err := a.Namespace("files").Put(t.Context(), "here", []byte("later"))
				fatal(t, err)
				fatal(t, a.Update(t.Context(), "pairs", func(tx *vault.Tx) error {
					_, err := tx.Put("two", []byte("later"))
					return err
				}))
				fatal(t, a.Close())
				s.settle(what, signed)
				b := s.open(s.b, vault.Config{NoSync: true})
				for _, name := range []string{"notes/here", "files/here", "pairs/two"} {
					ns, name, _ := strings.Cut(name, "/")
					rec, err := b.Namespace(ns).Get(t.Context(), name)
					fatal(t, err)
					if string(rec.Value) != "later" || rec.Siblings != 0 {
						t.Errorf("%s: %s/%s: %d bytes, %d siblings", what, ns, name, len(rec.Value), rec.Siblings)
					}
				}
				fatal(t, b.Close())
			})
		})
	}
}
