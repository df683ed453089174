package vault_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// increment counts one up in a record, and tells how often it ran.
func increment(runs *int, name string) func(tx *vault.Tx) error {
	return func(tx *vault.Tx) error {
		if runs != nil {
			*runs++
		}
		n, err := counted(tx.Get(name))
		if err == nil {
			_, err = tx.Put(name, binary.BigEndian.AppendUint64(nil, n+1))
		}
		return err
	}
}

func counted(rec *vault.Record, err error) (uint64, error) {
	if errors.Is(err, vault.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(rec.Value), nil
}

// count returns what is counted in a record of "notes", -1 if it has siblings.
func count(t testing.TB, v *vault.Vault, name string) int {
	t.Helper()
	rec, err := v.Namespace("notes").Get(t.Context(), name)
	if err == nil && rec.Siblings > 0 {
		return -1
	}
	n, err := counted(rec, err)
	fatal(t, err)
	return int(n)
}

func undecided(t testing.TB, v *vault.Vault) int {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	if st.Alarm != "" {
		t.Errorf("alarm: %s", st.Alarm)
	}
	return st.Undecided
}

// transactThrough has the transactions of a vault go through what wrap makes of
// each session, which is told the number of the session, from 1.
func transactThrough(v *vault.Vault, wrap func(n int, m client.Messenger) client.Messenger) {
	n := 0
	v.SetDial(through(func(m client.Messenger) client.Messenger {
		n++
		return wrap(n, m)
	}).Dial)
}

// refuse returns a session in which matching commits are refused with a code;
// if lying, the secondary takes them all the same.
func refuse(code wire.Code, lying bool, match func(u *wire.Upload) bool) func(m client.Messenger) client.Messenger {
	return func(m client.Messenger) client.Messenger {
		b := &between{Messenger: m, inject: make(chan wire.Message, 16)}
		b.send = func(m wire.Message) []wire.Message {
			u, ok := m.(*wire.Upload)
			if !ok || !match(u) {
				return []wire.Message{m}
			}
			var results []wire.Result
			for _, item := range u.Items {
				bundle, err := commitlog.ParseBundle(item.Data)
				if err != nil {
					panic(err)
				}
				results = append(results, wire.Result{Seq: bundle.Commit.Header.Seq, Code: code, Text: "said so"})
			}
			b.inject <- &wire.Uploaded{Results: results}
			if lying {
				return []wire.Message{m}
			}
			return nil
		}
		b.receive = func(m wire.Message) []wire.Message {
			if _, ok := m.(*wire.Uploaded); ok && lying {
				return nil
			}
			return []wire.Message{m}
		}
		return b
	}
}

// commits returns the size of the secondary's log.
func (p *person) commits() uint64 {
	p.t.Helper()
	head, err := p.server.Engine().Head(p.t.Context(), p.root.VaultID(), math.MaxUint64)
	fatal(p.t, err)
	return head.Size
}

// E34: two devices book the same room for the same night. Exactly one succeeds,
// and the other is told.
func TestTransactRoom(t *testing.T) {
	p := newPerson(t)
	devices := []*vault.Vault{p.device(vault.Config{}), p.device(vault.Config{})}
	taken := errors.New("taken")
	for night := range 5 {
		name := fmt.Sprint("room 7/", night)
		errs := make([]error, len(devices))
		var wg gosync.WaitGroup
		for i, v := range devices {
			wg.Go(func() {
				errs[i] = v.Transact(t.Context(), "rooms", func(tx *vault.Tx) error {
					if _, err := tx.Get(name); !errors.Is(err, vault.ErrNotFound) {
						return errors.Join(err, taken)
					}
					_, err := tx.Put(name, fmt.Append(nil, i))
					return err
				})
			})
		}
		wg.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		if errs[winner] != nil || !errors.Is(errs[1-winner], taken) {
			t.Fatalf("night %d: %v and %v", night, errs[0], errs[1])
		}
		sync(t, devices...)
		for _, v := range devices {
			rec, err := v.Namespace("rooms").Get(t.Context(), name)
			fatal(t, err)
			if string(rec.Value) != fmt.Sprint(winner) || rec.Siblings != 0 {
				t.Errorf("night %d: booked by %s, %d siblings; want %d", night, rec.Value, rec.Siblings, winner)
			}
		}
	}
	sameDigest(t, devices[0], devices[1])
}

// Devices with and without Run, and several goroutines on each, count in the same
// record. None is lost and none is doubled.
func TestTransactContention(t *testing.T) {
	p := newPerson(t)
	devices := make([]*vault.Vault, 3)
	for i := range devices {
		devices[i] = p.device(vault.Config{})
	}
	runLive(t, devices[0], vault.SyncOptions{}, nil)
	const each = 4
	var wg gosync.WaitGroup
	for _, v := range devices {
		for range 2 {
			wg.Go(func() {
				for done := 0; done < each; {
					err := v.Transact(t.Context(), "notes", increment(nil, "n"))
					switch {
					case err == nil:
						done++
					case !errors.Is(err, vault.ErrContention):
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	sync(t, devices[1:]...)
	fatal(t, devices[0].Transact(t.Context(), "notes", func(*vault.Tx) error { return nil })) // in step
	for i, v := range devices {
		if got, want := count(t, v, "n"), len(devices)*2*each; got != want {
			t.Errorf("device %d: counted %d, want %d", i, got, want)
		}
		if n := undecided(t, v); n != 0 {
			t.Errorf("device %d: %d undecided", i, n)
		}
	}
	sameDigest(t, devices[1], devices[2])
}

func TestTransactOffline(t *testing.T) {
	p := newPerson(t)
	v := p.device(vault.Config{})
	sync(t, v)
	p.server.Stop()
	runs := 0
	if err := v.Transact(t.Context(), "notes", increment(&runs, "n")); !errors.Is(err, vault.ErrOffline) {
		t.Errorf("offline: %v, want ErrOffline", err)
	}
	st, err := v.Status(t.Context())
	fatal(t, err)
	if runs != 0 || st.Pending != 0 || st.Undecided != 0 || len(st.Namespaces) != 0 {
		t.Errorf("it left %+v after %d runs", st, runs)
	}
	p.server.Start()
	fatal(t, v.Transact(t.Context(), "notes", increment(&runs, "n")))
	if runs != 1 || count(t, v, "n") != 1 {
		t.Errorf("counted %d in %d runs", count(t, v, "n"), runs)
	}
	alone := newVault(t, vault.Config{})
	if err := alone.Transact(t.Context(), "notes", increment(&runs, "n")); !errors.Is(err, vault.ErrNotEnrolled) {
		t.Errorf("without a secondary: %v", err)
	}
}

// An error of fn comes back as it is and a panic comes out, and neither leaves
// anything. A transaction without a write sends nothing, but has seen the log.
func TestTransactNothing(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, b, "x", "1")
	sync(t, b)
	size := p.commits()
	mine := errors.New("mine")
	err := a.Transact(t.Context(), "new", func(tx *vault.Tx) error {
		_, err := tx.Put("x", nil)
		return errors.Join(err, mine)
	})
	if !errors.Is(err, mine) || errors.As(err, new(*vault.Error)) {
		t.Errorf("error of fn: %v", err)
	}
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("panic %v", p)
			}
		}()
		_ = a.Transact(t.Context(), "new", func(tx *vault.Tx) error {
			_, _ = tx.Put("x", nil)
			panic("mine")
		})
	}()
	got := ""
	fatal(t, a.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
		rec, err := tx.Get("x")
		if err == nil {
			got = string(rec.Value)
		}
		return err
	}))
	if got != "1" {
		t.Errorf("read %q", got)
	}
	fatal(t, a.Transact(t.Context(), "notes", func(tx *vault.Tx) error { // written and taken back
		if _, err := tx.Put("y", nil); err != nil {
			return err
		}
		return tx.Delete("y")
	}))
	names, err := a.Namespaces(t.Context())
	fatal(t, err)
	if p.commits() != size || len(names) != 1 || undecided(t, a) != 0 {
		t.Errorf("%d commits, want %d; namespaces %q", p.commits(), size, names)
	}
	if err := a.Transact(t.Context(), "No", func(*vault.Tx) error { return nil }); !errors.Is(err, vault.ErrInvalid) {
		t.Errorf("namespace that cannot be: %v", err)
	}
	err = a.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
		_, err := tx.Put("x", make([]byte, 64<<10+1))
		return err
	})
	if !errors.Is(err, vault.ErrTooLarge) {
		t.Errorf("value too large: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Transact(ctx, "notes", increment(nil, "n")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	sync(t, a) // all goes on
}

// Nothing shows before the commit is in the verified log, and then it does, to a
// Watch too, with the namespace's name on the other device. What was put on the
// way is a concurrent edit.
func TestTransactShows(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprint("live ", live), func(t *testing.T) {
			p := newPerson(t)
			a, b := p.device(vault.Config{}), p.device(vault.Config{})
			put(t, a, "x", "1")
			sync(t, a, b)
			sub := a.Watch(t.Context(), "notes")
			sent := make(chan struct{})
			looked := make(chan struct{})
			o := through(func(m client.Messenger) client.Messenger {
				return &between{Messenger: m, send: func(m wire.Message) []wire.Message {
					if u, ok := m.(*wire.Upload); ok && u.Condition != nil {
						close(sent)
						<-looked
					}
					return []wire.Message{m}
				}}
			})
			a.SetDial(o.Dial)
			if live {
				runLive(t, a, o, nil)
			}
			done := make(chan error, 1)
			go func() {
				done <- a.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
					for _, name := range []string{"x", "y"} {
						if _, err := tx.Put(name, []byte("2")); err != nil {
							return err
						}
					}
					return tx.Delete("nothing")
				})
			}()
			<-sent
			if get(t, a, "x") != "1" || get(t, a, "y") != "-" {
				t.Errorf("shown before: %q, %q", get(t, a, "x"), get(t, a, "y"))
			}
			names := 0
			for _, err := range a.Namespace("notes").List(t.Context()) {
				fatal(t, err)
				names++
			}
			st, err := a.Status(t.Context())
			fatal(t, err)
			if names != 1 || st.Pending != 0 || st.Undecided != 1 {
				t.Errorf("listed %d; %d pending, %d undecided", names, st.Pending, st.Undecided)
			}
			put(t, a, "y", "beside")
			if rec := <-sub.C; rec.Name != "y" || string(rec.Value) != "beside" {
				t.Errorf("event %q: %q", rec.Name, rec.Value)
			}
			close(looked)
			fatal(t, <-done)
			if got := get(t, a, "x"); got != "2" {
				t.Errorf("after: %q", got)
			}
			seen := map[string]bool{}
			for !seen["x"] {
				seen[(<-sub.C).Name] = true
			}
			if live {
				fatal(t, a.Transact(t.Context(), "notes", func(*vault.Tx) error { return nil })) // y has gone up
			} else {
				sync(t, a)
			}
			sync(t, b)
			rec, err := b.Namespace("notes").Get(t.Context(), "y")
			fatal(t, err)
			if rec.Siblings != 1 || get(t, b, "x") != "2" {
				t.Errorf("other device: %d siblings, x %q", rec.Siblings, get(t, b, "x"))
			}
			sameDigest(t, a, b)
		})
	}
}

