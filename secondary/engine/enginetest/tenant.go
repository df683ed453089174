package enginetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func tenant(t *testing.T, e engine.Engine, v *rawvault.Vault) *engine.Tenant {
	t.Helper()
	x, err := e.Tenant(t.Context(), v.ID())
	if err != nil {
		t.Fatalf("tenant: %v", err)
	}
	return x
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testTenants: what is told of a vault, and who may change it.
func testTenants(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	w := create(t, e)
	x := tenant(t, e, v)
	if x.Vault != v.ID() || !x.Created.Equal(now) || !x.Seen.Equal(now) || x.State != engine.StateActive || x.Own || x.Used.Commits != 1 || x.Used.Devices != 1 {
		t.Errorf("a new vault: %+v", x)
	}
	b := d.Commit(keys.Tag{1}, 3)
	before := x.Used.Log
	mustAppend(t, e, v, nil, b)
	if x = tenant(t, e, v); x.Used.Log != before+uint64(b.EncodedSize()) || x.Used.Commits != 2 || x.Used.Objects != 0 {
		t.Errorf("after a commit of %d bytes: %+v, %d before", b.EncodedSize(), x.Used, before)
	}
	data, hash := randomObject(70_000)
	write := func(offset, n int) {
		t.Helper()
		if _, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), uint64(offset), data[offset:offset+n]); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int{0, 30_000, 10_000, 30_000} { // two of them do not continue what is there
		write(at, min(30_000, len(data)-at))
	}
	if x = tenant(t, e, v); x.Used.Objects != 60_000 || x.Used.Bytes() != x.Used.Log+60_000 {
		t.Errorf("with part of an object: %+v", x.Used)
	}
	write(60_000, 10_000)
	write(0, 10)
	if x = tenant(t, e, v); x.Used.Objects != 70_000 {
		t.Errorf("with an object: %+v", x.Used)
	}
	// One of a few bytes takes as much as a block of the disk, and does where it grows.
	small, smallHash := randomObject(1000)
	for at := range 4 {
		if _, err := e.WriteObject(ctx, w.ID(), smallHash, 1000, uint64(at*250), small[at*250:][:250]); err != nil {
			t.Fatal(err)
		}
		if x = tenant(t, e, w); x.Used.Objects != 4096 {
			t.Errorf("with %d bytes of a small object: %+v", (at+1)*250, x.Used)
		}
	}
	fatal(t, e.SetQuota(ctx, w.ID(), &engine.Quota{Bytes: x.Used.Bytes() + 4096 - 1}))
	other, otherHash := randomObject(1000)
	for _, data := range [][]byte{nil, other} {
		if _, err := e.WriteObject(ctx, w.ID(), otherHash, 1000, 0, data); !errors.Is(err, wire.ErrQuota) {
			t.Errorf("a second small object: %v", err)
		}
	}
	fatal(t, e.SetQuota(ctx, w.ID(), nil))

	for _, test := range []struct{ at, want time.Duration }{{time.Minute, 0}, {2 * time.Hour, 2 * time.Hour}, {time.Hour, 2 * time.Hour}} {
		fatal(t, e.Seen(ctx, v.ID(), now.Add(test.at)))
		if x = tenant(t, e, v); !x.Seen.Equal(now.Add(test.want)) {
			t.Errorf("seen after %v: %v, want %v", test.at, x.Seen, test.want)
		}
	}
	q := engine.Quota{Bytes: 1 << 30, Devices: 3}
	e.DefaultQuota(engine.Quota{Commits: 7})
	fatal(t, e.SetQuota(ctx, v.ID(), &q))
	if x, y := tenant(t, e, v), tenant(t, e, w); x.Quota != q || !x.Own || y.Quota != (engine.Quota{Commits: 7}) || y.Own {
		t.Errorf("quotas: %+v and %+v", x, y)
	}
	fatal(t, e.SetQuota(ctx, v.ID(), nil))
	if x := tenant(t, e, v); x.Quota.Commits != 7 || x.Own {
		t.Errorf("without a quota of its own: %+v", x)
	}
	e.DefaultQuota(engine.Quota{})

	var ids []keys.VaultID
	fatal(t, e.EachTenant(ctx, func(x *engine.Tenant) error {
		ids = append(ids, x.Vault)
		return nil
	}))
	if len(ids) != 2 || string(ids[0][:]) >= string(ids[1][:]) {
		t.Errorf("tenants: %v", ids)
	}
	stranger := rawvault.New().ID()
	_, err := e.Tenant(ctx, stranger)
	_, serr := e.State(ctx, stranger)
	for what, err := range map[string]error{
		"Tenant": err, "State": serr, "Seen": e.Seen(ctx, stranger, now),
		"SetQuota": e.SetQuota(ctx, stranger, &q), "SetState": e.SetState(ctx, stranger, engine.StateSuspended, now),
	} {
		if !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("%s of an unknown vault: %v, want ErrNotFound", what, err)
		}
	}
	if err := e.SetState(ctx, v.ID(), engine.StateRemoved, now); err == nil {
		t.Error("a vault could be made removed")
	}
}

