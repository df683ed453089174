// Package enginetest is the suite that every engine of a secondary passes.
package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// Run runs the suite. open returns an empty engine, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	tests := map[string]func(t *testing.T, e engine.Engine){
		"Invites":       testInvites,
		"UnknownVault":  testUnknownVault,
		"Append":        testAppend,
		"AppendAgain":   testAppendAgain,
		"Condition":     testCondition,
		"Serialised":    testSerialised,
		"Proof":         testProof,
		"Refusals":      testRefusals,
		"Registrations": testRegistrations,
		"MaxDevices":    testMaxDevices,
		"Objects":       testObjects,
		"ObjectMissing": testObjectMissing,
		"Read":          testRead,
		"Change":        testChange,
		"Concurrency":   testConcurrency,
		"Cancelled":     testCancelled,
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
	if err := e.Invite(t.Context(), token, 1, now.Add(time.Hour)); err != nil {
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

func testInvites(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	a, b, c := rawvault.New().Authority.Public(), rawvault.New().Authority.Public(), rawvault.New().Authority.Public()
	check := func(what string, token wire.Token, k keys.AuthorityKeys, at time.Time, want error) {
		t.Helper()
		if err := e.Create(ctx, token, k, at); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	once, twice, other := wire.Token{1}, wire.Token{2}, wire.Token{3}
	for token, uses := range map[wire.Token]uint32{once: 1, twice: 2, other: 1} {
		if err := e.Invite(ctx, token, uses, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := e.Vaults(ctx); n != 0 || err != nil {
		t.Errorf("vaults: %d, %v; want none", n, err)
	}
	late := now.Add(time.Hour)
	check("unknown invite", wire.Token{9}, a, now, wire.ErrInvite)
	check("expired invite", once, a, late, wire.ErrInvite)
	check("first use", once, a, now, nil)
	check("the same again", once, a, now, nil)
	check("the same again, expired", once, a, late, nil)
	check("used invite", once, b, now, wire.ErrInvite)
	check("vault that exists, other invite", other, a, now, nil)
	check("that invite is still good", other, b, now, nil)
	check("vault that exists, unknown invite", wire.Token{9}, a, now, wire.ErrInvite)
	check("vault that exists, expired invite", twice, a, late, wire.ErrInvite)
	check("one of two uses", twice, c, now, nil)
	check("the other", twice, rawvault.New().Authority.Public(), now, nil)
	check("a third", twice, rawvault.New().Authority.Public(), now, wire.ErrInvite)
	if n, err := e.Vaults(ctx); n != 4 || err != nil {
		t.Errorf("vaults: %d, %v; want 4", n, err)
	}
	author, err := e.Author(ctx, a.VaultID(), keys.DeviceID{})
	if err != nil || author.Sign != a.Sign || author.Auth != a.Auth {
		t.Errorf("authority: %+v, %v", author, err)
	}
	h, err := e.Head(ctx, a.VaultID(), 5)
	if err != nil || h.Size != 0 || h.Root != commitlog.EmptyRoot {
		t.Errorf("head of an empty log: %+v, %v", h, err)
	}
}

func testUnknownVault(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := rawvault.New()
	b, c := v.ControlCommit()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
	_, err := e.Author(ctx, v.ID(), keys.DeviceID{})
	check("Author", err)
	_, err = e.LastHeader(ctx, v.ID(), keys.DeviceID{})
	check("LastHeader", err)
	_, err = e.Head(ctx, v.ID(), 0)
	check("Head", err)
	_, _, err = e.Append(ctx, request(v, c, b))
	check("Append", err)
	_, err = e.Read(ctx, engine.ReadRequest{Vault: v.ID()}, func(*engine.Entry) (bool, error) { return true, nil })
	check("Read", err)
	_, _, err = e.Change(ctx, v.ID(), commitlog.ChangeID{Commit: 1})
	check("Change", err)
	_, err = e.OpenObject(ctx, v.ID(), commitlog.Hash{1})
	check("OpenObject", err)
}

func testAppend(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	if h, err := e.LastHeader(ctx, v.ID(), d.ID); h != nil || err != nil {
		t.Errorf("last header of a new device: %d bytes, %v", len(h), err)
	}
	a, b, c := d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{2}, 3), d.Commit(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, a, b)
	mustAppend(t, e, v, nil, c)
	checkHead(t, e, v)
	h, err := e.LastHeader(ctx, v.ID(), d.ID)
	if err != nil || !bytes.Equal(h, c.Commit.Raw) {
		t.Errorf("last header: %x, %v; want %x", h, err, c.Commit.Raw)
	}
	if h, err := e.Head(ctx, v.ID(), 2); err != nil || h.Size != 4 || h.Root != v.Root(2) {
		t.Errorf("head at 2: %+v, %v; want root %v", h, err, v.Root(2))
	}
	author, err := e.Author(ctx, v.ID(), d.ID)
	if err != nil || author.LastSeq != 3 || author.Auth != d.Auth.Public() {
		t.Errorf("author: %+v, %v", author, err)
	}
}

func testAppendAgain(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	a, b := d.Commit(keys.Tag{1}, 1), d.Commit(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, a, b)
	c := d.Commit(keys.Tag{1}, 1)
	elsewhere := uint64(77)

	// The same leaf has its ID, whatever the condition and however often.
	for _, condition := range []*uint64{nil, &elsewhere} {
		r := request(v, nil, a)
		r.Condition = condition
		out, size, err := e.Append(t.Context(), r)
		if err != nil || len(out) != 1 || out[0].ID != 2 || out[0].Err != nil || size != 3 {
			t.Errorf("again, condition %v: %+v, size %d, %v; want commit 2 of 3", condition, out, size, err)
		}
	}
	out, size, err := e.Append(t.Context(), request(v, nil, a, b, c, c))
	if err != nil || size != 4 {
		t.Fatalf("old and new: size %d, %v", size, err)
	}
	for i, want := range []commitlog.CommitID{2, 3, 4, 4} {
		if out[i].ID != want || out[i].Err != nil {
			t.Errorf("old and new: bundle %d: %+v, want commit %d", i, out[i], want)
		}
	}
	v.Appended(c.Commit.Leaf())

	// Another leaf under a known sequence number is refused.
	copied := *d
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	r := request(v, nil, copied.Commit(keys.Tag{1}, 1))
	refused(t, e, v, r, commitlog.ErrEquivocation)
	r.Condition = &elsewhere
	refused(t, e, v, r, wire.ErrCondition)
}

func testCondition(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	size := uint64(0)
	r := request(v, nil, d.Commit(keys.Tag{1}, 1))
	r.Condition = &size
	refused(t, e, v, r, wire.ErrCondition)
	size = 2
	refused(t, e, v, r, wire.ErrCondition)
	size = 1
	out, _, err := e.Append(t.Context(), r)
	if err != nil || out[0].Err != nil || out[0].ID != 2 {
		t.Errorf("condition that holds: %+v, %v", out, err)
	}
	r.Bundles = append(r.Bundles, r.Bundles[0])
	if _, _, err := e.Append(t.Context(), r); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("condition with two bundles: %v, want ErrProtocol", err)
	}
}

// A serialised commit is taken directly after what its author had seen, and
// nowhere else, with and without a condition.
func testSerialised(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	seen := v.Size()
	saved := *d
	late := d.Serialised(keys.Tag{1}, 1)
	*d = saved
	first := d.Serialised(keys.Tag{1}, 2)
	mustAppend(t, e, v, nil, first)

	other := v.NewDevice()
	b, control := v.ControlCommit(other.Registration(false))
	mustAppend(t, e, v, control, b)

	// Sent again, it has its place, whatever the log has become.
	again := request(v, nil, first)
	again.Condition = &seen
	out, _, err := e.Append(t.Context(), again)
	if err != nil || out[0].ID != 2 || out[0].Err != nil {
		t.Errorf("again: %+v, %v; want commit 2", out, err)
	}
	// One that was signed over an older log is refused: by its condition, and
	// by its place alone. (Another sequence number, so that only that counts.)
	stale := other.Serialised(keys.Tag{1}, 1)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	r := request(v, nil, stale)
	refused(t, e, v, r, commitlog.ErrOrder)
	r.Condition = &stale.Commit.Header.SeenSize
	refused(t, e, v, r, wire.ErrCondition)
	r = request(v, nil, late)
	r.Condition = &seen
	refused(t, e, v, r, wire.ErrCondition)
	other.Forget(commitlog.Hash{})
	mustAppend(t, e, v, nil, other.Serialised(keys.Tag{1}, 1))
}

func testProof(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	for range 9 {
		mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	}
	for to := uint64(1); to <= v.Size(); to++ {
		for from := uint64(1); from <= to; from++ {
			proof, err := e.Proof(t.Context(), v.ID(), from, to)
			if err == nil {
				err = commitlog.CheckTree(proof, from, v.Root(from), to, v.Root(to))
			}
			if err != nil {
				t.Errorf("from %d to %d: %v", from, to, err)
			}
		}
	}
	if _, err := e.Proof(t.Context(), v.ID(), 1, v.Size()+1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("beyond the log: %v, want ErrNotFound", err)
	}
	if _, err := e.Proof(t.Context(), keys.VaultID{1}, 1, 1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v, want ErrNotFound", err)
	}
}

func testRefusals(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)

	stranger := v.NewDevice()
	refused(t, e, v, request(v, nil, stranger.Commit(keys.Tag{1}, 1)), commitlog.ErrUnknownSigner)

	saved := *d
	without := d.Commit(keys.Tag{1}, 2)
	without.Blobs = [][]byte{without.Blobs[0], nil}
	refused(t, e, v, request(v, nil, without), commitlog.ErrBlob)
	without.Blobs = without.Blobs[:1]
	refused(t, e, v, request(v, nil, without), commitlog.ErrBlob)

	*d = saved
	wrong := d.Commit(v.Control, 1)
	refused(t, e, v, request(v, nil, wrong), commitlog.ErrMalformed)

	// One commit's refusal does not touch those before it, and those that
	// follow it are refused as well.
	*d = saved
	good := d.Commit(keys.Tag{1}, 1)
	bad := d.Commit(keys.Tag{1}, 1)
	bad.Blobs[0] = nil
	after := d.Commit(keys.Tag{1}, 1)
	out, size, err := e.Append(t.Context(), request(v, nil, good, bad, after))
	if err != nil || len(out) != 3 || size != 2 {
		t.Fatalf("three commits: %+v, size %d, %v", out, size, err)
	}
	if out[0].ID != 2 || out[0].Err != nil || !errors.Is(out[1].Err, commitlog.ErrBlob) || !errors.Is(out[2].Err, commitlog.ErrOmission) {
		t.Errorf("three commits: %+v; want 2, ErrBlob, ErrOmission", out)
	}
	v.Appended(good.Commit.Leaf())
	checkHead(t, e, v)

	// Built anew on what is in the log, the next goes in.
	d.Forget(good.Commit.Leaf())
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
}

func testRegistrations(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)

	// Nothing comes before genesis, and a control commit comes with its words.
	first, control := v.ControlCommit()
	refused(t, e, v, request(v, nil, first), wire.ErrRegistration)
	mustAppend(t, e, v, control, first)

	d, other := v.NewDevice(), v.NewDevice()
	registration := d.Registration(false)
	forged := registration
	forged.Auth = other.Auth.Public()
	saved := *v
	b, _ := v.ControlCommit()
	for name, c := range map[string]*wire.Control{
		"keys of another id":  {Epoch: 1, Devices: []wire.Registration{forged}},
		"twice the same":      {Epoch: 1, Devices: []wire.Registration{registration, registration}},
		"revoked and unknown": {Epoch: 1, Devices: []wire.Registration{d.Registration(true)}},
		"an epoch left out":   {Epoch: 3},
		"an epoch that ended": {Epoch: 0},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, e, v, request(v, c, b), wire.ErrRegistration)
			if _, err := e.Author(ctx, v.ID(), d.ID); !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("author after a refusal: %v", err)
			}
		})
	}
	*v = saved

	registration.Tags = wire.Tags{{1}}
	b, c := v.ControlCommit(registration, other.Registration(false))
	mustAppend(t, e, v, c, b)
	again, c := v.ControlCommit(registration)
	refused(t, e, v, request(v, c, again), wire.ErrRegistration)
	*v = unsent(v, b)

	refused(t, e, v, request(v, &wire.Control{Epoch: 1}, d.Commit(keys.Tag{1}, 1)), wire.ErrRegistration)
	*d = fresh(d)
	refused(t, e, v, request(v, nil, d.Commit(keys.Tag{2}, 1)), commitlog.ErrScope)
	*d = fresh(d)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))

	// Revoked: from the next commit on.
	b, c = v.ControlCommit(d.Registration(true))
	mustAppend(t, e, v, c, b)
	if a, err := e.Author(ctx, v.ID(), d.ID); err != nil || a.Revoked != 4 || a.LastSeq == 0 || len(a.Scope) != 1 {
		t.Errorf("revoked author: %+v, %v", a, err)
	}
	refused(t, e, v, request(v, nil, d.Commit(keys.Tag{1}, 1)), commitlog.ErrRevoked)
	b2, c := v.ControlCommit(d.Registration(true))
	refused(t, e, v, request(v, c, b2), wire.ErrRegistration)
	*v = unsent(v, b)
	mustAppend(t, e, v, nil, other.Commit(keys.Tag{2}, 1))

	// An epoch begins with the commit after the one that says so.
	b, c = v.ControlCommit()
	c.Epoch = 2
	mustAppend(t, e, v, c, b)
	refused(t, e, v, request(v, nil, other.Commit(keys.Tag{2}, 1)), commitlog.ErrEpoch)
}

