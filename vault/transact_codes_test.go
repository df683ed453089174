package vault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// Whatever a secondary says about an attempt that it has taken, or has not, the
// call believes the log alone, and a sync with an honest one brings everything to
// an end.
func TestTransactAnyAnswer(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	codes := []wire.Code{
		wire.CodeInternal, wire.CodeTooLarge, wire.CodeCondition, wire.CodeAfterRefused, wire.CodeObjectMissing, wire.CodeReplaced,
		wire.CodeBusy, wire.CodeMalformed, wire.CodeUnknownSigner, wire.CodeRevoked, wire.CodeEquivocation, wire.CodeOrder, wire.CodeFork,
		50, 200, // no codes
	}
	for _, taken := range []bool{false, true} {
		for _, code := range codes {
			name := fmt.Sprint(code, taken)
			a.SetDial(through(refuse(code, taken, attemptOnly)).Dial)
			err := a.Transact(t.Context(), "notes", increment(nil, name))
			if !taken && !errors.Is(err, vault.ErrOutcomeUnknown) || err != nil && !errors.Is(err, vault.ErrOutcomeUnknown) {
				t.Errorf("code %d, taken %v: %v", code, taken, err)
			}
			before := undecided(t, a)
			if (err == nil) != (before == 0) {
				t.Errorf("code %d, taken %v: %v, and %d undecided", code, taken, err, before)
			}
			a.SetDial(nil)
			put(t, a, name+" x", "1")
			sync(t, a, b)
			n := count(t, b, name)
			if undecided(t, a) != 0 || get(t, b, name+" x") != "1" || n > 1 || n < 0 || taken && n != 1 {
				t.Errorf("code %d, taken %v: %d undecided, x is %q, counted %d", code, taken, undecided(t, a), get(t, b, name+" x"), n)
			}
			sameDigest(t, a, b)
		}
	}
}

func attemptOnly(u *wire.Upload) bool { return u.Condition != nil }

// A secondary refuses an attempt, and takes it when the device sends the next
// commit, which was signed as if the attempt were not. Nothing is lost.
func TestTransactTakenLate(t *testing.T) {
	for _, again := range []bool{false, true} {
		p := newPerson(t)
		a, b := p.device(vault.Config{}), p.device(vault.Config{})
		var kept *wire.Upload
		a.SetDial(through(refuse(wire.CodeTooLarge, false, func(u *wire.Upload) bool {
			if u.Condition != nil {
				kept = u
			}
			return u.Condition != nil
		})).Dial)
		if err := a.Transact(t.Context(), "notes", increment(nil, "n")); !errors.Is(err, vault.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		bundle, err := commitlog.ParseBundle(kept.Items[0].Data)
		fatal(t, err)
		seq := bundle.Commit.Header.Seq
		late := through(func(m client.Messenger) client.Messenger {
			return &between{
				Messenger: m,
				send: func(m wire.Message) []wire.Message {
					if u, ok := m.(*wire.Upload); ok && kept != nil {
						first := kept
						kept = nil
						return []wire.Message{first, u}
					}
					return []wire.Message{m}
				},
				receive: func(m wire.Message) []wire.Message {
					if u, ok := m.(*wire.Uploaded); ok && u.Results[0].Seq == seq {
						return nil
					}
					return []wire.Message{m}
				},
			}
		})
		want, runs := 1, 0
		if again { // the caller does it again, not knowing
			want = 2
			a.SetDial(late.Dial)
			fatal(t, a.Transact(t.Context(), "notes", increment(&runs, "n")))
		} else {
			put(t, a, "x", "1")
			_, err = a.Sync(t.Context(), late)
			if err != nil && !errors.Is(err, commitlog.ErrEquivocation) {
				t.Errorf("sync: %v", err)
			}
		}
		a.SetDial(nil)
		sync(t, a, b)
		if count(t, b, "n") != want || undecided(t, a) != 0 || !again && get(t, b, "x") != "1" {
			t.Errorf("counted %d, want %d; %d undecided; x is %q", count(t, b, "n"), want, undecided(t, a), get(t, b, "x"))
		}
		sameDigest(t, a, b)
	}
}