// testSuspended: nothing is written to a vault that is not active.
func testSuspended(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	saved := *d
	data, hash := randomObject(1000)
	for _, s := range []engine.State{engine.StateSuspended, engine.StateDeleted} {
		fatal(t, e.SetState(ctx, v.ID(), s, now.Add(time.Hour)))
		if got, err := e.State(ctx, v.ID()); got != s || err != nil {
			t.Errorf("state: %v, %v; want %v", got, err, s)
		}
		if x := tenant(t, e, v); x.State != s || !x.Since.Equal(now.Add(time.Hour)) {
			t.Errorf("%v: %+v", s, x)
		}
		*d = saved
		_, _, aerr := e.Append(ctx, request(v, nil, d.Commit(keys.Tag{1}, 1)))
		_, rerr := e.Refill(ctx, request(v, nil, d.Commit(keys.Tag{1}, 1)))
		_, werr := e.WriteObject(ctx, v.ID(), hash, 1000, 0, data)
		for what, err := range map[string]error{"Append": aerr, "Refill": rerr, "WriteObject": werr} {
			if !errors.Is(err, wire.ErrSuspended) {
				t.Errorf("%v: %s: %v, want ErrSuspended", s, what, err)
			}
		}
		checkHead(t, e, v)
	}
	if n, err := e.Remove(ctx, now); n != 0 || err != nil {
		t.Errorf("removing before its time: %d, %v", n, err)
	}
	fatal(t, e.SetState(ctx, v.ID(), engine.StateActive, now))
	*d = saved
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
}

// testQuota: what is more than a vault's quota is refused, in the append's own step;
// what makes room is not, and with room the same goes in.
func testQuota(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	set := func(q engine.Quota) {
		t.Helper()
		fatal(t, e.SetQuota(ctx, v.ID(), &q))
	}
	before := d.Commit(keys.Tag{1}, 2)
	mustAppend(t, e, v, nil, before)
	used := tenant(t, e, v).Used

	set(engine.Quota{Commits: 2})
	over := d.Commit(keys.Tag{1}, 1)
	refused(t, e, v, request(v, nil, over), wire.ErrQuota)
	set(engine.Quota{Bytes: used.Bytes() + uint64(over.EncodedSize()) - 1})
	refused(t, e, v, request(v, nil, over), wire.ErrQuota)

	// A control commit and one that deletes are taken all the same.
	b, c := v.ControlCommit()
	mustAppend(t, e, v, c, b)
	last := b.Commit.Leaf()
	d.Forget(before.Commit.Leaf())
	gone := d.Delete(keys.Tag{1}, commitlog.ChangeID{Commit: 2})
	mustAppend(t, e, v, nil, gone)
	// With room again, the same goes in, and the next does not.
	d.Forget(gone.Commit.Leaf())
	over = d.Commit(keys.Tag{1}, 1)
	set(engine.Quota{Bytes: tenant(t, e, v).Used.Bytes() + uint64(over.EncodedSize())})
	mustAppend(t, e, v, nil, over)
	refused(t, e, v, request(v, nil, d.Commit(keys.Tag{1}, 1)), wire.ErrQuota)
	d.Forget(over.Commit.Leaf())

	// Objects count, those under way, too.
	data, hash := randomObject(70_000)
	_, other := randomObject(70_000)
	base := tenant(t, e, v).Used.Bytes()
	set(engine.Quota{Bytes: base + 69_999})
	if have, err := e.WriteObject(ctx, v.ID(), hash, 70_000, 0, nil); have != 0 || !errors.Is(err, wire.ErrQuota) {
		t.Errorf("asking for an object that does not fit: %d, %v; want ErrQuota", have, err)
	}
	if have, err := e.WriteObject(ctx, v.ID(), hash, 70_000, 0, data[:69_000]); have != 69_000 || err != nil {
		t.Errorf("its beginning, which fits: %d, %v", have, err)
	}
	if have, err := e.WriteObject(ctx, v.ID(), hash, 70_000, 69_000, data[69_000:]); have != 69_000 || !errors.Is(err, wire.ErrQuota) {
		t.Errorf("its end: %d, %v; want ErrQuota", have, err)
	}
	if have, err := e.WriteObject(ctx, v.ID(), other, 70_000, 0, data[:10_000]); have != 0 || !errors.Is(err, wire.ErrQuota) {
		t.Errorf("another one: %d, %v; want ErrQuota", have, err)
	}
	set(engine.Quota{Bytes: base + 70_000})
	if have, err := e.WriteObject(ctx, v.ID(), hash, 70_000, 69_000, data[69_000:]); have != 70_000 || err != nil {
		t.Errorf("its end, with room: %d, %v", have, err)
	}
	if x := tenant(t, e, v); x.Used.Objects != 70_000 {
		t.Errorf("objects take %d bytes", x.Used.Objects)
	}
	if have, err := e.WriteObject(ctx, v.ID(), hash, 70_000, 0, nil); have != 70_000 || err != nil {
		t.Errorf("asking for one that is there: %d, %v", have, err)
	}
	// A commit is refused for the object that it would bring, before it is missed.
	set(engine.Quota{Bytes: base + 100_000})
	saved := *d
	big, blob := rawvault.Put(commitlog.MinBlob)
	big.ObjectHash, big.ObjectSize = other, 70_000
	refused(t, e, v, request(v, nil, d.CommitOf(keys.Tag{1}, []commitlog.Change{big}, [][]byte{blob})), wire.ErrQuota)
	*d = saved

	// Devices: one more is refused, and a revocation never.
	set(engine.Quota{Devices: 1})
	second := v.NewDevice()
	b, c = v.ControlCommit(second.Registration(false))
	refused(t, e, v, request(v, c, b), wire.ErrQuota)
	v.Forget(last)
	set(engine.Quota{Devices: 2})
	b, c = v.ControlCommit(second.Registration(false))
	mustAppend(t, e, v, c, b)
	set(engine.Quota{Devices: 1})
	b, c = v.ControlCommit(second.Registration(true))
	mustAppend(t, e, v, c, b)
}

