package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
)

func TestAgainHint(t *testing.T) {
	for after, want := range map[uint64]string{0: "when the network", 1: "in 1 second,", 10_000: "in 10 seconds,", 1<<64 - 1: "seconds,"} {
		e := wire.NewError(wire.CodeBusy, "")
		e.RetryAfter = after
		if got := againHint(fmt.Errorf("dialling: %w", e)); !strings.Contains(got, want) {
			t.Errorf("after %d ms: %q", after, got)
		}
	}
}
