package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
)

// Whatever keeps who restores from the secondary of the key file, he is told that the
// vault may have moved; but not who has said where it is.
func TestMovedSince(t *testing.T) {
	for _, err := range []error{errSilent, wire.ErrUnreachable, wire.ErrServerIdentity, wire.ErrDenied, wire.ErrSuspended, onboarding.ErrNotThere} {
		a := &app{vaultDir: t.TempDir()}
		for _, given := range []bool{false, true} {
			a.cmd = newRestore(a)
			if given {
				if err := a.cmd.Flags().Set("secondary", "wss://vault.example.org/"); err != nil {
					t.Fatal(err)
				}
			}
			f := a.explain(fmt.Errorf("restoring: %w", err))
			if strings.Contains(f.hint, "if it has moved: kist restore --key FILE --secondary INVITE") == given || !errors.Is(f.err, err) {
				t.Errorf("%v, secondary given: %v: try %q", err, given, f.hint)
			}
		}
	}
}
