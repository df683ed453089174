package attacks_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// admission returns the statement that admits a new device, by an authority, as the
// next after a head.
func admission(t testing.TB, by keys.Authority, a *author, head commitlog.ControlHead) *commitlog.Statement {
	t.Helper()
	k, err := keys.GenerateDeviceSeed().Keys()
	fatal(t, err)
	cert, err := keys.NewCertificate(by, k, "of its own making", nil, time.Unix(1<<30, 0))
	fatal(t, err)
	grant, err := seal.SealGrant(k.Public().KEM, a.vault, k.ID(), &seal.Grant{TagSecret: &a.tags, Epochs: []keys.Epoch{{Number: 1, Secret: a.epoch}}})
	fatal(t, err)
	return &commitlog.Statement{Number: head.Number + 1, Previous: head.Hash, AddDevice: &commitlog.AddDevice{Certificate: cert, Grant: grant}}
}

// A1: nothing that a secondary makes itself becomes a key, a certificate or the
// beginning of a vault.
func TestA1KeyMaterial(t *testing.T) {
	s := newScene(t)
	real := authorityOf(s.vault.Root)
	other := keys.GenerateRoot()
	head := real.controlHead(t, s.log)

	// The self-made authority writes with all that a colluding device knows.
	made := *real
	made.sign = other.Authority().Sign
	genesis := func(v keys.VaultID, k keys.AuthorityKeys) *commitlog.Statement {
		return &commitlog.Statement{Number: 1, Genesis: &commitlog.Genesis{Vault: v, Authority: k, Created: 1}}
	}
	s.try(t, restoring,
		attack{lying.Serve("a vault of a self-made authority", lying.Log{made.statement(t, nil, nil, genesis(s.vault.Root.VaultID(), other.Authority().Public()))}), commitlog.ErrSignature},
		attack{lying.Serve("another vault", lying.Log{authorityOf(other).statement(t, nil, nil, genesis(other.VaultID(), other.Authority().Public()))}), commitlog.ErrSignature},
		// Signed by the vault's own authority: what it must not say all the same.
		attack{lying.Serve("a genesis that names another vault", lying.Log{real.statement(t, nil, nil, genesis(other.VaultID(), other.Authority().Public()))}), commitlog.ErrVaultIDMismatch},
		attack{lying.Serve("a genesis that names other keys", lying.Log{real.statement(t, nil, nil, genesis(s.vault.Root.VaultID(), other.Authority().Public()))}), commitlog.ErrVaultIDMismatch},
		attack{lying.Serve("a log that begins with an admission", lying.Log{real.statement(t, nil, nil, admission(t, s.vault.Root.Authority(), real, commitlog.ControlHead{}))}), commitlog.ErrNoGenesis},
		attack{lying.Serve("a log that begins with data", lying.Log{s.log[3]}), commitlog.ErrNoGenesis},
		attack{lying.Serve("a log that begins with its second commit", s.log[1:]), commitlog.ErrOmission},
	)

	forged := func(name string, want error, a *author, statements ...*commitlog.Statement) attack {
		return attack{lying.ServeSilently(name, with(s.log, a.statement(t, s.log, nil, statements...))), want}
	}
	fork := head
	fork.Hash[0] ^= 1
	behind := commitlog.ControlHead{Number: head.Number - 1, Hash: head.Hash}
	ahead := commitlog.ControlHead{Number: head.Number + 1, Hash: head.Hash}
	root := s.vault.Root.Authority()
	known1 := admission(t, root, real, head)
	b, err := known1.AppendBinary(nil)
	fatal(t, err)
	twice := *known1
	twice.Number, twice.Previous = head.Next(b).Number, head.Next(b).Hash
	attacks := []attack{
		forged("a device admitted by a self-made authority", commitlog.ErrSignature, &made, admission(t, other.Authority(), real, head)),
		forged("a self-made certificate, in the authority's name", commitlog.ErrSignature, real, admission(t, other.Authority(), real, head)),
		forged("a statement beside the chain", commitlog.ErrControlFork, real, admission(t, root, real, fork)),
		forged("a statement that was there", commitlog.ErrControlFork, real, admission(t, root, real, behind)),
		forged("a statement too early", commitlog.ErrControlFork, real, admission(t, root, real, ahead)),
		forged("the first statement again", commitlog.ErrControlFork, real, genesis(s.vault.Root.VaultID(), root.Public())),
		forged("a second genesis", commitlog.ErrNoGenesis, real, &commitlog.Statement{Number: head.Number + 1, Previous: head.Hash,
			Genesis: genesis(s.vault.Root.VaultID(), root.Public()).Genesis}),
		forged("one device admitted twice", commitlog.ErrControlFork, real, known1, &twice),
		forged("a good statement, and one beside the chain", commitlog.ErrControlFork, real, known1, admission(t, root, real, fork)),
		{lying.Commit("the admission replaced by a self-made one", 13, func([]byte) [][]byte {
			return one(made.statement(t, s.log[:12], nil, admission(t, other.Authority(), real, head)))
		}), commitlog.ErrSignature},
		{lying.Commit("the blob of the admission left out", 13, func(data []byte) [][]byte {
			p := parse(t, data)
			p.Blobs[0] = nil
			return one(encode(p))
		}), commitlog.ErrOmission},
		{lying.Commit("the admission with another's blob", 13, func(data []byte) [][]byte {
			p := parse(t, data)
			first := parse(t, s.log[1])
			p.Blobs[0] = first.Blobs[0][:min(len(first.Blobs[0]), len(p.Blobs[0]))]
			return one(encode(p))
		}), commitlog.ErrBlob},
	}
	s.try(t, known, attacks...)
}

