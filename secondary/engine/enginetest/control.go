package enginetest

import (
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

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
		if err := e.Invite(ctx, token, uses, now.Add(time.Hour), nil); err != nil {
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
	_, err = e.OpenState(ctx, v.ID(), 1)
	check("OpenState", err)
}

// testResets appends resets, and what is refused because of them.
func testResets(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)
	d, gone := v.NewDevice(), v.NewDevice()
	b, c := v.ControlCommit(d.Registration(false))
	mustAppend(t, e, v, c, b)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	head := func(want commitlog.CommitID) {
		t.Helper()
		if h, err := e.Head(ctx, v.ID(), 1); err != nil || h.Reset != want {
			t.Fatalf("newest reset: %d, %v, want %d", h.Reset, err, want)
		}
	}
	head(0)
	early := *d
	signed := d.Commit(keys.Tag{1}, 1)
	*d = early

	// Of two resets in one commit one is repeated; a device comes and goes with them.
	b, c = v.ControlOf([]int{commitlog.MinBlob, commitlog.MinBlob, commitlog.MinBlob, commitlog.MinBlob}, gone.Registration(false), gone.Registration(true))
	c.Resets = 2
	mustAppend(t, e, v, c, b)
	head(3)
	if a, err := e.Author(ctx, v.ID(), gone.ID); err != nil || a.Revoked != 3 {
		t.Errorf("admitted and revoked in one commit: %+v, %v", a, err)
	}
	refused(t, e, v, request(v, nil, signed), commitlog.ErrOrder)
	mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	head(3)
	b, c = v.ControlCommit()
	c.Resets = 1
	mustAppend(t, e, v, c, b)
	head(5)
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
		"keys of another id":          {Epoch: 1, Devices: []wire.Registration{forged}},
		"twice the same":              {Epoch: 1, Devices: []wire.Registration{registration, registration}},
		"revoked and unknown":         {Epoch: 1, Devices: []wire.Registration{d.Registration(true)}},
		"an epoch left out":           {Epoch: 3},
		"an epoch that ended":         {Epoch: 0},
		"more resets than statements": {Epoch: 1, Resets: 2},
		"an unknown move":             {Epoch: 1, Moved: 3},
		"revoked twice":               {Epoch: 1, Devices: []wire.Registration{registration, d.Registration(true), d.Registration(true)}},
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