// fresh returns the device before its last commit, which was refused.
func fresh(d *rawvault.Device) rawvault.Device {
	out := *d
	out.Forget(commitlog.Hash{})
	return out
}

// unsent returns the vault with the authority's last commit taken back to b.
func unsent(v *rawvault.Vault, b *commitlog.Bundle) rawvault.Vault {
	out := *v
	out.Forget(b.Commit.Leaf())
	return out
}

func testMaxDevices(t *testing.T, e engine.Engine) {
	v := create(t, e)
	var all []wire.Registration
	for range commitlog.MaxDevices {
		all = append(all, v.NewDevice().Registration(false))
	}
	b, c := v.ControlCommit(all...)
	mustAppend(t, e, v, c, b)
	more := v.NewDevice()
	over, c := v.ControlCommit(more.Registration(false))
	refused(t, e, v, request(v, c, over), commitlog.ErrLimit)
	*v = unsent(v, b)

	all[0].Revoked = true
	b, c = v.ControlCommit(all[0], more.Registration(false))
	mustAppend(t, e, v, c, b)
}

func randomObject(n int) ([]byte, commitlog.Hash) {
	_, data := rawvault.Put(n)
	return data, sha256.Sum256(data)
}

func testObjects(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, w := create(t, e), create(t, e)
	data, hash := randomObject(300_000)
	size := uint64(len(data))
	write := func(offset, n, want uint64) {
		t.Helper()
		have, err := e.WriteObject(ctx, v.ID(), hash, size, offset, data[offset:offset+n])
		if have != want || err != nil {
			t.Errorf("writing %d at %d: %d, %v; want %d", n, offset, have, err, want)
		}
	}
	has := func(vault *rawvault.Vault, want uint64, wantWhole bool) {
		t.Helper()
		have, whole, err := e.HaveObject(ctx, vault.ID(), hash)
		if have != want || whole != wantWhole || err != nil {
			t.Errorf("have: %d, %v, %v; want %d, %v", have, whole, err, want, wantWhole)
		}
	}
	has(v, 0, false)
	write(0, 100_000, 100_000)
	write(200_000, 50_000, 100_000) // a gap: dropped
	write(50_000, 100_000, 100_000) // an overlap: dropped
	has(v, 100_000, false)
	if _, err := e.OpenObject(ctx, v.ID(), hash); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("opening a part: %v, want ErrNotFound", err)
	}
	write(100_000, 200_000, 300_000)
	has(v, 300_000, true)
	write(0, 10, 300_000)
	has(w, 0, false) // another vault knows nothing of it

	o, err := e.OpenObject(ctx, v.ID(), hash)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(o, 0, int64(o.Size())))
	if err != nil || !bytes.Equal(got, data) || o.Size() != size {
		t.Errorf("object of %d bytes reads as %d bytes, %v", o.Size(), len(got), err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}

	// Other bytes than the hash says are forgotten, and the right ones go in.
	if have, err := e.WriteObject(ctx, w.ID(), hash, size, 0, make([]byte, size)); !errors.Is(err, commitlog.ErrBlob) || have != 0 {
		t.Errorf("wrong bytes: %d, %v; want ErrBlob", have, err)
	}
	has(w, 0, false)
	if have, err := e.WriteObject(ctx, w.ID(), hash, size, 0, data); err != nil || have != size {
		t.Errorf("right bytes after wrong ones: %d, %v", have, err)
	}
}

