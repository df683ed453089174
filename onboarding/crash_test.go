package onboarding_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A home is what one device has: a directory with a vault's in it, and one with
// a key file's.
type home struct {
	t      testing.TB
	dir    string
	server *secondarytest.Server
	taps   crashtest.Taps
	signed *crashtest.Signed // checks what is sent; nil: nothing does
}

func newHome(t testing.TB, server *secondarytest.Server, taps crashtest.Taps) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), server: server, taps: taps}
	fatal(t, os.Mkdir(h.file("keys"), 0o700))
	return h
}

func newServer(t testing.TB) (*secondarytest.Server, crashtest.Taps) {
	t.Helper()
	taps := crashtest.NewTaps()
	return secondarytest.NewWith(t, secondarytest.Options{Tap: taps.Tap}), taps
}

func (h *home) file(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

// key is the path of the key file.
func (h *home) key() string { return h.file("keys/me.kistkey") }

// config is for this home, and for a crash if c is not nil.
func (h *home) config(invite *wire.Invite, c *crashtest.Crash) onboarding.Config {
	conf := config(h.file("vault"), h.key(), invite)
	if c == nil && h.signed != nil {
		conf.Sync.Dial = crashtest.New(h.t, "", 0, h.taps, h.signed).Dial
	}
	if c != nil {
		conf.Now, conf.Vault.Now = c.Now, c.Now
		conf.Unlock.Passphrase = func() ([]byte, error) { c.Step(); return passphrase, nil }
		conf.Sync = vault.SyncOptions{Dial: c.Dial, Step: c.Step}
	}
	return conf
}

// names returns all files and directories of the home but the objects.
func (h *home) names() []string {
	h.t.Helper()
	var out []string
	fatal(h.t, filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(h.dir, path)
		if path != h.dir {
			out = append(out, filepath.ToSlash(rel))
		}
		if d.IsDir() && d.Name() == "objects" {
			return fs.SkipDir
		}
		return err
	}))
	return out
}

// whole are the names of a home when all has gone well, local those of one
// whose vault no secondary has yet.
var (
	whole = []string{"keys", "keys/me.kistkey", "vault", "vault/device.key", "vault/objects", "vault/vault.db"}
	local = []string{"keys", "keys/me.kistkey", "vault", "vault/device.key", "vault/objects", "vault/onboarding", "vault/vault.db"}
)

