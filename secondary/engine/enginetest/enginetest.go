// Package enginetest is the suite that every engine of a secondary passes.
package enginetest

import (
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// Run runs the suite. open returns an empty engine, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	tests := map[string]func(t *testing.T, e engine.Engine){
		"Invites":        testInvites,
		"UnknownVault":   testUnknownVault,
		"Append":         testAppend,
		"AppendAgain":    testAppendAgain,
		"Condition":      testCondition,
		"Serialised":     testSerialised,
		"Proof":          testProof,
		"Refusals":       testRefusals,
		"Registrations":  testRegistrations,
		"Resets":         testResets,
		"Moves":          testMoves,
		"MaxDevices":     testMaxDevices,
		"Objects":        testObjects,
		"ObjectMissing":  testObjectMissing,
		"Read":           testRead,
		"ReadDead":       testReadDead,
		"Refill":         testRefill,
		"Change":         testChange,
		"Checkpoint":     testCheckpoint,
		"State":          testState,
		"Tenants":        testTenants,
		"Suspended":      testSuspended,
		"Quota":          testQuota,
		"Remove":         testRemove,
		"Carry":          testCarry,
		"CarryCut":       testCarryCut,
		"CarryRefuses":   testCarryRefuses,
		"CarryInvites":   testCarryInvites,
		"Compact":        testCompact,
		"CompactObjects": testCompactObjects,
		"CompactBeside":  testCompactBeside,
		"Concurrency":    testConcurrency,
		"Cancelled":      testCancelled,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := open(t)
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
			})
			test(t, e)
		})
	}
}

// now is the time of all that the suite does.
var now = time.UnixMilli(1795280000000)

func create(t *testing.T, e engine.Engine) *rawvault.Vault {
	t.Helper()
	v := rawvault.New()
	id := v.ID()
	token := wire.Token(id)
	if err := e.Invite(t.Context(), token, 1, now.Add(time.Hour), nil); err != nil {
		t.Fatalf("invite: %v", err)
	}
	if err := e.Create(t.Context(), token, v.Authority.Public(), now); err != nil {
		t.Fatalf("create: %v", err)
	}
	return v
}

// withDevice returns a vault with one device, in commit 1.
func withDevice(t *testing.T, e engine.Engine) (*rawvault.Vault, *rawvault.Device) {
	t.Helper()
	v := create(t, e)
	d := v.NewDevice()
	b, c := v.ControlCommit(d.Registration(false))
	mustAppend(t, e, v, c, b)
	return v, d
}

func request(v *rawvault.Vault, c *wire.Control, bundles ...*commitlog.Bundle) engine.AppendRequest {
	return engine.AppendRequest{Vault: v.ID(), Bundles: bundles, Control: c, Now: now}
}

// mustAppend appends commits, which the vault then knows.
func mustAppend(t *testing.T, e engine.Engine, v *rawvault.Vault, c *wire.Control, bundles ...*commitlog.Bundle) {
	t.Helper()
	out, size, err := e.Append(t.Context(), request(v, c, bundles...))
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	for i, o := range out {
		if o.Err != nil || uint64(o.ID) != v.Size()+1 {
			t.Fatalf("append: bundle %d has ID %d, %v; want %d", i, o.ID, o.Err, v.Size()+1)
		}
		v.Appended(bundles[i].Commit.Leaf())
	}
	if size != v.Size() {
		t.Fatalf("append: size %d, want %d", size, v.Size())
	}
}

// refused checks that a commit is refused, and that the log is as before.
func refused(t *testing.T, e engine.Engine, v *rawvault.Vault, r engine.AppendRequest, want error) {
	t.Helper()
	out, size, err := e.Append(t.Context(), r)
	if err != nil {
		t.Errorf("append: %v, want a refusal", err)
		return
	}
	if len(out) != 1 || out[0].ID != 0 || !errors.Is(out[0].Err, want) || size != v.Size() {
		t.Errorf("append: %+v, size %d; want %v, size %d", out, size, want, v.Size())
	}
	checkHead(t, e, v)
}

func checkHead(t *testing.T, e engine.Engine, v *rawvault.Vault) {
	t.Helper()
	h, err := e.Head(t.Context(), v.ID(), v.Size())
	if err != nil || h.Size != v.Size() || h.Root != v.Root(v.Size()) {
		t.Errorf("head: size %d, root %v, %v; want %d, %v", h.Size, h.Root, err, v.Size(), v.Root(v.Size()))
	}
}
