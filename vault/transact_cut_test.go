package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// attempt reports whether a message carries a serialised commit.
func attempt(m wire.Message) bool {
	u, ok := m.(*wire.Upload)
	return ok && u.Condition != nil
}

// A cutter is a session that breaks where it is told to: with the message that
// is to be sent, or with one that has come.
type cutter struct {
	client.Messenger
	send, receive func(m wire.Message) (cut bool)
}

func (c *cutter) Send(ctx context.Context, m wire.Message) error {
	if c.send != nil && c.send(m) {
		return wire.ErrUnreachable
	}
	return c.Messenger.Send(ctx, m)
}

func (c *cutter) Receive(ctx context.Context) (wire.Message, error) {
	m, err := c.Messenger.Receive(ctx)
	if err == nil && c.receive != nil && c.receive(m) {
		return nil, wire.ErrUnreachable
	}
	return m, err
}

// cutBefore is a session that is cut when an attempt is to be sent: the
// secondary never sees it. then is called before the caller hears of it.
func cutBefore(then func()) func(m client.Messenger) client.Messenger {
	return func(m client.Messenger) client.Messenger {
		return &cutter{Messenger: m, send: func(m wire.Message) bool {
			if attempt(m) {
				then()
			}
			return attempt(m)
		}}
	}
}

// cutAfter is a session that is cut when the secondary has taken an attempt and
// says anything about it.
func cutAfter(then func()) func(m client.Messenger) client.Messenger {
	return func(m client.Messenger) client.Messenger {
		var sent atomic.Bool
		return &cutter{
			Messenger: m,
			send: func(m wire.Message) bool {
				if attempt(m) {
					sent.Store(true)
				}
				return false
			},
			receive: func(m wire.Message) bool {
				if t := m.Type(); !sent.Load() || t != wire.TypeUploaded && t != wire.TypeDownload {
					return false
				}
				then()
				return true
			},
		}
	}
}

// The connection is cut around the answer, once. The call finds its attempt in
// the log, or sends it again; fn runs again only where another was faster.
func TestTransactCut(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cut     func(then func()) func(client.Messenger) client.Messenger
		another bool // another device writes meanwhile
		runs    int
	}{
		{"before the secondary saw it", cutBefore, false, 1},
		{"before the secondary saw it, and another was faster", cutBefore, true, 2},
		{"answer lost", cutAfter, false, 1},
		{"answer lost, and another came after", cutAfter, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPerson(t)
			a, b := p.device(vault.Config{}), p.device(vault.Config{})
			fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
			size := p.commits()
			transactThrough(a, func(n int, m client.Messenger) client.Messenger {
				if n > 1 {
					return m
				}
				return tt.cut(func() {
					if tt.another {
						put(t, b, "x", "b")
						sync(t, b)
					}
				})(m)
			})
			runs := 0
			fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
			if got := count(t, a, "n"); got != 2 || runs != tt.runs {
				t.Errorf("counted %d in %d runs, want 2 in %d", got, runs, tt.runs)
			}
			if tt.another {
				size++
			}
			if p.commits() != size+1 || undecided(t, a) != 0 {
				t.Errorf("%d commits, want %d; %d undecided", p.commits(), size+1, undecided(t, a))
			}
			sync(t, a, b)
			sameDigest(t, a, b)
		})
	}
}

// The session is lost with the attempt, and another sync has the next one: it
// decides the attempt and sends what else there is, and neither waits for the
// other.
func TestTransactBesideSync(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	synced := make(chan error, 1)
	transactThrough(a, func(n int, m client.Messenger) client.Messenger {
		if n > 1 {
			return m
		}
		return cutBefore(func() {
			put(t, a, "y", "later")
			go func() {
				_, err := a.Sync(t.Context(), through(func(m client.Messenger) client.Messenger { return m }))
				synced <- err
			}()
		})(m)
	})
	runs := 0
	fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
	fatal(t, <-synced)
	if runs != 1 || undecided(t, a) != 0 {
		t.Errorf("%d runs, %d undecided", runs, undecided(t, a))
	}
	sync(t, b)
	if count(t, b, "n") != 1 || get(t, b, "y") != "later" {
		t.Errorf("counted %d, y is %q", count(t, b, "n"), get(t, b, "y"))
	}
	sameDigest(t, a, b)
}

