package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A person has a root and a secondary, and any number of devices.
type person struct {
	t       testing.TB
	root    keys.Root
	server  *secondarytest.Server
	invite  wire.Invite
	devices int
}

func newPerson(t testing.TB) *person {
	t.Helper()
	s := secondarytest.New(t)
	return &person{t: t, root: keys.GenerateRoot(), server: s, invite: s.Invite()}
}

// device admits another device; the first creates the vault.
func (p *person) device(conf vault.Config) *vault.Vault {
	p.t.Helper()
	v, _ := p.deviceIn(p.t.TempDir()+"/vault", conf)
	return v
}

func (p *person) deviceIn(dir string, conf vault.Config) (*vault.Vault, *vault.Report) {
	p.t.Helper()
	d := newDevice(p.t, p.root)
	d.Servers = []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: keyfile.Binding(p.invite.Binding.String())}}
	p.devices++
	fatal(p.t, vault.Create(dir, d, fmt.Sprintf("device %d", p.devices)))
	v := openVault(p.t, dir, conf)
	var token *wire.Token
	if p.devices == 1 {
		token = &p.invite.Token
	}
	r, err := v.Enrol(p.t.Context(), p.root.Authority(), token, vault.SyncOptions{})
	fatal(p.t, err)
	return v, r
}

func sync(t testing.TB, vs ...*vault.Vault) *vault.Report {
	t.Helper()
	var r *vault.Report
	for _, v := range vs {
		var err error
		r, err = v.Sync(t.Context(), vault.SyncOptions{})
		fatal(t, err)
		if r.Pending != 0 || r.Missing != 0 || r.Aside != 0 || r.Quarantine != 0 {
			t.Fatalf("sync left %+v", r)
		}
	}
	return r
}

func put(t testing.TB, v *vault.Vault, name, value string) {
	t.Helper()
	_, err := v.Namespace("notes").Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

func get(t testing.TB, v *vault.Vault, name string) string {
	t.Helper()
	rec, err := v.Namespace("notes").Get(t.Context(), name)
	if errors.Is(err, vault.ErrNotFound) {
		return "-"
	}
	fatal(t, err)
	return string(rec.Value)
}

func sameDigest(t testing.TB, a, b *vault.Vault) {
	t.Helper()
	da, pa, err := a.Digest(t.Context())
	fatal(t, err)
	db, pb, err := b.Digest(t.Context())
	fatal(t, err)
	if da != db || pa != pb {
		t.Errorf("digests differ: %v (%d pending), %v (%d pending)", da, pa, db, pb)
	}
}

// A1, B10: create, update, delete and re-create reach the other device, whoever
// is ahead.
func TestTwoDevices(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	sync(t, a, b) // both empty
	put(t, a, "x", "1")
	sync(t, a, b)
	if got := get(t, b, "x"); got != "1" {
		t.Errorf("created: %q", got)
	}
	put(t, b, "x", "2")
	put(t, a, "y", "1") // both ahead
	sync(t, b, a, b)
	if get(t, a, "x") != "2" || get(t, b, "y") != "1" {
		t.Errorf("both ahead: %q, %q", get(t, a, "x"), get(t, b, "y"))
	}
	fatal(t, a.Namespace("notes").Delete(t.Context(), "x"))
	sync(t, a, b)
	if got := get(t, b, "x"); got != "-" {
		t.Errorf("deleted: %q", got)
	}
	put(t, b, "x", "3")
	sync(t, b, a)
	if got := get(t, a, "x"); got != "3" {
		t.Errorf("re-created: %q", got)
	}
	sameDigest(t, a, b)
	var versions []string
	for rec, err := range a.Namespace("notes").History(t.Context(), "x") {
		fatal(t, err)
		versions = append(versions, fmt.Sprintf("%s%v", rec.Value, rec.Deleted))
	}
	if want := []string{"3false", "true", "2false", "1false"}; !slices.Equal(versions, want) {
		t.Errorf("history: %q, want %q", versions, want)
	}
}

// B13: no echo; a second sync moves nothing.
func TestNoEcho(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	for i := range 50 {
		put(t, a, fmt.Sprint(i), "value")
	}
	first := sync(t, a)
	if first.Pulled != 0 || first.Pushed != 50 { // the namespace's own record nobody wrote
		t.Errorf("first: %+v", first)
	}
	again := sync(t, a)
	if again.Pulled != 0 || again.Pushed != 0 || again.BytesIn+again.BytesOut > 2048 {
		t.Errorf("again: %+v", again)
	}
	if r := sync(t, b); r.Pulled != 50 || r.Pushed != 0 {
		t.Errorf("the other: %+v", r)
	}
	st, err := a.Status(t.Context())
	fatal(t, err)
	// Commits 1 and 2 admit the devices; commit 3 holds all 51 changes (B12).
	if st.Commits != 3 {
		t.Errorf("%d commits, want 3", st.Commits)
	}
}

// A3: many unsent updates: only the last value goes up; created and deleted: nothing.
func TestCollapse(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	for i := range 100 {
		put(t, a, "x", fmt.Sprint(i))
	}
	put(t, a, "gone", "1")
	fatal(t, a.Namespace("notes").Delete(t.Context(), "gone"))
	if st, err := a.Status(t.Context()); err != nil || st.Pending != 1 {
		t.Errorf("%d to send, %v; want the value", st.Pending, err)
	}
	if r := sync(t, a); r.Pushed != 1 {
		t.Errorf("pushed %d, want the value", r.Pushed)
	}
	put(t, a, "x", "update")
	fatal(t, a.Namespace("notes").Delete(t.Context(), "x"))
	if r := sync(t, a); r.Pushed != 1 {
		t.Errorf("updated, then deleted: pushed %d, want the delete", r.Pushed)
	}
	sync(t, b)
	if get(t, b, "x") != "-" {
		t.Errorf("x: %q", get(t, b, "x"))
	}
}

// B13, A6: transactions that touch one record are not torn, and a transaction of
// 10,000 records is one commit.
func TestTransactionsArrive(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	two := func(x, y, value string) {
		fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
			if _, err := tx.Put(x, []byte(value)); err != nil {
				return err
			}
			_, err := tx.Put(y, []byte(value))
			return err
		}))
	}
	two("a", "b", "1")
	two("a", "c", "2")
	fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error { return tx.Delete("b") }))
	put(t, a, "b", "3")
	sync(t, a, b)
	if get(t, b, "a") != "2" || get(t, b, "b") != "3" || get(t, b, "c") != "2" {
		t.Errorf("got %q %q %q", get(t, b, "a"), get(t, b, "b"), get(t, b, "c"))
	}
	before, _ := a.Status(t.Context())
	fatal(t, a.Update(t.Context(), "many", func(tx *vault.Tx) error {
		for i := range 10_000 {
			if _, err := tx.Put(fmt.Sprint(i), []byte("v")); err != nil {
				return err
			}
		}
		return nil
	}))
	sync(t, a, b)
	after, _ := b.Status(t.Context())
	if after.Commits != before.Commits+1 || after.Records != 10_003 {
		t.Errorf("%d commits, %d records", after.Commits-before.Commits, after.Records)
	}
	sameDigest(t, a, b)
}

