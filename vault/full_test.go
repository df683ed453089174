package vault

import (
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
)

// engineOf returns the engine of a session of a new device.
func engineOf(t *testing.T) *engine {
	t.Helper()
	root := keys.GenerateRoot()
	seed := keys.GenerateDeviceSeed()
	own, err := seed.Keys()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/vault"
	if err := Create(dir, &keyfile.Device{
		Vault: root.VaultID(), ID: own.ID(), Seed: seed, Authority: root.Authority().Public(),
		TagSecret: root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: root.Epoch(1)}},
	}, "laptop"); err != nil {
		t.Fatal(err)
	}
	v, err := Open(t.Context(), dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return &engine{v: v}
}

// A session that is asked for the whole log while its BIND is under way takes
// the answer to that for what it is, and binds anew.
func TestFullWhileBinding(t *testing.T) {
	e := engineOf(t)
	out, err := e.bind()
	if err != nil || out[0].(*wire.Bind).Flags&wire.BindStubs == 0 {
		t.Fatalf("%v, %v", out, err)
	}
	e.full = true
	if out, err := e.pump(); err != nil || out != nil || !e.stubs() {
		t.Errorf("before BOUND: %v, %v", out, err)
	}
	if err := e.receive(&wire.Bound{Root: out[0].(*wire.Bind).Root}); err != nil {
		t.Fatal(err)
	}
	if out, err := e.pump(); err != nil || len(out) != 1 || e.phase != phaseUnbinding {
		t.Errorf("after BOUND: %v, %v", out, err)
	}
	if err := e.receive(&wire.Unbound{}); err != nil {
		t.Fatal(err)
	}
	if out, err := e.pump(); err != nil || out[0].(*wire.Bind).Flags&wire.BindStubs != 0 {
		t.Errorf("after UNBOUND: %v, %v", out, err)
	}
}

// A MARKED that comes while the session binds anew says nothing: the commits
// before it were not taken.
func TestMarkedWhileUnbinding(t *testing.T) {
	e := engineOf(t)
	out, err := e.bind()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.receive(&wire.Bound{Root: out[0].(*wire.Bind).Root}); err != nil {
		t.Fatal(err)
	}
	token, _ := e.sendMark()
	e.again()
	for _, m := range []wire.Message{&wire.Download{Size: 1}, &wire.Marked{Token: token, Size: 1}} {
		if err := e.receive(m); err != nil {
			t.Fatal(err)
		}
	}
	if e.arrived(token) || !e.lost(token) {
		t.Errorf("arrived %v, lost %v", e.arrived(token), e.lost(token))
	}
}