func testObjectMissing(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	data, hash := randomObject(100_000)
	change, blob := rawvault.Put(commitlog.MinBlob)
	change.ObjectHash, change.ObjectSize = hash, uint64(len(data))
	saved := *d
	b := d.CommitOf(keys.Tag{1}, []commitlog.Change{change}, [][]byte{blob})
	refused(t, e, v, request(v, nil, b), wire.ErrObjectMissing)
	if _, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), 0, data[:50_000]); err != nil {
		t.Fatal(err)
	}
	refused(t, e, v, request(v, nil, b), wire.ErrObjectMissing)
	if _, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), 50_000, data[50_000:]); err != nil {
		t.Fatal(err)
	}
	other := saved
	change.ObjectSize++
	refused(t, e, v, request(v, nil, other.CommitOf(keys.Tag{1}, []commitlog.Change{change}, [][]byte{blob})), commitlog.ErrBlob)
	mustAppend(t, e, v, nil, b) // the same commit, once its object is there
}

func testRead(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)
	d, o := v.NewDevice(), v.NewDevice()
	genesis, c := v.ControlCommit(d.Registration(false), o.Registration(false))
	mustAppend(t, e, v, c, genesis)
	all := []*commitlog.Bundle{genesis}
	for i := range 6 {
		author := d
		if i%2 == 1 {
			author = o
		}
		b := author.Commit(keys.Tag{byte(1 + i%3)}, 1+i)
		mustAppend(t, e, v, nil, b)
		all = append(all, b)
	}
	sizeOf := func(from, to int) (n uint64) {
		for _, b := range all[from:to] {
			n += uint64(b.EncodedSize())
		}
		return n
	}

	read := func(r engine.ReadRequest, max int) (entries []string, p engine.Progress) {
		t.Helper()
		r.Vault = v.ID()
		p, err := e.Read(ctx, r, func(en *engine.Entry) (bool, error) {
			if len(entries) == max {
				return false, nil
			}
			want := all[en.ID-1]
			if en.Seq != want.Commit.Header.Seq {
				t.Errorf("commit %d: sequence number %d, want %d", en.ID, en.Seq, want.Commit.Header.Seq)
			}
			switch {
			case en.Bundle == nil:
				entries = append(entries, fmt.Sprint(en.ID, " stub"))
				return true, nil
			case en.Bundle.ID != en.ID || !bytes.Equal(en.Bundle.Commit.Raw, want.Commit.Raw) || !bytes.Equal(en.Bundle.Commit.List, want.Commit.List):
				t.Errorf("commit %d is another", en.ID)
			}
			blobs := 0
			for i, blob := range en.Bundle.Blobs {
				if blob != nil {
					blobs++
					if !bytes.Equal(blob, want.Blobs[i]) {
						t.Errorf("commit %d: blob %d is another", en.ID, i)
					}
				}
			}
			entries = append(entries, fmt.Sprint(en.ID, " ", blobs))
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return entries, p
	}
	check := func(what string, r engine.ReadRequest, max int, want []string, wantP engine.Progress) {
		t.Helper()
		got, p := read(r, max)
		if fmt.Sprint(got) != fmt.Sprint(want) || p != wantP {
			t.Errorf("%s: %v, %+v; want %v, %+v", what, got, p, want, wantP)
		}
	}
	check("all", engine.ReadRequest{}, 99, []string{"1 1", "2 1", "3 2", "4 3", "5 4", "6 5", "7 6"}, engine.Progress{Next: 7, Size: 7})
	check("some", engine.ReadRequest{After: 2}, 3, []string{"3 2", "4 3", "5 4"}, engine.Progress{Next: 5, Size: 7, Left: sizeOf(5, 7)})
	check("none", engine.ReadRequest{After: 2}, 0, nil, engine.Progress{Next: 2, Size: 7, Left: sizeOf(2, 7)})
	check("the end", engine.ReadRequest{After: 7}, 9, nil, engine.Progress{Next: 7, Size: 7})
	check("one namespace", engine.ReadRequest{Tags: map[keys.Tag]bool{{2}: true}}, 99, []string{"1 1", "2 0", "3 2", "4 0", "5 0", "6 5", "7 0"}, engine.Progress{Next: 7, Size: 7})
	check("stubs", engine.ReadRequest{Stubs: &o.ID}, 4, []string{"1 1", "2 1", "3 stub", "4 3"}, engine.Progress{Next: 4, Size: 7, Left: sizeOf(4, 7)})
	check("the authority's stubs", engine.ReadRequest{Stubs: new(keys.DeviceID)}, 2, []string{"1 stub", "2 1"}, engine.Progress{Next: 2, Size: 7, Left: sizeOf(2, 7)})

	enough := errors.New("enough")
	if _, err := e.Read(ctx, engine.ReadRequest{Vault: v.ID()}, func(*engine.Entry) (bool, error) { return false, enough }); !errors.Is(err, enough) {
		t.Errorf("error of the function: %v", err)
	}
}

func testChange(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	b := d.Commit(keys.Tag{1}, 2)
	mustAppend(t, e, v, nil, b)
	ch, blob, err := e.Change(ctx, v.ID(), commitlog.ChangeID{Commit: 2, Index: 1})
	if err != nil || !bytes.Equal(ch.Entry, b.Commit.Changes[1].Entry) || !bytes.Equal(blob, b.Blobs[1]) {
		t.Errorf("change 2.1: %+v with %d bytes, %v", ch, len(blob), err)
	}
	for _, id := range []commitlog.ChangeID{{Commit: 2, Index: 2}, {Commit: 3}, {}} {
		if _, _, err := e.Change(ctx, v.ID(), id); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("change %v: %v, want ErrNotFound", id, err)
		}
	}
}