// What was put before goes up first, and fn sees it; what the secondary refuses
// is not waited for, and not lost.
func TestTransactPending(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "1")
	_, err := a.Namespace("other").Put(t.Context(), "x", []byte("other"))
	fatal(t, err)
	add := func(tx *vault.Tx) error {
		rec, err := tx.Get("x")
		value := "-"
		if err == nil {
			value = string(rec.Value)
		} else if !errors.Is(err, vault.ErrNotFound) {
			return err
		}
		_, err = tx.Put("x", []byte(value+"+"))
		return err
	}
	fatal(t, a.Transact(t.Context(), "notes", add))
	if got := get(t, a, "x"); got != "1+" {
		t.Errorf("%q", got)
	}
	sync(t, a, b)

	put(t, a, "x", "refused")
	a.SetDial(through(refuse(wire.CodeTooLarge, false, func(u *wire.Upload) bool { return u.Condition == nil })).Dial)
	fatal(t, a.Transact(t.Context(), "notes", add))
	sync(t, b)
	if got := get(t, b, "x"); got != "1++" {
		t.Errorf("without what is refused: %q", got)
	}
	a.SetDial(nil) // the cause is gone
	sync(t, a, b)
	var all []string
	rec, err := b.Namespace("notes").Get(t.Context(), "x")
	fatal(t, err)
	for v, err := range b.Namespace("notes").History(t.Context(), "x") {
		fatal(t, err)
		if v.Live {
			all = append(all, string(v.Value))
		}
	}
	if rec.Siblings != 1 || len(all) != 2 {
		t.Errorf("%d siblings: %q", rec.Siblings, all)
	}
	sameDigest(t, a, b)
}