// openKey opens the key file; nil if there is none.
func (h *home) openKey() *keyfile.File {
	h.t.Helper()
	f, err := keyfile.Open(h.key(), h.config(nil, nil).Unlock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	fatal(h.t, err)
	return f
}

// vaults returns how many vaults the secondary has.
func (h *home) vaults() int {
	h.t.Helper()
	n, err := h.server.Engine().Vaults(h.t.Context())
	fatal(h.t, err)
	return n
}

// check fails the test unless the home is whole: one key, its vault, admitted
// and usable, with these records. It returns the vault's status.
func (h *home) check(records ...string) *vault.Status {
	t := h.t
	t.Helper()
	if got := h.names(); !slices.Equal(got, whole) {
		t.Fatalf("there is %q, want %q", got, whole)
	}
	f := h.openKey()
	v, err := vault.Open(t.Context(), h.file("vault"), vault.Config{})
	fatal(t, err)
	defer func() { fatal(t, v.Close()) }()
	if v.ID() != f.Vault {
		t.Errorf("the key is for another vault")
	}
	r, err := v.Sync(t.Context(), vault.SyncOptions{})
	if err != nil || r.Pending != 0 {
		t.Fatalf("sync: %+v, %v", r, err)
	}
	st, err := v.Status(t.Context())
	fatal(t, err)
	if !st.Enrolled || st.Alarm != "" || st.Missing != 0 || st.Quarantine != 0 || st.Records != len(records) {
		t.Errorf("status %+v", st)
	}
	for _, name := range records {
		rec, err := v.Namespace("notes").Get(t.Context(), name)
		fatal(t, err)
		if !bytes.Equal(rec.Value, content(name)) {
			t.Errorf("%s has %d bytes", name, len(rec.Value))
		}
	}
	return st
}

// content is the value of the record of that name; "long" has a long one.
func content(name string) []byte {
	if name == "long" {
		return bytes.Repeat([]byte("0123456789"), 20<<10)
	}
	return []byte("content of " + name)
}

func putAll(t testing.TB, dir string, names ...string) {
	t.Helper()
	v, err := vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	for _, name := range names {
		_, err := v.Namespace("notes").Put(t.Context(), name, content(name))
		fatal(t, err)
	}
	fatal(t, v.Close())
}

// all are the kinds of points at which onboarding is ended.
var all = []crashtest.Point{
	crashtest.Sending, crashtest.Sent, crashtest.Received, crashtest.FrameUp, crashtest.FrameIn,
	crashtest.Between, crashtest.Within, crashtest.File,
}

// site is where tries are made one after the other: a secondary of its own, and
// what a try needs to know of those before.
type site struct {
	server  *secondarytest.Server
	taps    crashtest.Taps
	vaults  int          // at the secondary
	devices int          // of the newest vault
	invite  *wire.Invite // may be nil
	key     []byte       // a key file that is there before; may be nil
	root    keys.Root    // in it
}

// An ending is something that is ended at each point of each kind.
type ending struct {
	begin func(t *testing.T, s *site) *home                                    // makes a home for one try
	do    func(context.Context, onboarding.Config) (*onboarding.Result, error) // is ended
	after func(t *testing.T, s *site, h *home)                                 // gets what is left
}

// sample thins what is tried at each point: every sample-th.
var sample = 1

// run makes the tries. A refusal takes the secondary a quarter of a second, so
// all kinds are under way at a time, and several tries of the kind that has the
// most points.
func (e ending) run(t *testing.T, points ...crashtest.Point) {
	var busy sync.WaitGroup
	for _, at := range points {
		sites := 2
		if at == crashtest.File {
			sites = 4
		}
		busy.Go(func() {
			t.Run(string(at), func(t *testing.T) {
				var busy sync.WaitGroup
				for i := range sites {
					s := &site{devices: commitlog.MaxDevices}
					s.server, s.taps = newServer(t)
					busy.Go(func() {
						for n := i + 1; e.try(t, s, at, n); n += sites * sample {
						}
					})
				}
				busy.Wait()
			})
		})
	}
	busy.Wait()
}

// try makes the n-th try and reports whether to go on: there was a point to end
// it at, and all was well.
func (e ending) try(t *testing.T, s *site, at crashtest.Point, n int) (more bool) {
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		h := e.begin(t, s)
		h.signed = crashtest.NewSigned(t)
		c := crashtest.New(t, at, n, h.taps, h.signed, h.dir)
		_, err := e.do(t.Context(), h.config(s.invite, c))
		if err != nil && !c.Over() || vault.IsAlarm(err) {
			t.Fatal(err)
		}
		c.Restore()
		e.after(t, s, h)
		if n == 1 && !c.Over() {
			t.Error("there is no such point")
		}
		more = c.Over() && !t.Failed()
	})
	return more
}

// Making a vault is ended anywhere. The secondary has not heard of the vault
// before its key has a name; running the same again ends well, with one key and
// one vault.
func TestCrashInCreate(t *testing.T) {
	ending{
		begin: func(t *testing.T, s *site) *home {
			i := s.server.Invite()
			s.invite = &i
			return newHome(t, s.server, s.taps)
		},
		do: onboarding.Onboard,
		after: func(t *testing.T, s *site, h *home) {
			first := h.openKey()
			if first == nil && h.vaults() != s.vaults {
				t.Errorf("the secondary knows the vault, and there is no key")
			}
			if _, err := onboarding.Onboard(t.Context(), h.config(s.invite, nil)); err != nil {
				t.Fatalf("again: %v; there is %q", err, h.names())
			}
			s.vaults++
			if n := h.vaults(); n != s.vaults {
				t.Errorf("%d vaults at the secondary, want %d", n, s.vaults)
			}
			if f := h.openKey(); first != nil && f.Vault != first.Vault {
				t.Errorf("another key has taken the place of the first")
			}
			if st := h.check(); st.Commits != 1 || len(st.Devices) != 1 {
				t.Errorf("%d commits, %d devices", st.Commits, len(st.Devices))
			}
			r, err := onboarding.Onboard(t.Context(), h.config(s.invite, nil))
			if err != nil || !r.Already {
				t.Errorf("a third time: %+v, %v", r, err)
			}
		},
	}.run(t, all...)
}