// A1, A3: sealed with other keys than those of the vault, a statement is none.
func TestA1SealedOtherwise(t *testing.T) {
	s := newScene(t)
	real := authorityOf(s.vault.Root)
	head := real.controlHead(t, s.log)
	other := *real
	other.epoch = keys.GenerateRoot().Epoch(1)
	statement := func(a *author) []byte {
		return a.statement(t, s.log, nil, admission(t, s.vault.Root.Authority(), real, head))
	}
	// In the blob of a record, sealed with the keys of another namespace.
	value, err := admission(t, s.vault.Root.Authority(), real, head).AppendBinary(nil)
	fatal(t, err)
	c, blob := real.payload(t, "notes", &seal.Payload{Form: seal.FormInline, Value: value})
	named, blob2 := real.payload(t, keys.ControlNamespace, &seal.Payload{Form: seal.FormInline, Name: "x", Value: value})
	garbage, blob3 := real.payload(t, keys.ControlNamespace, &seal.Payload{Form: seal.FormInline, Value: []byte("\x01no statement")})
	of := func(c commitlog.Change, blob []byte) []byte {
		return real.commit(t, s.log, keys.ControlNamespace, []commitlog.Change{c}, [][]byte{blob}, nil)
	}
	s.try(t, known,
		attack{lying.ServeSilently("with other keys", with(s.log, statement(&other))), commitlog.ErrControlFork},
		attack{lying.ServeSilently("with a namespace's keys", with(s.log, of(c, blob))), commitlog.ErrControlFork},
		attack{lying.ServeSilently("under a name", with(s.log, of(named, blob2))), commitlog.ErrVersion},
		attack{lying.ServeSilently("garbage", with(s.log, of(garbage, blob3))), commitlog.ErrMalformed},
	)
}

