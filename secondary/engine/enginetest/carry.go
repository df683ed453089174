package enginetest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func export(t *testing.T, e engine.Engine, vault keys.VaultID) *carried {
	t.Helper()
	c := new(carried)
	done, err := e.Export(t.Context(), vault, c)
	if err != nil || !c.Ended {
		t.Fatalf("export: %v, ended %v", err, c.Ended)
	}
	want := engine.Exported{Missing: done.Missing}
	for _, x := range c.Things {
		switch {
		case x.Object != nil:
			want.Objects, want.ObjectBytes = want.Objects+1, want.ObjectBytes+uint64(len(x.Object))
		case x.Checkpoint != nil:
			want.Checkpoints++
		default:
			want.Commits, want.Log = want.Commits+1, want.Log+uint64(len(x.Bundle))
		}
	}
	if done != want {
		t.Errorf("export says %+v, and has given %+v", done, want)
	}
	return c
}

// remove removes a vault.
func remove(t *testing.T, e engine.Engine, vault keys.VaultID) {
	t.Helper()
	fatal(t, e.SetState(t.Context(), vault, engine.StateDeleted, now))
	if n, err := e.Remove(t.Context(), now); n != 1 || err != nil {
		t.Fatalf("remove: %d, %v", n, err)
	}
}

// lived is a vault in which everything has happened that an engine knows of.
func lived(t *testing.T, e engine.Engine) (v *rawvault.Vault, d *rawvault.Device) {
	t.Helper()
	ctx := t.Context()
	v = create(t, e)
	d = v.NewDevice()
	scoped, gone := v.NewDevice(), v.NewDevice()
	only := scoped.Registration(false)
	only.Tags = []keys.Tag{{2}, {3}}
	var log []*commitlog.Bundle
	add := func(b *commitlog.Bundle, c *wire.Control, after time.Duration) {
		t.Helper()
		r := request(v, c, b)
		r.Now = now.Add(after)
		out, _, err := e.Append(ctx, r)
		if err != nil || out[0].Err != nil {
			t.Fatalf("append: %+v, %v", out, err)
		}
		v.Appended(b.Commit.Leaf())
		log = append(log, b)
	}
	put := func(data []byte, hash commitlog.Hash, refs ...commitlog.Ref) *commitlog.Bundle {
		t.Helper()
		if have, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), 0, data); have != uint64(len(data)) || err != nil {
			t.Fatalf("object: %d, %v", have, err)
		}
		ch, blob := rawvault.Put(commitlog.MinBlob)
		ch.ObjectHash, ch.ObjectSize, ch.Refs = hash, uint64(len(data)), refs
		return d.CommitOf(keys.Tag{1}, []commitlog.Change{ch}, [][]byte{blob})
	}
	data, hash := randomObject(70_000)
	other, otherHash := randomObject(3 << 20)
	b, c := v.ControlCommit(d.Registration(false), only)
	add(b, c, 0) // 1
	add(d.Commit(keys.Tag{1}, 3), nil, 0)
	add(scoped.Commit(keys.Tag{2}, 2), nil, 0)
	add(put(data, hash), nil, 0)                                            // 4
	add(put(other, otherHash), nil, 0)                                      // 5
	add(put(data, hash, commitlog.Ref{At: 5}), nil, time.Hour)              // 6 ends 5 and names the object of 4
	add(d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 2}), nil, time.Hour) // 7
	b, c = v.ControlCommit(gone.Registration(false))
	add(b, c, time.Hour) // 8
	add(gone.Commit(keys.Tag{1}, 1), nil, time.Hour)
	fatal(t, e.PutCheckpoint(ctx, d.Checkpoint(v.Comes(log), 5)))
	b, c = v.ControlCommit(gone.Registration(true))
	c.Resets, c.Epoch = 1, 2
	add(b, c, 2*time.Hour) // 10
	v.Epoch = 2
	add(d.Delete(keys.Tag{1}, commitlog.ChangeID{Commit: 2, Index: 1}), nil, 3*time.Hour)
	if done := compact(t, e, now.Add(time.Hour)); done.Blobs != 2 || done.Objects != 1 {
		t.Fatalf("compacted %+v", done)
	}
	fatal(t, e.SetQuota(ctx, v.ID(), &engine.Quota{Bytes: 1 << 30, Devices: 9}))
	fatal(t, e.Seen(ctx, v.ID(), now.Add(5*time.Hour)))
	fatal(t, e.SetState(ctx, v.ID(), engine.StateSuspended, now.Add(6*time.Hour)))
	return v, d
}