// E29: concurrent edits of a record, in any order of syncing: all devices equal.
func TestConflicts(t *testing.T) {
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	type write func(v *vault.Vault, value string) error
	update := func(v *vault.Vault, value string) error {
		_, err := v.Namespace("notes").Put(t.Context(), "x", []byte(value))
		return err
	}
	remove := func(v *vault.Vault, value string) error { return v.Namespace("notes").Delete(t.Context(), "x") }
	tests := []struct {
		name string
		a, b write
		want string // b writes later
		left int    // siblings beside it
	}{
		{"update, update", update, update, "b", 1},
		{"update, delete", update, remove, "a", 0},
		{"delete, update", remove, update, "b", 0},
		{"delete, delete", remove, remove, "-", 0},
	}
	for _, tt := range tests {
		for _, first := range []string{"a first", "b first"} {
			t.Run(tt.name+", "+first, func(t *testing.T) {
				p := newPerson(t)
				ca, cb := &manual{day}, &manual{day.Add(time.Hour)}
				a, b := p.device(vault.Config{Now: ca.now}), p.device(vault.Config{Now: cb.now})
				put(t, a, "x", "0")
				sync(t, a, b)
				fatal(t, tt.a(a, "a"))
				fatal(t, tt.b(b, "b"))
				if first == "a first" {
					sync(t, a, b, a)
				} else {
					sync(t, b, a, b)
				}
				for _, v := range []*vault.Vault{a, b} {
					if got := get(t, v, "x"); got != tt.want {
						t.Errorf("%q, want %q", got, tt.want)
					}
					if tt.want != "-" {
						rec, err := v.Namespace("notes").Get(t.Context(), "x")
						fatal(t, err)
						if rec.Siblings != tt.left {
							t.Errorf("%d siblings, want %d", rec.Siblings, tt.left)
						}
					}
				}
				sameDigest(t, a, b)
				put(t, a, "x", "settled")
				sync(t, a, b)
				if rec, _ := b.Namespace("notes").Get(t.Context(), "x"); string(rec.Value) != "settled" || rec.Siblings != 0 {
					t.Errorf("the next write: %+v", rec)
				}
			})
		}
	}
}

