package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/vault"
)

type poison = func(p *seal.Payload, seal func() []byte) []byte

// poisons are changes that are authentic, and cannot be used.
var poisons = map[string]poison{
	"does not open": func(_ *seal.Payload, seal func() []byte) []byte {
		b := seal()
		b[len(b)-1] ^= 1
		return b
	},
	"a later form":       func(p *seal.Payload, s func() []byte) []byte { p.Form = seal.FormDocument; return s() },
	"a clock beyond all": func(p *seal.Payload, s func() []byte) []byte { p.HLC = 1 << 63; return s() },
	"a removal that is none": func(p *seal.Payload, s func() []byte) []byte {
		p.Form, p.Value = seal.FormDelete, nil
		return s()
	},
	"an object that is none": func(p *seal.Payload, s func() []byte) []byte {
		p.Form, p.Value, p.Object = seal.FormObject, nil, &seal.ObjectRef{Length: 100_000}
		return s()
	},
}

// poisoned syncs a and then b, which is left with n changes in quarantine.
func poisoned(t *testing.T, a, b *vault.Vault, n int) {
	t.Helper()
	for _, v := range []*vault.Vault{a, b} {
		r, err := v.Sync(t.Context(), vault.SyncOptions{})
		fatal(t, err)
		if r.Pending+r.Missing+r.Aside != 0 || v == b && r.Quarantine != n {
			t.Fatalf("sync left %+v, want %d in quarantine", r, n)
		}
	}
	sameDigest(t, a, b)
}