// importAll imports a vault.
func importAll(ctx context.Context, e engine.Engine, c *carried, o engine.ImportOptions) error {
	i := e.Import(o)
	return errors.Join(c.give(ctx, i, c.calls()), i.Close(ctx))
}

// testCarry: what was exported comes in as it was, and goes on.
func testCarry(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := lived(t, e)
	before := tenant(t, e, v)
	c := export(t, e, v.ID())
	if w := c.Whole; w.Size != v.Size() || w.Root != v.Root(v.Size()) || len(w.Devices) != 3 || w.State != engine.StateSuspended || w.Own == nil {
		t.Errorf("exported: %+v", w)
	}
	if err := importAll(ctx, e, c, engine.ImportOptions{}); !errors.Is(err, engine.ErrExists) {
		t.Errorf("beside itself: %v, want ErrExists", err)
	}
	if again := export(t, e, v.ID()); !reflect.DeepEqual(again, c) {
		t.Error("a refused import has changed something")
	}
	remove(t, e, v.ID())
	if _, err := e.Export(ctx, v.ID(), new(carried)); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("export of none: %v, want ErrNotFound", err)
	}
	fatal(t, importAll(ctx, e, c, engine.ImportOptions{Bounded: true}))
	if diff := cmp.Diff(before, tenant(t, e, v)); diff != "" {
		t.Errorf("the vault is another (-before +after):\n%s", diff)
	}
	if again := export(t, e, v.ID()); !reflect.DeepEqual(again, c) {
		t.Error("exported again, it is another")
	}
	checkHead(t, e, v)
	if h, err := e.Head(ctx, v.ID(), 1); err != nil || h.Reset != 10 {
		t.Errorf("head: %+v, %v", h, err)
	}
	if r, err := e.OpenState(ctx, v.ID(), 6); err != nil {
		t.Error(err)
	} else if n := countLive(t, r); n != 8 { // 1.0, 2.0–2, 3.0–1, 4, 6; not 5
		t.Errorf("%d changes were live at 6", n)
	}

	// It goes on.
	fatal(t, e.SetState(ctx, v.ID(), engine.StateActive, now))
	mustAppend(t, e, v, nil, d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 6}))
	if done := compact(t, e, now.Add(3*time.Hour)); done.Blobs != 3 || done.Objects != 0 { // 2.1, 11 and 6
		t.Errorf("compacted %+v", done)
	}

	// One that was moved away stays closed, also elsewhere.
	b, ctl := v.ControlCommit()
	ctl.Moved = wire.MovedAway
	mustAppend(t, e, v, ctl, b)
	c = export(t, e, v.ID())
	remove(t, e, v.ID())
	fatal(t, importAll(ctx, e, c, engine.ImportOptions{}))
	refused(t, e, v, request(v, nil, d.Commit(keys.Tag{1}, 1)), wire.ErrMoved)
}

func countLive(t *testing.T, r engine.StateReader) (n int) {
	t.Helper()
	fatal(t, r.Next(t.Context(), engine.Place{}, func(*engine.LiveChange) (bool, error) {
		n++
		return true, nil
	}))
	return n
}

