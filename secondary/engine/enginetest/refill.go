package enginetest

import (
	"errors"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// testRefill fills a second vault store of the same vault with what the first has:
// what is there is left, what is missing is taken, what does not fit is refused.
func testRefill(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)
	d := v.NewDevice()
	genesis, c := v.ControlCommit(d.Registration(false))
	v.Appended(genesis.Commit.Leaf())
	b1 := d.Commit(keys.Tag{1}, 3)
	v.Appended(b1.Commit.Leaf())
	b2 := d.Commit(keys.Tag{2}, 2)
	v.Appended(b2.Commit.Leaf())
	all := []*commitlog.Bundle{genesis, b1, b2}
	for i, b := range all {
		b.ID = commitlog.CommitID(i + 1)
	}
	refill := func(c *wire.Control, bundles ...*commitlog.Bundle) (uint64, error) {
		return e.Refill(ctx, engine.AppendRequest{Vault: v.ID(), Bundles: bundles, Control: c, Now: now})
	}
	if size, err := refill(nil, b1); size != 0 || !errors.Is(err, commitlog.ErrOmission) {
		t.Errorf("a commit without those before: %d, %v", size, err)
	}
	if size, err := refill(nil, genesis); size != 0 || !errors.Is(err, wire.ErrRegistration) {
		t.Errorf("a control commit without its registrations: %d, %v", size, err)
	}
	if size, err := refill(c, genesis); size != 1 || err != nil {
		t.Fatalf("the first: %d, %v", size, err)
	}
	lacking := *b1
	lacking.Blobs = [][]byte{b1.Blobs[0], nil, b1.Blobs[2]}
	if size, err := refill(nil, &lacking, b2); size != 3 || err != nil {
		t.Fatalf("the others: %d, %v", size, err)
	}
	lost := commitlog.ChangeID{Commit: 2, Index: 1}
	if _, blob, err := e.Change(ctx, v.ID(), lost); blob != nil || err != nil {
		t.Errorf("a blob that was left out: %d bytes, %v", len(blob), err)
	}
	// A blob that comes later needs room as any other.
	full := tenant(t, e, v).Used.Bytes() + commitlog.MinBlob
	fatal(t, e.SetQuota(ctx, v.ID(), &engine.Quota{Bytes: full - 1}))
	if size, err := refill(nil, b1); size != 3 || !errors.Is(err, wire.ErrQuota) {
		t.Errorf("over the quota: %d, %v", size, err)
	}
	if size, err := refill(nil, b2); size != 3 || err != nil {
		t.Errorf("what is there, where there is no room: %d, %v", size, err)
	}
	fatal(t, e.SetQuota(ctx, v.ID(), &engine.Quota{Bytes: full}))
	if size, err := refill(nil, b1); size != 3 || err != nil {
		t.Errorf("again: %d, %v", size, err)
	}
	if _, blob, err := e.Change(ctx, v.ID(), lost); len(blob) == 0 || err != nil {
		t.Errorf("the blob that came later: %d bytes, %v", len(blob), err)
	}
	other := *b2
	other.ID = 2
	if size, err := refill(nil, &other); size != 3 || !errors.Is(err, commitlog.ErrFork) {
		t.Errorf("another commit: %d, %v", size, err)
	}
	head, err := e.Head(ctx, v.ID(), 3)
	if err != nil || head.Root != v.Root(3) {
		t.Errorf("head %+v, %v", head, err)
	}
	if _, err := e.Refill(ctx, engine.AppendRequest{Vault: keys.VaultID{1}, Bundles: all[:1], Control: c, Now: now}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v", err)
	}
}