// A call that ends before its attempt is decided says so. The attempt stays,
// over a restart, and the next sync decides it; it never happens twice.
func TestTransactUnknown(t *testing.T) {
	for i, tt := range []struct {
		name    string
		cut     func(then func()) func(client.Messenger) client.Messenger
		another bool // another device writes before it is decided
		want    int
	}{
		{"before the secondary saw it", cutBefore, false, 1},
		{"before the secondary saw it, and another was faster", cutBefore, true, 0},
		{"answer lost", cutAfter, false, 1},
		{"answer lost, and another came after", cutAfter, true, 1},
	} {
		for j, how := range []string{"cancelled", "closed", "lost"} {
			if sample > 1 && (i+j)%3 != 0 {
				continue
			}
			t.Run(tt.name+", "+how, func(t *testing.T) {
				p := newPerson(t)
				b := p.device(vault.Config{})
				dir := t.TempDir() + "/vault"
				a, _ := p.deviceIn(dir, vault.Config{})
				sync(t, a)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				want := error(context.Canceled)
				a.SetDial(through(tt.cut(func() {
					switch how {
					case "cancelled":
						cancel()
					case "closed":
						want = vault.ErrClosed
						fatal(t, a.Close())
					case "lost": // and so is every session after it
						want = wire.ErrUnreachable
						a.SetDial(func(context.Context, client.Server, client.Identity) (client.Messenger, error) {
							return nil, wire.ErrUnreachable
						})
					}
				})).Dial)
				runs := 0
				err := a.Transact(ctx, "notes", increment(&runs, "n"))
				if !errors.Is(err, vault.ErrOutcomeUnknown) || !errors.Is(err, want) {
					t.Fatalf("%v, want ErrOutcomeUnknown and %v", err, want)
				}
				if errors.Is(err, vault.ErrOffline) {
					t.Errorf("%v also says that nothing was written", err)
				}
				fatal(t, a.Close())
				a = openVault(t, dir, vault.Config{})
				if n := undecided(t, a); n != 1 || count(t, a, "n") != 0 {
					t.Errorf("after a restart: %d undecided, counted %d", n, count(t, a, "n"))
				}
				if tt.another {
					put(t, b, "x", "b")
					sync(t, b)
				}
				put(t, a, "y", "later") // goes up behind it
				sync(t, a, b)
				for _, v := range []*vault.Vault{a, b} {
					if count(t, v, "n") != tt.want || get(t, v, "y") != "later" || undecided(t, v) != 0 {
						t.Errorf("counted %d, want %d; y is %q; %d undecided", count(t, v, "n"), tt.want, get(t, v, "y"), undecided(t, v))
					}
				}
				if runs != 1 {
					t.Errorf("%d runs", runs)
				}
				fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
				if count(t, a, "n") != tt.want+1 || runs != 2 {
					t.Errorf("the next: counted %d in %d runs", count(t, a, "n"), runs)
				}
				sync(t, b)
				sameDigest(t, a, b)
			})
		}
	}
}