// A4, and the cases in which a write follows one that is under way, set aside
// or in a transaction.
func TestWriteBehind(t *testing.T) {
	for _, conf := range []vault.Config{{}, {KeepEach: true}} {
		t.Run(fmt.Sprintf("keep each %v", conf.KeepEach), func(t *testing.T) {
			p := newPerson(t)
			a, b := p.device(conf), p.device(vault.Config{})
			n := a.Namespace("notes")
			put(t, a, "x", "1")
			sync(t, a)
			for i, step := range []func(){
				func() { fatal(t, n.Delete(t.Context(), "x")); put(t, a, "x", "2") },
				func() { put(t, a, "x", "3"); fatal(t, n.Delete(t.Context(), "x")) },
				func() {
					fatal(t, a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
						if err := tx.Delete("x"); err != nil {
							return err
						}
						_, err := tx.Put("y", []byte("y"))
						return err
					}))
					put(t, a, "x", "4")
				},
			} {
				step()
				want := get(t, a, "x")
				sync(t, a, b)
				if got := get(t, b, "x"); got != want || get(t, a, "x") != want {
					t.Errorf("step %d: %q, want %q", i, got, want)
				}
				sameDigest(t, a, b)
			}
		})
	}
}

// A7, B11: long values go as objects, both ways; a commit larger than a frame
// goes in parts.
func TestLargeValues(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	sizes := []int{64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 17}
	for _, size := range sizes {
		value := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		_, err := a.Namespace("files").Put(t.Context(), fmt.Sprint(size), value)
		fatal(t, err)
	}
	fatal(t, a.Update(t.Context(), "big", func(tx *vault.Tx) error {
		for i := range 180 {
			if _, err := tx.Put(fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 64<<10)); err != nil {
				return err
			}
		}
		return nil
	}))
	sync(t, a, b)
	for _, size := range sizes {
		rec, err := b.Namespace("files").Get(t.Context(), fmt.Sprint(size))
		fatal(t, err)
		if want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]; !bytes.Equal(rec.Value, want) {
			t.Errorf("%d bytes: got %d other ones", size, len(rec.Value))
		}
	}
	sameDigest(t, a, b)
}

// F37: a device that has nothing but the root gets everything back.
func TestRestoreAll(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	for i := range 3000 {
		put(t, a, fmt.Sprintf("record %d", i), fmt.Sprint("value ", i))
	}
	sync(t, a)
	b, r := p.deviceIn(t.TempDir()+"/vault", vault.Config{})
	if r.Pulled != 3000 {
		t.Errorf("pulled %d", r.Pulled)
	}
	sync(t, a)
	sameDigest(t, a, b)
	if got := get(t, b, "record 2999"); got != "value 2999" {
		t.Errorf("got %q", got)
	}
	if got, _ := b.Namespaces(t.Context()); !slices.Equal(got, []string{"notes"}) {
		t.Errorf("namespaces: %q", got)
	}
}

// An empty secondary never makes a restore create anything (A3 of the attacks).
func TestEnrolWithoutInvite(t *testing.T) {
	p := newPerson(t)
	d := newDevice(t, p.root)
	d.Servers = []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: "none"}}
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, d, "laptop"))
	v := openVault(t, dir, vault.Config{})
	if _, err := v.Enrol(t.Context(), p.root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, wire.ErrDenied) && !errors.Is(err, commitlog.ErrNoGenesis) {
		t.Errorf("got %v", err)
	}
}

// C22: what one device writes, the connected ones see without asking; in order.
func TestLive(t *testing.T) {
	for _, n := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			p := newPerson(t)
			a := p.device(vault.Config{})
			runLive(t, a, vault.SyncOptions{}, nil)
			var subs []*vault.Subscription
			for range n {
				v := p.device(vault.Config{})
				subs = append(subs, v.Watch(t.Context(), "notes"))
				runLive(t, v, vault.SyncOptions{}, nil)
			}
			for i := range 20 {
				put(t, a, fmt.Sprintf("%02d", i), "v")
			}
			for _, sub := range subs {
				for i := range 20 {
					rec := <-sub.C
					if rec.Name != fmt.Sprintf("%02d", i) || string(rec.Value) != "v" {
						t.Fatalf("event %d: %+v", i, rec)
					}
				}
			}
		})
	}
}

// F39: a device is restored while another one writes.
func TestRestoreWhileAnotherWrites(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	for i := range 2000 {
		put(t, a, fmt.Sprintf("before %d", i), "v")
	}
	sync(t, a)
	runLive(t, a, vault.SyncOptions{}, nil)
	begun, stop, done := make(chan struct{}), make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			if _, err := a.Namespace("notes").Put(t.Context(), fmt.Sprintf("during %d", i), []byte("v")); err != nil {
				t.Error(err)
			}
			if i == 0 {
				close(begun)
			}
			select {
			case <-stop:
				done <- i + 1
				return
			default:
			}
		}
	}()
	<-begun
	b := p.device(vault.Config{})
	if got := get(t, b, "before 1999"); got != "v" {
		t.Errorf("right after the restore: %q", got)
	}
	close(stop)
	written := <-done
	sub := b.Watch(t.Context(), "notes", vault.Since(0))
	runLive(t, b, vault.SyncOptions{}, nil)
	last := fmt.Sprintf("during %d", written-1)
	for rec := range sub.C {
		if rec.Name == last {
			break
		}
	}
	for i := range written {
		if got := get(t, b, fmt.Sprintf("during %d", i)); got != "v" {
			t.Fatalf("record %d of %d: %q", i, written, got)
		}
	}
}
