package enginetest

import (
	"errors"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// testMoves moves a vault away, and back.
func testMoves(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)
	d := v.NewDevice()
	b, c := v.ControlCommit(d.Registration(false))
	mustAppend(t, e, v, c, b)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))

	b, c = v.ControlCommit()
	c.Moved = wire.MovedAway
	early := request(v, c, b)
	early.Condition = new(uint64)
	refused(t, e, v, early, wire.ErrCondition)
	away := request(v, c, b)
	mustAppend(t, e, v, c, b)

	if x := tenant(t, e, v); x.Moved != 3 || x.State != engine.StateActive {
		t.Errorf("moved away: %+v", x)
	}

	// Nothing is appended behind it, by anybody; what is there is answered as ever.
	before := *d
	late := d.Commit(keys.Tag{1}, 1)
	refused(t, e, v, request(v, nil, late), wire.ErrMoved)
	conditional := request(v, nil, late)
	conditional.Condition = new(uint64)
	refused(t, e, v, conditional, wire.ErrMoved)
	saved := *v
	for _, moved := range []wire.Moved{wire.MovedNot, wire.MovedAway} {
		next, c := v.ControlCommit()
		c.Moved = moved
		refused(t, e, v, request(v, c, next), wire.ErrMoved)
		*v = saved
	}
	if outcomes, size, err := e.Append(ctx, away); err != nil || size != 3 || outcomes[0].ID != 3 {
		t.Errorf("the move again: %+v, %d, %v", outcomes, size, err)
	}
	count := 0
	if _, err := e.Read(ctx, engine.ReadRequest{Vault: v.ID()}, func(*engine.Entry) (bool, error) { count++; return true, nil }); err != nil || count != 3 {
		t.Errorf("read %d commits, %v", count, err)
	}

	// Its owner brings what came elsewhere, and it stays closed, until the vault is here
	// again.
	*d = before
	elsewhere := d.Commit(keys.Tag{2}, 1)
	elsewhere.ID = 4
	if size, err := e.Refill(ctx, engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{elsewhere}, Now: now}); size != 4 || err != nil {
		t.Fatalf("filled again: %d, %v", size, err)
	}
	v.Appended(elsewhere.Commit.Leaf())
	later := *d
	refused(t, e, v, request(v, nil, d.Commit(keys.Tag{1}, 1)), wire.ErrMoved)
	*d = later
	b, c = v.ControlCommit()
	c.Moved = wire.MovedHere
	b.ID = 5
	if size, err := e.Refill(ctx, engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now}); size != 5 || err != nil {
		t.Fatalf("moved back: %d, %v", size, err)
	}
	v.Appended(b.Commit.Leaf())
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))

	// The owner may also say so at once, of a log that is here.
	b, c = v.ControlCommit()
	c.Moved = wire.MovedAway
	mustAppend(t, e, v, c, b)
	b, c = v.ControlCommit()
	c.Moved = wire.MovedHere
	mustAppend(t, e, v, c, b)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	if x := tenant(t, e, v); x.Moved != 0 {
		t.Errorf("moved back: %+v", x)
	}
	if _, _, err := e.Append(ctx, engine.AppendRequest{Vault: keys.VaultID{1}, Bundles: []*commitlog.Bundle{b}, Control: c, Now: now}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v", err)
	}
}