// testCarryCut: of an import that is cut off anywhere nobody ever sees anything, and it
// can be done again.
func testCarryCut(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := lived(t, e)
	c := export(t, e, v.ID())
	remove(t, e, v.ID())
	unreachable := func(n int) {
		t.Helper()
		_, aerr := e.Author(ctx, v.ID(), d.ID)
		_, herr := e.Head(ctx, v.ID(), 1)
		_, xerr := e.Export(ctx, v.ID(), new(carried))
		for what, err := range map[string]error{"Author": aerr, "Head": herr, "Export": xerr, "SetState": e.SetState(ctx, v.ID(), engine.StateActive, now)} {
			if !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("after %d calls: %s: %v, want ErrNotFound", n, what, err)
			}
		}
	}
	for n := range c.calls() {
		i := e.Import(engine.ImportOptions{})
		fatal(t, c.give(ctx, i, n))
		unreachable(n)
		if n > 0 {
			if err := importAll(ctx, e, c, engine.ImportOptions{}); !errors.Is(err, engine.ErrExists) {
				t.Errorf("two at once, after %d calls: %v, want ErrExists", n, err)
			}
			if gone, err := e.Remove(ctx, now); gone != 0 || err != nil {
				t.Errorf("after %d calls, others were removed: %d, %v", n, gone, err)
			}
			if s := tenant(t, e, v).State; s != engine.StateComing {
				t.Errorf("after %d calls it is %v", n, s)
			}
			fatal(t, e.Invite(ctx, wire.Token{9}, engine.Unlimited, now.Add(time.Hour), nil))
			if err := e.Create(ctx, wire.Token{9}, v.Authority.Public(), now); !errors.Is(err, wire.ErrSuspended) {
				t.Errorf("after %d calls it could be made: %v", n, err)
			}
		}
		if n%2 == 0 { // otherwise the next one finds what is there
			fatal(t, i.Close(ctx))
			if count, err := e.Vaults(ctx); count != 0 || err != nil {
				t.Errorf("closed after %d calls: %d vaults, %v", n, count, err)
			}
			fatal(t, i.Close(ctx))
		} else {
			cut, cancel := context.WithCancel(ctx)
			cancel()
			if err := i.Close(cut); n > 0 && !errors.Is(err, context.Canceled) {
				t.Errorf("closing was cut off: %v", err)
			}
			unreachable(n)
		}
		if n%4 == 3 {
			if gone, err := e.Remove(ctx, now); gone != 1 || err != nil {
				t.Errorf("what was cut off after %d calls: %d removed, %v", n, gone, err)
			}
		}
	}
	fatal(t, importAll(ctx, e, c, engine.ImportOptions{}))
	if again := export(t, e, v.ID()); !reflect.DeepEqual(again, c) {
		t.Error("in the end it is another")
	}
	if gone, err := e.Remove(ctx, now); gone != 0 || err != nil {
		t.Errorf("removed %d, %v", gone, err)
	}
}