// A3: a secondary that says that there is nothing makes no device begin anew. The
// vault stays as it was, and nothing is sent.
func TestA3Emptiness(t *testing.T) {
	s := newScene(t)
	empty := func(name string) lying.Mutation { return lying.Serve(name, nil) }
	s.try(t, restoring,
		attack{empty("an empty log"), commitlog.ErrNoGenesis},
		attack{lying.Both("an empty log, and a root of zeros", empty(""), lying.Mutation{Begin: func() lying.Lie {
			return lying.Lie{Up: func(frame []byte) (pass, answer [][]byte) {
				if wire.Type(frame[0]) != wire.TypeBind {
					return [][]byte{frame}, nil
				}
				b, err := wire.Append(nil, &wire.Bound{})
				if err != nil {
					panic(err)
				}
				return nil, [][]byte{b}
			}}
		}}), commitlog.ErrNoGenesis},
		attack{lying.Answer("no such vault, once it is signed in", func(*wire.Bind) []wire.Message {
			return []wire.Message{wire.NewError(wire.CodeDenied, "")}
		}), wire.ErrDenied},
		attack{lying.Drop(wire.TypeOK, 1), wire.ErrUnreachable},
		attack{lying.Replace("sign-in refused", 1, func(*wire.OK) []wire.Message { return []wire.Message{&wire.Fail{Code: wire.CodeDenied}} }), wire.ErrDenied},
		attack{lying.Replace("called revoked", 1, func(*wire.OK) []wire.Message { return []wire.Message{&wire.Fail{Code: wire.CodeRevoked}} }), commitlog.ErrRevoked},
	)
	s.try(t, known,
		attack{empty("an empty log"), commitlog.ErrRollback},
		attack{lying.Answer("not found", func(*wire.Bind) []wire.Message {
			return []wire.Message{wire.NewError(wire.CodeNotFound, "")}
		}), wire.ErrNotFound},
	)
	// Somebody else's log, for one that has nothing and for one that knows better.
	other := newScene(t)
	for name, who := range map[string]victim{"restoring": restoring, "known": known} {
		t.Run("the log of another vault: "+name, func(t *testing.T) {
			want := commitlog.ErrFork
			if name == "restoring" {
				want = commitlog.ErrSignature
			}
			s.try(t, who, attack{lying.Serve("the log of another vault", other.log), want})
		})
	}
	s.try(t, known,
		attack{lying.ServeSilently("a commit of another vault at the end", with(s.log, other.log[s.last()-1])), commitlog.ErrUnknownSigner},
		attack{lying.ServeSilently("a control commit of another vault at the end", with(s.log, other.log[1])), commitlog.ErrMalformed},
		attack{lying.Commit("a commit of another vault in between", 9, func([]byte) [][]byte { return one(lying.SetID(other.log[8], 9)) }), commitlog.ErrUnknownSigner},
	)
}

// A5: only those sign that the authority has admitted, and a signature is good for
// one purpose and one vault.
func TestA5Signers(t *testing.T) {
	s := newScene(t)
	b := authorOf(t, s.b)
	sealed := func(name string, want error, a *author) attack {
		return attack{lying.ServeSilently(name, with(s.log, a.write(t, s.log, "notes", "x", "4", nil))), want}
	}
	impostor := *b
	impostor.sign = stranger(b).sign
	authKey := *b
	k, err := device(t, s.b).Seed.Keys()
	fatal(t, err)
	authKey.sign = k.Auth
	elsewhere := *b
	elsewhere.vault = keys.GenerateRoot().VaultID()
	attacks := []attack{
		sealed("a device that nobody admitted", commitlog.ErrUnknownSigner, stranger(b)),
		sealed("a device's name with another key", commitlog.ErrSignature, &impostor),
		sealed("the key that a device signs in with", commitlog.ErrSignature, &authKey),
		sealed("a signature for another vault", commitlog.ErrSignature, &elsewhere),
	}
	for _, p := range []keys.Purpose{
		keys.PurposeControl, keys.PurposeCertificate, keys.PurposeDeviceSign, keys.PurposeDeviceAuth,
		keys.PurposeServerHello, keys.PurposeClientAuth, keys.PurposeCheckpoint,
	} {
		other := *b
		other.purpose = p
		attacks = append(attacks, sealed(fmt.Sprintf("a device's signature for %s", p), commitlog.ErrSignature, &other))
		authority := authorityOf(s.vault.Root)
		if p == keys.PurposeControl {
			p = keys.PurposeCommit
		}
		authority.purpose = p
		st := admission(t, s.vault.Root.Authority(), authority, authority.controlHead(t, s.log))
		attacks = append(attacks, attack{lying.ServeSilently(fmt.Sprintf("the authority's signature for %s", p),
			with(s.log, authority.statement(t, s.log, nil, st))), commitlog.ErrSignature})
	}
	s.try(t, known, attacks...)
}