// The next transaction decides what the last one left before it runs.
func TestTransactAfterUnknown(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	a.SetDial(through(cutBefore(cancel)).Dial)
	if err := a.Transact(ctx, "notes", increment(nil, "n")); !errors.Is(err, vault.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	a.SetDial(nil)
	runs := 0
	fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
	if count(t, a, "n") != 2 || runs != 1 {
		t.Errorf("counted %d in %d runs", count(t, a, "n"), runs)
	}
}

// A refusal is the word of the secondary. Where the log does not bear it out, the
// outcome is not known; nothing else is held up.
func TestTransactRefused(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeTooLarge, wire.CodeCondition, wire.CodeOrder, wire.CodeAfterRefused, wire.CodeLimit} {
		t.Run(code.Err().Error(), func(t *testing.T) {
			p := newPerson(t)
			dir := t.TempDir() + "/vault"
			a, _ := p.deviceIn(dir, vault.Config{})
			a.SetDial(through(refuse(code, false, func(u *wire.Upload) bool { return u.Condition != nil })).Dial)
			err := a.Transact(t.Context(), "notes", increment(nil, "n"))
			if !errors.Is(err, vault.ErrOutcomeUnknown) || !errors.Is(err, code.Err()) {
				t.Fatalf("%v, want ErrOutcomeUnknown and %v", err, code.Err())
			}
			fatal(t, a.Close())
			a = openVault(t, dir, vault.Config{})
			if n := undecided(t, a); n != 1 {
				t.Errorf("%d undecided", n)
			}
			put(t, a, "x", "1") // takes its place
			sync(t, a)
			if n := undecided(t, a); n != 0 || count(t, a, "n") != 0 {
				t.Errorf("%d undecided, counted %d", n, count(t, a, "n"))
			}
			fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
			if count(t, a, "n") != 1 {
				t.Errorf("counted %d", count(t, a, "n"))
			}
		})
	}
}

// A secondary that refuses an attempt and takes it all the same is found out.
func TestTransactRefusedAndTaken(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	a.SetDial(through(refuse(wire.CodeTooLarge, true, func(u *wire.Upload) bool { return u.Condition != nil })).Dial)
	runs := 0
	fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
	a.SetDial(nil)
	put(t, a, "x", "1")
	sync(t, a, b)
	for _, v := range []*vault.Vault{a, b} {
		if count(t, v, "n") != 1 || get(t, v, "x") != "1" {
			t.Errorf("counted %d, x is %q", count(t, v, "n"), get(t, v, "x"))
		}
	}
	if runs != 1 {
		t.Errorf("%d runs", runs)
	}
	sameDigest(t, a, b)
}

// A transaction goes along with Run's session, which goes on.
func TestTransactWithRun(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	a.SetDial(func(context.Context, client.Server, client.Identity) (client.Messenger, error) {
		return nil, errors.New("a session beside Run's")
	})
	runLive(t, a, through(func(m client.Messenger) client.Messenger { return m }), nil)
	for i := range 3 {
		put(t, a, "x", fmt.Sprint(i))
		fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
		fatal(t, b.Transact(t.Context(), "notes", increment(nil, "n")))
	}
	fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
	sync(t, b)
	for _, v := range []*vault.Vault{a, b} {
		if count(t, v, "n") != 7 || get(t, v, "x") != "2" {
			t.Errorf("counted %d, x is %q", count(t, v, "n"), get(t, v, "x"))
		}
	}
}

// It goes up through a Run that only pulls, and beside one that is paused.
func TestTransactWhilePulling(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	runLive(t, a, vault.SyncOptions{Mode: vault.PullOnly}, nil)
	put(t, a, "x", "1")
	fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
	a.Pause()
	fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
	a.Resume()
	fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
	sync(t, b)
	if count(t, b, "n") != 3 || get(t, b, "x") != "1" {
		t.Errorf("counted %d, x is %q", count(t, b, "n"), get(t, b, "x"))
	}
}

// Run that cannot connect: offline at once.
func TestTransactRunOffline(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	runLive(t, a, vault.SyncOptions{}, nil)
	p.server.Stop()
	if err := a.Transact(t.Context(), "notes", increment(nil, "n")); !errors.Is(err, vault.ErrOffline) {
		t.Errorf("%v, want ErrOffline", err)
	}
	p.server.Start()
	fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
	if count(t, a, "n") != 1 {
		t.Errorf("counted %d", count(t, a, "n"))
	}
}