// B5, P6: one change in a hundred cannot be used, of whatever kind: all others
// arrive, the record shows the version before it and says so, nothing in the log
// differs, and the next edit ends it.
func TestPoison(t *testing.T) {
	for kind, poison := range poisons {
		t.Run(kind, func(t *testing.T) {
			p := newPerson(t)
			a, b := p.device(vault.Config{}), p.device(vault.Config{})
			ctx := t.Context()
			const n = 300
			fill := func(value string) {
				fatal(t, a.Update(ctx, "notes", func(tx *vault.Tx) error {
					for i := range n {
						if _, err := tx.Put(fmt.Sprintf("n%03d", i), []byte(value)); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			fill("first")
			sync(t, a, b)
			fatal(t, vault.Poison(a, "notes", "n100", poison))
			fatal(t, vault.Poison(a, "notes", "never seen", poison))
			put(t, a, "n101", "second")
			poisoned(t, a, b, 2)

			check := func(v *vault.Vault, instead string) {
				t.Helper()
				for name, want := range map[string]string{"n000": "first", "n100": "first", "n101": "second", "n299": "first"} {
					rec, err := v.Namespace("notes").Get(ctx, name)
					fatal(t, err)
					at := ""
					if rec.Unread.Commit != 0 {
						at = rec.Unread.String()
					}
					if string(rec.Value) != want || at != map[bool]string{true: instead}[name == "n100"] {
						t.Errorf("%s is %q, shown instead of %q", name, rec.Value, at)
					}
				}
				shown, fails := 0, 0
				for rec, err := range v.Namespace("notes").List(ctx) {
					switch {
					case err == nil:
						shown++
					case rec != nil && rec.Name == "never seen" && errors.Is(err, vault.ErrNotUnderstood):
						fails++
					default:
						t.Error(err)
					}
				}
				if shown != n || fails > 1 {
					t.Errorf("%d records are listed, %d fail", shown, fails)
				}
			}
			problems, err := b.Problems(ctx, 10)
			fatal(t, err)
			if len(problems) != 2 || problems[0].Record != "notes/n100" || !strings.Contains(problems[0].Reason, "is shown instead") {
				t.Fatalf("%+v", problems)
			}
			first := problems[0].Change
			check(b, first.String())
			is, err := vault.StandsIn(b, "notes", "n100", commitlog.ChangeID{Commit: 3, Index: 101})
			if fatal(t, err); !is {
				t.Errorf("the version before it is not kept for it")
			}

			// What cannot be used is no content of its own.
			if _, err := b.Namespace("notes").Version(ctx, "n100", first); !errors.Is(err, vault.ErrNotUnderstood) {
				t.Errorf("Version: %v", err)
			}
			var history []string
			for rec, err := range b.Namespace("notes").History(ctx, "n100") {
				fatal(t, err)
				history = append(history, fmt.Sprintf("%t %t %q", rec.Live, rec.Unread == rec.Commit, rec.Value))
			}
			if got := strings.Join(history, "; "); got != `true true ""; false false "first"` {
				t.Errorf("history: %s", got)
			}

			// A second one on top of it shows the same.
			fatal(t, vault.Poison(a, "notes", "n100", poison))
			poisoned(t, a, b, 2)
			problems, err = b.Problems(ctx, 10)
			fatal(t, err)
			check(b, problems[len(problems)-1].Change.String())

			// A device that comes later sees what this one does.
			c := p.device(vault.Config{})
			poisoned(t, a, c, 2)
			check(c, problems[len(problems)-1].Change.String())

			// The next edit is over it, and so is a removal.
			put(t, b, "n100", "mended")
			if err := b.Namespace("notes").Delete(ctx, "never seen"); err != nil && !errors.Is(err, vault.ErrNotFound) {
				t.Error(err)
			}
			left := 1 // of which not even the name is known
			if _, err := b.Namespace("notes").Get(ctx, "never seen"); errors.Is(err, vault.ErrNotFound) && kind != "does not open" {
				left = 0
			}
			poisoned(t, b, c, left)
			for _, v := range []*vault.Vault{b, c} {
				if rec, err := v.Namespace("notes").Get(ctx, "n100"); err != nil || string(rec.Value) != "mended" || rec.Unread.Commit != 0 {
					t.Errorf("%+v, %v", rec, err)
				}
			}
		})
	}
}

// A removal ends what cannot be used, and undoing it brings back what was shown.
func TestPoisonRemoved(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "first")
	sync(t, a, b)
	fatal(t, vault.Poison(a, "notes", "x", poisons["does not open"]))
	poisoned(t, a, b, 1)
	fatal(t, b.Namespace("notes").Delete(t.Context(), "x"))
	poisoned(t, b, a, 0)
	if get(t, b, "x") != "-" || get(t, a, "x") != "-" {
		t.Error("it is not removed")
	}
	_, err := b.Namespace("notes").Undelete(t.Context(), "x")
	fatal(t, err)
	sync(t, b, a)
	if get(t, a, "x") != "first" {
		t.Errorf("it came back as %q", get(t, a, "x"))
	}
}

// An edit beside one that cannot be used is a conflict, which no resolver answers:
// it would end unseen what a newer program can read.
func TestPoisonBeside(t *testing.T) {
	p := newPerson(t)
	a, b, c := p.device(vault.Config{}), p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "first")
	sync(t, a, b, c)
	fatal(t, b.Namespace("notes").SetStrategy(t.Context(), vault.StrategyResolver))
	b.SetResolver("notes", func(context.Context, vault.Conflict) (vault.Resolution, error) {
		t.Error("the resolver was asked")
		return vault.Resolution{Value: []byte("guess")}, nil
	})
	sync(t, b, a, c)
	fatal(t, vault.Poison(a, "notes", "x", poisons["a later form"]))
	put(t, b, "x", "second")
	sync(t, b)
	poisoned(t, a, c, 1)
	poisoned(t, a, b, 1)
	for _, v := range []*vault.Vault{b, c} {
		rec, err := v.Namespace("notes").Get(t.Context(), "x")
		fatal(t, err)
		if string(rec.Value) != "second" || rec.Unread.Commit != 0 || rec.Siblings != 1 {
			t.Errorf("%+v", rec)
		}
	}
}

// What a newer program understands it shows as soon as it has the vault open.
func TestUnderstoodLater(t *testing.T) {
	p := newPerson(t)
	dir := t.TempDir() + "/vault"
	a := p.device(vault.Config{})
	b, _ := p.deviceIn(dir, vault.Config{})
	var ids []commitlog.ChangeID
	for _, value := range []string{"first", "second", "third"} {
		put(t, a, "x", value)
		sync(t, a, b)
		rec, err := b.Namespace("notes").Get(t.Context(), "x")
		fatal(t, err)
		ids = append(ids, rec.Commit)
	}
	for _, id := range ids[1:] {
		fatal(t, vault.Forget(b, "notes", "x", id))
	}
	st, err := b.Status(t.Context())
	fatal(t, err)
	if rec, err := b.Namespace("notes").Get(t.Context(), "x"); err != nil || string(rec.Value) != "first" || rec.Unread != ids[2] || st.Quarantine != 1 {
		t.Fatalf("%+v, %v; %+v", rec, err, st)
	}
	fatal(t, b.Close())
	b, err = vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	defer b.Close()
	if rec, err := b.Namespace("notes").Get(t.Context(), "x"); err != nil || string(rec.Value) != "third" || rec.Unread.Commit != 0 {
		t.Errorf("%+v, %v", rec, err)
	}
	if rec, err := b.Namespace("notes").Version(t.Context(), "x", ids[1]); err != nil || string(rec.Value) != "second" {
		t.Errorf("%+v, %v", rec, err)
	}
	inStep(t, b)
	put(t, b, "x", "fourth")
	sync(t, b, a)
	sameDigest(t, a, b)
}

// A selection forgets and fetches what cannot be used like all else. What was
// before it does not come back.
func TestPoisonSelected(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "first")
	sync(t, a, b)
	fatal(t, vault.Poison(a, "notes", "x", poisons["does not open"]))
	poisoned(t, a, b, 1)
	choose(t, b, only("contacts"))
	poisoned(t, a, b, 0)
	if _, err := b.Namespace("notes").Get(t.Context(), "x"); !errors.Is(err, vault.ErrNotSelected) {
		t.Errorf("%v, want ErrNotSelected", err)
	}
	choose(t, b, vault.Selection{})
	poisoned(t, a, b, 1)
	problems, err := b.Problems(t.Context(), 10)
	fatal(t, err)
	if len(problems) != 1 || problems[0].Record != "" {
		t.Errorf("%+v", problems)
	}
	put(t, b, "y", "1")
	poisoned(t, b, a, 0)
}

// A clock that is years ahead changes nothing but that it is pointed out: the next
// edit is later, and other records keep their own time.
func TestFarFuture(t *testing.T) {
	now := manual{time.Now()}
	then := manual{now.t.AddDate(8, 0, 0)}
	p := newPerson(t)
	a, b := p.device(vault.Config{Now: then.now}), p.device(vault.Config{Now: now.now})
	put(t, a, "x", "from the future")
	sync(t, a, b)
	put(t, b, "y", "1")
	see := func(name, value string, isAhead bool) {
		t.Helper()
		rec, err := b.Namespace("notes").Get(t.Context(), name)
		fatal(t, err)
		if string(rec.Value) != value || rec.Ahead != isAhead {
			t.Errorf("%+v", rec)
		}
	}
	see("x", "from the future", true)
	see("y", "1", false)
	st, err := b.Status(t.Context())
	fatal(t, err)
	list, err := b.Ahead(t.Context(), 10)
	fatal(t, err)
	if st.Ahead != 1 || len(list) != 1 || list[0].Name != "x" || list[0].Namespace != "notes" || list[0].Device != "device 1" || list[0].Time.Before(then.t.Add(-time.Second)) {
		t.Errorf("%+v, %+v", st, list)
	}
	put(t, b, "x", "later")
	see("x", "later", true)
	sync(t, b, a)
	if get(t, a, "x") != "later" {
		t.Errorf("%q", get(t, a, "x"))
	}
}