// testConcurrency lets devices of several vaults write at once: every commit has
// an ID, and the IDs of a vault have no gaps.
func testConcurrency(t *testing.T, e engine.Engine) {
	const vaults, devices, commits = 3, 4, 15
	var wg sync.WaitGroup
	for range vaults {
		v := create(t, e)
		var all []*rawvault.Device
		var registrations []wire.Registration
		for range devices {
			d := v.NewDevice()
			all, registrations = append(all, d), append(registrations, d.Registration(false))
		}
		b, c := v.ControlCommit(registrations...)
		mustAppend(t, e, v, c, b)

		ids := make(chan commitlog.CommitID, devices*commits)
		var writers sync.WaitGroup
		for _, d := range all {
			writers.Go(func() {
				for range commits {
					out, size, err := e.Append(t.Context(), request(v, nil, d.Commit(keys.Tag{1}, 1)))
					if err != nil || out[0].Err != nil || size < uint64(out[0].ID) {
						t.Errorf("append: %+v, size %d, %v", out, size, err)
						return
					}
					ids <- out[0].ID
				}
			})
		}
		wg.Go(func() {
			writers.Wait()
			close(ids)
			seen := make(map[commitlog.CommitID]bool)
			for id := range ids {
				if seen[id] || id < 2 || id > 1+devices*commits {
					t.Errorf("commit ID %d, twice or out of range", id)
				}
				seen[id] = true
			}
			if len(seen) != devices*commits {
				t.Errorf("%d commit IDs, want %d", len(seen), devices*commits)
			}
		})
	}
	wg.Wait()
}

func testCancelled(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Append(ctx, request(v, nil, d.Commit(keys.Tag{1}, 1))); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v, want Canceled", err)
	}
	checkHead(t, e, v)
}