// A7: a device whose state was copied, or is an old copy, is told so by the first
// commit that it did not make, and signs nothing over it.
func TestA7CopiedDevice(t *testing.T) {
	s := newScene(t)
	twin := authorOf(t, s.victim)
	clone := with(s.log, twin.write(t, s.log, "notes", "of the twin", "1", nil))
	long := with(clone, twin.write(t, clone, "notes", "of the twin", "2", nil))
	s.try(t, known,
		attack{lying.Serve("the twin's commit, named as the last", clone), commitlog.ErrDeviceStateRollback},
		attack{lying.Serve("two of them", long), commitlog.ErrDeviceStateRollback},
		attack{lying.ServeSilently("the twin's commit, and not named", clone), commitlog.ErrDeviceStateRollback},
	)
	// Both sign with the same number: what is in the log first is the twin's.
	t.Run("both write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			at := s.secondary.Copy(t)
			one, two := s.victim.Copy(t, at), s.victim.Copy(t, at)
			vaulttest.Sync(t, one, two)
			write(t, one, "notes", "mine", "1")
			write(t, two, "notes", "mine", "2")
			vaulttest.Sync(t, one)
			before := state(two)
			_, err := two.Sync(t.Context(), vault.SyncOptions{})
			if !errors.Is(err, commitlog.ErrDeviceStateRollback) {
				t.Errorf("%v, want ErrDeviceStateRollback", err)
			}
			if changed := before.Changed(state(two)); len(changed) > 0 {
				t.Errorf("what is stored has changed: %q", changed)
			}
		})
	})
	// The vault's directory is put back to an earlier day.
	t.Run("an old copy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			at := s.secondary.Copy(t)
			old, now := s.victim.Copy(t, at), s.victim.Copy(t, at)
			for i := range 3 {
				write(t, now, "notes", "mine", fmt.Sprint(i))
				vaulttest.Sync(t, now)
			}
			write(t, old, "notes", "mine", "of the old copy")
			for range 2 {
				fatal(t, old.TryAgain(t.Context()))
				if _, err := old.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrDeviceStateRollback) {
					t.Errorf("%v, want ErrDeviceStateRollback", err)
				}
			}
			if rec, err := old.Namespace("notes").Get(t.Context(), "mine"); err != nil || string(rec.Value) != "of the old copy" {
				t.Errorf("what was written is gone: %v", err)
			}
		})
	})
}

// C2: a new device that knows a size and root beforehand takes no log that does not
// reach and contain it, and signs nothing.
func TestC2Floor(t *testing.T) {
	s := newScene(t)
	real := authorityOf(s.vault.Root)
	floor := func(size uint64, root commitlog.Hash) *keyfile.Checkpoint {
		return &keyfile.Checkpoint{Size: size, Root: root, Stated: real.controlHead(t, s.log[:size]).Number}
	}
	truth := floor(uint64(s.last()), s.log.Root(uint64(s.last())))
	fork := with(s.log[:s.last()-1], authorOf(t, s.b).write(t, s.log[:s.last()-1], "notes", "x", "other", nil))
	for _, tt := range []struct {
		name  string
		log   lying.Log
		floor *keyfile.Checkpoint
		want  error
	}{
		{"one commit less", s.log[:s.last()-1], truth, commitlog.ErrRollback},
		{"half of it", s.log[:s.last()/2], truth, commitlog.ErrRollback},
		{"the first commit alone", s.log[:1], truth, commitlog.ErrRollback},
		{"nothing", nil, truth, commitlog.ErrRollback},
		{"another last commit", fork, truth, commitlog.ErrFork},
		{"another root", s.log, floor(3, s.log.Root(4)), commitlog.ErrFork},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := s.secondary.Copy(t)
				d := s.vault.New(t, "new", vault.Config{}, at)
				liar := at.Lie(lying.Serve(tt.name, tt.log))
				_, err := d.Enrol(t.Context(), s.vault.Root.Authority(), nil, vault.SyncOptions{Floor: tt.floor})
				if !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
				for _, said := range liar.Heard() {
					if said == wire.TypeUpload {
						t.Error("something was signed and sent")
					}
				}
				if st, err := d.Status(t.Context()); err != nil || st.Enrolled || st.Alarm == "" {
					t.Errorf("%+v, %v", st, err)
				}
			})
		})
	}
	t.Run("truth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			at := s.secondary.Copy(t)
			d := s.vault.New(t, "new", vault.Config{}, at)
			_, err := d.Enrol(t.Context(), s.vault.Root.Authority(), nil, vault.SyncOptions{Floor: truth})
			fatal(t, err)
		})
	})
}
