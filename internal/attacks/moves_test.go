package attacks_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// moveTo returns the statement that a vault is at a secondary.
func moveTo(head commitlog.ControlHead, key keys.VerifyKey, url string) *commitlog.Statement {
	return &commitlog.Statement{Number: head.Number + 1, Previous: head.Hash, Move: &commitlog.Move{ServerKey: key, URL: url}}
}

// C17: where a vault is, nobody says but its authority, once, and in a way that can be
// followed.
func TestC17ForgedMove(t *testing.T) {
	s := newScene(t)
	real := authorityOf(s.vault.Root)
	head := real.controlHead(t, s.log)
	evil := keys.GenerateSigningKey().Public()
	const url = "wss://evil.example/"
	move := func(a *author, st *commitlog.Statement) []byte { return a.statement(t, s.log, nil, st) }

	made := *real
	made.sign = keys.GenerateRoot().Authority().Sign
	device := authorOf(t, s.b) // a device that is admitted, and has all secrets but the root's
	asAuthority := *real
	asAuthority.sign = device.sign
	signed := move(real, moveTo(head, evil, "wss://good.example/"))
	altered := slices.Clone(signed)
	altered[len(altered)-1] ^= 1
	elsewhere := authorityOf(keys.GenerateRoot())
	elsewhere.tags, elsewhere.epoch = real.tags, real.epoch
	notNext := head
	notNext.Number++
	other := head
	other.Hash[0]++
	s.try(t, known,
		attack{lying.ServeSilently("by a self-made authority", with(s.log, move(&made, moveTo(head, evil, url)))), commitlog.ErrSignature},
		attack{lying.ServeSilently("by a device in the authority's name", with(s.log, move(&asAuthority, moveTo(head, evil, url)))), commitlog.ErrSignature},
		attack{lying.ServeSilently("by a device", with(s.log, move(device, moveTo(head, evil, url)))), commitlog.ErrMalformed},
		attack{lying.ServeSilently("by another vault's authority", with(s.log, move(elsewhere, moveTo(head, evil, url)))), commitlog.ErrSignature},
		attack{lying.ServeSilently("altered", with(s.log, altered)), commitlog.ErrBlob},
		attack{lying.ServeSilently("of another place in the control log", with(s.log, move(real, moveTo(notNext, evil, url)))), commitlog.ErrControlFork},
		attack{lying.ServeSilently("after another statement", with(s.log, move(real, moveTo(other, evil, url)))), commitlog.ErrControlFork},
		attack{lying.ServeSilently("replayed", with(s.log, signed, lying.SetID(signed, s.last()+2))), commitlog.ErrEquivocation},
		// Signed by the vault's own authority, and not to be followed.
		attack{lying.ServeSilently("to a key that is none", with(s.log, move(real, moveTo(head, keys.VerifyKey{}, url)))), commitlog.ErrMalformed},
		attack{lying.ServeSilently("to no address", with(s.log, move(real, moveTo(head, evil, "")))), commitlog.ErrMalformed},
		attack{lying.ServeSilently("to an address with a line in it", with(s.log, move(real, moveTo(head, evil, "wss://a/\nx")))), commitlog.ErrMalformed},
		attack{lying.ServeSilently("to a long address", with(s.log, move(real, moveTo(head, evil, "wss://"+strings.Repeat("a", 250))))), commitlog.ErrMalformed},
		attack{lying.ServeSilently("to an address of a later version", with(s.log, move(real, moveTo(head, evil, "quic://a/")))), commitlog.ErrVersion},
	)
}