// A large transaction goes up in parts, and is cut within.
func TestTransactLarge(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	cuts := 0
	transactThrough(a, func(n int, m client.Messenger) client.Messenger {
		return &cutter{Messenger: m, send: func(m wire.Message) bool {
			if _, ok := m.(*wire.Upload); ok && n == 1 {
				cuts++ // the first part arrives
			}
			return n == 1 && cuts > 1
		}}
	})
	large := func(tx *vault.Tx) error {
		for j := range 70 { // 4.4 MiB: three parts
			if _, err := tx.Put(fmt.Sprint(j), long(64<<10, fmt.Sprint(j))); err != nil {
				return err
			}
		}
		return nil
	}
	fatal(t, a.Transact(t.Context(), "notes", large))
	sync(t, b)
	if got := get(t, b, "69"); got != string(long(64<<10, "69")) {
		t.Errorf("%d bytes", len(got))
	}
	sameDigest(t, a, b)
	var info *vault.CommitInfo
	log, err := a.Log(t.Context(), 0, 100)
	fatal(t, err)
	info = log[len(log)-1]
	if info.Kind != commitlog.KindSerialised || info.Changes != 71 {
		t.Errorf("commit of kind %d with %d changes", info.Kind, info.Changes)
	}
}

// A5, B15, B16, E34: a sync that has an attempt to decide ends at any point. The
// next goes on, and what comes of the attempt comes once.
func TestCrashWithAttempt(t *testing.T) {
	for _, at := range []crashtest.Point{crashtest.Sending, crashtest.Sent, crashtest.Received, crashtest.Between, crashtest.Within} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(a, b *vault.Vault) {
				put(t, a, "x", "0")
				sync(t, a, b)
				ctx, cancel := context.WithCancel(t.Context())
				a.SetDial(through(cutBefore(cancel)).Dial)
				if err := a.Transact(ctx, "notes", increment(nil, "n")); !errors.Is(err, vault.ErrOutcomeUnknown) {
					t.Fatal(err)
				}
				put(t, a, "x", "1")
			})
			want := s.uncut()
			if len(want.records) != 2 {
				t.Fatalf("the scene has %d records: %v", len(want.records), want.records)
			}
			points := s.each(at, func(what string, signed *crashtest.Signed) {
				expect(t, what, s.settle(what, signed), want)
			})
			if points < 2 {
				t.Errorf("only %d points", points)
			}
		})
	}
}

// A device ends at any point of a transaction. What was acknowledged has
// happened; what was not has happened once or not at all, and nothing is left
// over after a sync.
func TestCrashInTransact(t *testing.T) {
	for _, at := range []crashtest.Point{crashtest.Sending, crashtest.Sent, crashtest.Received, crashtest.Within} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(a, b *vault.Vault) {
				put(t, a, "x", "0")
				sync(t, a, b)
				put(t, a, "x", "1")
			})
			for n, over := 1, true; over; n++ {
				s.again()
				signed := crashtest.NewSigned(t)
				c := crashtest.New(t, at, n, s.taps, signed, s.a)
				a := s.open(s.a, vault.Config{Now: c.Now, NoSync: true})
				a.SetDial(c.Dial)
				runs := 0
				err := a.Transact(t.Context(), "notes", increment(&runs, "n"))
				// An image is of a moment at which the caller knew nothing.
				done := err == nil && at != crashtest.Within
				if err != nil && !c.Over() {
					t.Fatalf("%s, %d: %v", at, n, err)
				}
				fatal(t, a.Close())
				c.Restore()
				over = c.Over()
				what := fmt.Sprintf("%s, %d", at, n)
				s.settle(what, signed)
				b := s.open(s.b, vault.Config{NoSync: true})
				got := count(t, b, "n")
				if done && got != 1 || got > 1 || got < 0 || !over && got != 1 {
					t.Errorf("%s: counted %d; the call said %v", what, got, err)
				}
				if got == 0 && errors.Is(err, vault.ErrOutcomeUnknown) && at != crashtest.Within {
					t.Errorf("%s: nobody was faster, and it is gone", what)
				}
				fatal(t, b.Close())
				if t.Failed() {
					return
				}
			}
		})
	}
}