// testCarryRefuses: what no engine would have taken does not come in this way.
func testCarryRefuses(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, _ := lived(t, e)
	c := export(t, e, v.ID())
	remove(t, e, v.ID())
	commit := func(c *carried, id int) *thing {
		at := slices.IndexFunc(c.Things, func(x thing) bool { return x.Bundle != nil && x.Bundle[7] == byte(id) })
		return &c.Things[at]
	}
	find := func(c *carried, is func(*thing) bool) int {
		return slices.IndexFunc(c.Things, func(x thing) bool { return is(&x) })
	}
	object := func(c *carried) int { return find(c, func(x *thing) bool { return x.Object != nil }) }
	point := func(c *carried) int { return find(c, func(x *thing) bool { return x.Checkpoint != nil }) }
	for name, test := range map[string]struct {
		spoil func(c *carried)
		want  error
	}{
		"signature":            {func(c *carried) { commit(c, 9).Bundle[8+200] ^= 1 }, commitlog.ErrSignature},
		"commit left out":      {func(c *carried) { c.Things = slices.Delete(c.Things, 1, 2) }, commitlog.ErrOmission},
		"end left out":         {func(c *carried) { c.Things = c.Things[:1] }, commitlog.ErrOmission},
		"root":                 {func(c *carried) { c.Whole.Root[0] ^= 1 }, commitlog.ErrOmission},
		"object":               {func(c *carried) { c.Things[object(c)].Object[7] ^= 1 }, commitlog.ErrBlob},
		"object twice":         {func(c *carried) { c.Things = slices.Insert(c.Things, 0, c.Things[object(c)]) }, wire.ErrProtocol},
		"checkpoint":           {func(c *carried) { p := c.Things[point(c)].Checkpoint; p[len(p)-1] ^= 1 }, commitlog.ErrSignature},
		"another authority":    {func(c *carried) { c.Whole.Authority = rawvault.New().Authority.Public() }, commitlog.ErrVaultIDMismatch},
		"unknown device":       {func(c *carried) { c.Whole.Devices = nil }, commitlog.ErrUnknownSigner},
		"revoked before":       {func(c *carried) { revokedBy(c, 8) }, commitlog.ErrRevoked},
		"revoked by data":      {func(c *carried) { revokedBy(c, 11) }, wire.ErrRegistration},
		"epoch":                {func(c *carried) { commit(c, 10).Epoch = 3 }, wire.ErrRegistration},
		"epoch of data":        {func(c *carried) { commit(c, 9).Epoch = 1 }, wire.ErrRegistration},
		"no new epoch":         {func(c *carried) { commit(c, 10).Epoch = 1 }, commitlog.ErrEpoch},
		"scope":                {func(c *carried) { scopes(c, []keys.Tag{{9}}) }, commitlog.ErrScope},
		"state":                {func(c *carried) { c.Whole.State = engine.StateRemoved }, wire.ErrProtocol},
		"closed by the future": {func(c *carried) { c.Whole.Moved = 12 }, wire.ErrProtocol},
	} {
		spoilt := &carried{Whole: c.Whole, Things: slices.Clone(c.Things)}
		spoilt.Whole.Devices = slices.Clone(c.Whole.Devices)
		for i, x := range spoilt.Things {
			spoilt.Things[i].Object, spoilt.Things[i].Bundle, spoilt.Things[i].Checkpoint = bytes.Clone(x.Object), bytes.Clone(x.Bundle), bytes.Clone(x.Checkpoint)
		}
		test.spoil(spoilt)
		if err := importAll(ctx, e, spoilt, engine.ImportOptions{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if n, err := e.Vaults(ctx); n != 0 || err != nil {
			t.Fatalf("%s: it has left %d vaults, %v", name, n, err)
		}
	}

	// Quotas: its own, and else the one of the engine, where that is asked for.
	bytesOf := c.Whole.Own.Bytes
	for _, test := range []struct {
		own  *engine.Quota
		all  engine.Quota
		want error
	}{
		{&engine.Quota{Bytes: 60_000}, engine.Quota{}, wire.ErrQuota},
		{&engine.Quota{Bytes: bytesOf}, engine.Quota{Bytes: 1}, nil},
		{nil, engine.Quota{Bytes: 71_000}, wire.ErrQuota},
		{nil, engine.Quota{Commits: 10}, wire.ErrQuota},
		{nil, engine.Quota{Devices: 1}, wire.ErrQuota},
		{nil, engine.Quota{Commits: 11, Devices: 2, Bytes: 1 << 30}, nil},
	} {
		e.DefaultQuota(test.all)
		c.Whole.Own = test.own
		if err := importAll(ctx, e, c, engine.ImportOptions{Bounded: true}); !errors.Is(err, test.want) {
			t.Errorf("with quotas %+v and %+v: %v, want %v", test.own, test.all, err, test.want)
		}
		if test.want != nil {
			fatal(t, importAll(ctx, e, c, engine.ImportOptions{}))
		}
		remove(t, e, v.ID())
	}
	e.DefaultQuota(engine.Quota{})
}

// revokedBy has the revoked device revoked by another commit.
func revokedBy(c *carried, id commitlog.CommitID) {
	for i := range c.Whole.Devices {
		if c.Whole.Devices[i].Revoked != 0 {
			c.Whole.Devices[i].Revoked = id
		}
	}
}

// scopes gives the scoped device another scope.
func scopes(c *carried, tags []keys.Tag) {
	for i := range c.Whole.Devices {
		if c.Whole.Devices[i].Tags != nil {
			c.Whole.Devices[i].Tags = tags
		}
	}
}

// testCarryInvites: invites come with what they are still good for, without their
// tokens.
func testCarryInvites(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	first, other := rawvault.New(), rawvault.New()
	q := engine.Quota{Commits: 5}
	fatal(t, e.Invite(ctx, wire.Token{1}, 2, now.Add(time.Hour), &q))
	fatal(t, e.Invite(ctx, wire.Token{2}, engine.Unlimited, now.Add(time.Minute), nil))
	fatal(t, e.Create(ctx, wire.Token{1}, first.Authority.Public(), now))
	all := func() (all []*engine.StoredInvite) {
		t.Helper()
		fatal(t, e.EachInvite(ctx, func(i *engine.StoredInvite) error {
			all = append(all, i)
			return nil
		}))
		return all
	}
	have := all()
	if len(have) != 2 {
		t.Fatalf("%d invites", len(have))
	}
	for n := range byte(2) {
		fatal(t, e.Invite(ctx, wire.Token{n + 1}, 0, now, nil)) // withdrawn
	}
	for _, i := range have {
		fatal(t, e.PutInvite(ctx, i))
	}
	if diff := cmp.Diff(have, all()); diff != "" {
		t.Errorf("they are others (-before +after):\n%s", diff)
	}
	fatal(t, e.Create(ctx, wire.Token{1}, first.Authority.Public(), now)) // again
	fatal(t, e.Create(ctx, wire.Token{1}, other.Authority.Public(), now))
	if err := e.Create(ctx, wire.Token{1}, rawvault.New().Authority.Public(), now); !errors.Is(err, wire.ErrInvite) {
		t.Errorf("used up: %v, want ErrInvite", err)
	}
	if x := tenant(t, e, other); x.Quota != q {
		t.Errorf("its vault has the quota %+v", x.Quota)
	}
}