// movedAway is a vault at a secondary that it was moved away from, with a device that
// was away meanwhile and has something to send.
func movedAway(t *testing.T) (old, now *vaulttest.Secondary, v *vaulttest.Vault, a, away *vaulttest.Device) {
	t.Helper()
	old, now = vaulttest.NewSecondary(t), vaulttest.NewSecondary(t)
	v = old.NewVault(t)
	a, away = v.Device(t, "a", vault.Config{}), v.Device(t, "away", vault.Config{})
	for _, d := range []*vaulttest.Device{a, away} {
		d.Network.LeadAlso(old)
		d.Network.LeadAlso(now)
	}
	write(t, a, "notes", "x", "1")
	vaulttest.Sync(t, a, away)
	i := now.Invite()
	_, _, err := a.Move(t.Context(), v.Root.Authority(), keyfile.Server{URL: i.URL, Key: i.Server, Binding: keyfile.Binding(i.Binding.String())}, &i.Token, vault.SyncOptions{})
	fatal(t, err)
	write(t, away, "notes", "unsent", "1")
	return old, now, v, a, away
}

// C17: a secondary that a vault was moved away from and that goes on gets nothing, and
// what it makes up is seen.
func TestC17OldSecondaryGoesOn(t *testing.T) {
	t.Run("takes what it may not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			old, _, _, a, away := movedAway(t)
			liar := old.Lie(lying.Answer("acknowledges", func(u *wire.Upload) []wire.Message {
				return []wire.Message{&wire.Uploaded{Results: []wire.Result{{Seq: 1, ID: 99}}}}
			}))
			vaulttest.Sync(t, away, a)
			vaulttest.InStep(t, a, away)
			if liar.Told() > 0 {
				t.Error("it was sent a commit")
			}
		})
	})
	t.Run("says that it was moved, and does not show it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			old, _, _, _, away := movedAway(t)
			st, err := away.Status(t.Context())
			fatal(t, err)
			old.Lie(lying.Both("hides the move",
				lying.Change("fewer", lying.All, func(b *wire.Bound) {
					b.Size = st.Commits
					b.Root = st.Root
				}), lying.Drop(wire.TypeDownload, lying.All)))
			before := away.Dump().Without("meta/sequence", "sent", "built", "meta/enrol", "unsent", "outbox", "records")
			_, err = away.Sync(t.Context(), vault.SyncOptions{})
			if !errors.Is(err, wire.ErrMoved) {
				t.Fatalf("got %v", err)
			}
			if alarm, err := away.Alarm(t.Context()); alarm != nil || err != nil {
				t.Errorf("alarm %v, %v", alarm, err)
			}
			if changed := before.Changed(away.Dump().Without("meta/sequence", "sent", "built", "meta/enrol", "unsent", "outbox", "records")); len(changed) > 0 {
				t.Errorf("what is stored has changed: %q", changed)
			}
			old.Lie(lying.Mutation{})
			vaulttest.Sync(t, away) // and sends it there
		})
	})
	t.Run("shows commits after the move", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			old, now, v, a, away := movedAway(t)
			log := pull(t, old, v)
			more := authorOf(t, a).write(t, log, "notes", "x", "made for the old one", nil)
			old.Lie(lying.Serve("goes on", with(log, more)))
			if _, err := away.Sync(t.Context(), vault.SyncOptions{}); err != nil && !errors.Is(err, commitlog.ErrFork) && !errors.Is(err, commitlog.ErrRollback) {
				t.Fatalf("got %v", err)
			}
			if alarm, err := away.Alarm(t.Context()); alarm == nil || err != nil || alarm.Key != now.ServerKey().Public() {
				t.Errorf("alarm %v, %v", alarm, err)
			}
		})
	})
}

// C17: at the address that a move names, nobody but the secondary with its key is the
// new one.
func TestC17AnotherAtTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, now, _, _, away := movedAway(t)
		stranger := vaulttest.NewSecondary(t)
		lost := away.Copy(t, stranger) // which is all that can be reached but the old one
		lost.Network.LeadAlso(old)
		if _, err := lost.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrServerIdentity) {
			t.Fatalf("got %v", err)
		}
		lost.Network.LeadAlso(now)
		vaulttest.Sync(t, lost)
	})
}