// testRemove: a vault that was deleted goes, when it is time, with all it has; others
// stay, and it can be made again.
func testRemove(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	w, _ := withDevice(t, e)
	u, _ := withDevice(t, e)
	for range 50 {
		mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 100))
	}
	data, hash := randomObject(1000)
	_, err := e.WriteObject(ctx, v.ID(), hash, 1000, 0, data)
	fatal(t, err)
	fatal(t, e.SetState(ctx, v.ID(), engine.StateDeleted, now))

	// One goes before its time, and no other with it.
	fatal(t, e.SetState(ctx, u.ID(), engine.StateDeleted, now))
	fatal(t, e.SetState(ctx, u.ID(), engine.StateRemoved, now))
	if n, err := e.Remove(ctx, now.AddDate(0, 0, -7)); n != 1 || err != nil {
		t.Errorf("one of two: %d, %v", n, err)
	}
	if n, err := e.Vaults(ctx); n != 2 || err != nil {
		t.Errorf("%d vaults, %v", n, err)
	}
	// Who keeps what is deleted for a hundred years keeps it.
	if n, err := e.Remove(ctx, now.AddDate(-100, 0, 0)); n != 0 || err != nil {
		t.Errorf("removed from before 1970: %d, %v", n, err)
	}
	// Cut off, and gone on with.
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if n, err := e.Remove(cut, now); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("cut off: %d, %v", n, err)
	}
	if n, err := e.Remove(ctx, now); n != 1 || err != nil {
		t.Fatalf("removed: %d, %v; want 1", n, err)
	}
	if n, err := e.Remove(ctx, now); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if _, err := e.Author(ctx, v.ID(), d.ID); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("author: %v, want ErrNotFound", err)
	}
	if _, err := e.OpenObject(ctx, v.ID(), hash); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("object: %v, want ErrNotFound", err)
	}
	if n, err := e.Vaults(ctx); n != 1 || err != nil {
		t.Errorf("vaults: %d, %v; want the other", n, err)
	}
	checkHead(t, e, w)

	// The invite that made it is used up; another makes it again, empty.
	if err := e.Create(ctx, wire.Token(v.ID()), v.Authority.Public(), now); !errors.Is(err, wire.ErrInvite) {
		t.Errorf("with the old invite: %v, want ErrInvite", err)
	}
	q := engine.Quota{Devices: 5}
	fatal(t, e.Invite(ctx, wire.Token{}, engine.Unlimited, now.Add(time.Hour), &q))
	fatal(t, e.Create(ctx, wire.Token{}, v.Authority.Public(), now))
	fatal(t, e.Create(ctx, wire.Token{}, v.Authority.Public(), now))
	fatal(t, e.Create(ctx, wire.Token{}, rawvault.New().Authority.Public(), now))
	if x := tenant(t, e, v); x.Used != (engine.Usage{}) || x.State != engine.StateActive || x.Quota != q || !x.Own {
		t.Errorf("made again: %+v", x)
	}
	if have, _, err := e.HaveObject(ctx, v.ID(), hash); have != 0 || err != nil {
		t.Errorf("its object: %d, %v", have, err)
	}
	fatal(t, e.Invite(ctx, wire.Token{}, 0, now.Add(time.Hour), nil)) // withdrawn
	if err := e.Create(ctx, wire.Token{}, rawvault.New().Authority.Public(), now); !errors.Is(err, wire.ErrInvite) {
		t.Errorf("withdrawn: %v, want ErrInvite", err)
	}
}