// F38: a restore is ended anywhere, and goes on: the device is admitted once, and
// everything comes back. Joining with the same key file is the same.
func TestCrashInRestore(t *testing.T) {
	records := []string{"one", "two", "long"}
	for _, tt := range []struct {
		name   string
		do     func(context.Context, onboarding.Config) (*onboarding.Result, error)
		invite bool // the key file names no secondary; an invite does
		points []crashtest.Point
	}{
		{"restore", onboarding.Restore, false, []crashtest.Point{crashtest.Sent}},
		// Not Within: each device that was admitted before adds such points.
		{"restore, address from an invite", onboarding.Restore, true, slices.DeleteFunc(slices.Clone(all), func(p crashtest.Point) bool { return p == crashtest.Within })},
		{"onboard", onboarding.Onboard, false, []crashtest.Point{crashtest.Received}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ending{
				begin: func(t *testing.T, s *site) *home {
					if s.devices++; s.devices > commitlog.MaxDevices {
						first := newHome(t, s.server, s.taps)
						i := s.server.Invite()
						_, err := onboarding.Onboard(t.Context(), first.config(&i, nil))
						fatal(t, err)
						putAll(t, first.file("vault"), records...)
						first.check(records...)
						f := first.openKey()
						s.root = f.Root
						if tt.invite {
							s.invite, f.Servers = &i, nil
							fatal(t, os.Remove(first.key()))
							fatal(t, keyfile.Create(first.key(), f, first.config(nil, nil).Lock, keyfile.Unlock{}))
						}
						s.key, err = os.ReadFile(first.key())
						fatal(t, err)
						s.vaults, s.devices = s.vaults+1, 2
					}
					h := newHome(t, s.server, s.taps)
					fatal(t, os.WriteFile(h.key(), s.key, 0o600))
					return h
				},
				do: tt.do,
				after: func(t *testing.T, s *site, h *home) {
					if ok, err := vault.Exists(h.file("vault")); err != nil {
						t.Errorf("%v", err)
					} else if ok {
						// What is there is a vault, and says whether it is done.
						v, err := vault.Open(t.Context(), h.file("vault"), vault.Config{})
						fatal(t, err)
						_, err = v.Enrolled()
						fatal(t, errors.Join(err, v.Close()))
					}
					if _, err := tt.do(t.Context(), h.config(s.invite, nil)); err != nil {
						t.Fatalf("again: %v; there is %q", err, h.names())
					}
					if st := h.check(records...); len(st.Devices) != s.devices {
						t.Errorf("%d devices, want %d", len(st.Devices), s.devices)
					}
					if f := h.openKey(); !f.Root.Equal(s.root) || len(f.Servers) != 1 {
						t.Errorf("the key file is another, or does not name the secondary")
					}
					if n := h.vaults(); n != s.vaults {
						t.Errorf("%d vaults at the secondary, want %d", n, s.vaults)
					}
				},
			}.run(t, tt.points...)
		})
	}
}

// Making a vault without a secondary is ended anywhere.
func TestCrashInInit(t *testing.T) {
	for _, at := range crashtest.Images {
		for n := 1; ; n += sample {
			h := newHome(t, nil, nil)
			what := fmt.Sprintf("%s, %d", at, n)
			c := crashtest.New(t, at, n, nil, nil, h.dir)
			if _, err := onboarding.Init(t.Context(), h.config(nil, c)); err != nil && !c.Over() {
				t.Fatalf("%s: %v", what, err)
			}
			c.Restore()
			first := h.openKey()
			if ok, _ := vault.Exists(h.file("vault")); !ok {
				if _, err := onboarding.Init(t.Context(), h.config(nil, nil)); err != nil {
					t.Fatalf("%s: again: %v; there is %q", what, err, h.names())
				}
			}
			if _, err := onboarding.Init(t.Context(), h.config(nil, nil)); !errors.Is(err, vault.ErrExists) {
				t.Errorf("%s: a vault over another: %v", what, err)
			}
			if got := h.names(); !slices.Equal(got, local) {
				t.Fatalf("%s: there is %q, want %q", what, got, local)
			}
			if f := h.openKey(); first != nil && f.Vault != first.Vault {
				t.Errorf("%s: another key has taken the place of the first", what)
			}
			putAll(t, h.file("vault"), "one")
			if !c.Over() {
				break
			}
		}
	}
}

// Connecting a vault that was made without a secondary is ended anywhere: what
// was written before arrives.
func TestCrashInConnect(t *testing.T) {
	ending{
		begin: func(t *testing.T, s *site) *home {
			h := newHome(t, s.server, s.taps)
			_, err := onboarding.Init(t.Context(), h.config(nil, nil))
			fatal(t, err)
			putAll(t, h.file("vault"), "one")
			i := s.server.Invite()
			s.invite = &i
			return h
		},
		do: onboarding.Onboard,
		after: func(t *testing.T, s *site, h *home) {
			if _, err := onboarding.Onboard(t.Context(), h.config(s.invite, nil)); err != nil {
				t.Fatalf("again: %v; there is %q", err, h.names())
			}
			s.vaults++
			if st := h.check("one"); st.Commits != 2 || len(st.Devices) != 1 {
				t.Errorf("%d commits, %d devices", st.Commits, len(st.Devices))
			}
			if f := h.openKey(); len(f.Servers) != 1 {
				t.Errorf("the key file does not name the secondary")
			}
			if n := h.vaults(); n != s.vaults {
				t.Errorf("%d vaults at the secondary, want %d", n, s.vaults)
			}
		},
	}.run(t, crashtest.Sent, crashtest.Between, crashtest.File)
}

