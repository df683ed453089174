package vault

import (
	"errors"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
)

// A PROOF is taken once where it was asked for, also if the log has become whole
// since; any other ends the session, and so puts off no alarm.
func TestProofNotAskedFor(t *testing.T) {
	e := engineOf(t)
	e.request = 9
	e.proofs = map[uint32]claim{3: {size: 1}}
	for i, want := range []error{nil, wire.ErrProtocol} {
		if err := e.receive(&wire.Proof{Request: 3, From: 1, To: 2}); !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", i, err, want)
		}
	}
	if err := e.receive(&wire.Proof{Request: 5, From: 1, To: 2}); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("never asked for: %v", err)
	}
}
