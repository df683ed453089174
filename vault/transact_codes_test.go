package vault_test

import (
	"errors"
	"fmt"
	"testing"

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