// A definite refusal leaves nothing behind: no key file, no vault; and of what
// was there before, everything.
func TestRefusalsLeaveNothing(t *testing.T) {
	server, taps := newServer(t)
	other, _ := newServer(t)
	used := server.Invite()
	first := newHome(t, server, taps)
	_, err := onboarding.Onboard(t.Context(), first.config(&used, nil))
	fatal(t, err)
	key, err := os.ReadFile(first.key())
	fatal(t, err)

	fresh, elsewhere := server.Invite(), other.Invite()
	unknown, foreign, late := fresh, fresh, fresh
	unknown.Token[0] ^= 1
	foreign.Server = keys.GenerateSigningKey().Public()
	late.Expires = time.Now().Add(-time.Minute)
	gone := other.Invite()
	gone.URL = "ws://127.0.0.1:1/" // nobody listens there

	type do = func(context.Context, onboarding.Config) (*onboarding.Result, error)
	var busy sync.WaitGroup // a refusal takes the secondary a quarter of a second
	for _, tt := range []struct {
		name   string
		do     do
		key    bool // the first device's key file is there
		invite *wire.Invite
		pass   string
		want   error
	}{
		{"used invite", onboarding.Onboard, false, &used, "", wire.ErrInvite},
		{"unknown invite", onboarding.Onboard, false, &unknown, "", wire.ErrInvite},
		{"expired invite", onboarding.Onboard, false, &late, "", onboarding.ErrInviteExpired},
		{"wrong server key", onboarding.Onboard, false, &foreign, "", wire.ErrServerIdentity},
		{"no invite", onboarding.Onboard, false, nil, "", onboarding.ErrNeedInvite},
		{"join at a secondary without the vault", onboarding.Onboard, true, &elsewhere, "", onboarding.ErrNotThere},
		{"join, wrong server key", onboarding.Onboard, true, &foreign, "", wire.ErrServerIdentity},
		{"join, wrong passphrase", onboarding.Onboard, true, nil, "wrong", keyfile.ErrPassphrase},
		{"restore from a secondary without the vault", onboarding.Restore, true, &elsewhere, "", onboarding.ErrNotThere},
		{"restore, wrong server key", onboarding.Restore, true, &foreign, "", wire.ErrServerIdentity},
		{"restore, nobody there", onboarding.Restore, true, &gone, "", wire.ErrUnreachable},
		{"restore, wrong passphrase", onboarding.Restore, true, nil, "wrong", keyfile.ErrPassphrase},
		{"restore without a key", onboarding.Restore, false, &fresh, "", fs.ErrNotExist},
	} {
		// With a Dial of one's own nothing is asked before the key is made.
		// (That the key is wrong is found too late then: it is no refusal.)
		for _, own := range []bool{false, true} {
			if own && tt.invite == &foreign && !tt.key {
				continue
			}
			busy.Go(func() {
				t.Run(fmt.Sprintf("%s, own dial %v", tt.name, own), func(t *testing.T) {
					h := newHome(t, server, taps)
					if tt.key {
						fatal(t, os.WriteFile(h.key(), key, 0o600))
					}
					want := h.names()
					conf := h.config(tt.invite, nil)
					if own {
						conf.Sync.Dial = func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
							c, err := client.Dial(ctx, s, id)
							if err != nil {
								return nil, err
							}
							return c, nil
						}
					}
					if tt.pass != "" {
						conf.Unlock.Passphrase = func() ([]byte, error) { return []byte(tt.pass), nil }
					}
					if _, err := tt.do(t.Context(), conf); !errors.Is(err, tt.want) {
						t.Errorf("got %v, want %v", err, tt.want)
					}
					if got := h.names(); !slices.Equal(got, want) {
						t.Errorf("it left %q, and there was %q", got, want)
					}
					if tt.key {
						if now, err := os.ReadFile(h.key()); err != nil || !bytes.Equal(now, key) {
							t.Errorf("the key file is another (%v)", err)
						}
					}
				})
			})
		}
	}
	busy.Wait()
	for s, want := range map[*secondarytest.Server]int{server: 1, other: 0} {
		if n, err := s.Engine().Vaults(t.Context()); n != want || err != nil {
			t.Errorf("%d vaults at a secondary, want %d (%v)", n, want, err)
		}
	}
}
