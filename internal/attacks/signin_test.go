package attacks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// D1, D2, D3: nothing of the sign-in can be changed, left out, repeated or said in
// another order, by whoever has the secondary's key, too.
func TestD1SignIn(t *testing.T) {
	s := newSmallScene(t)
	hello := func(name string, f func(m *wire.SHello)) attack {
		return attack{lying.Change(name, 1, f), wire.ErrServerIdentity}
	}
	key := s.secondary.ServerKey()
	s.try(t, known,
		hello("another binding", func(m *wire.SHello) { m.Binding = wire.BindingExporter }),
		hello("another time", func(m *wire.SHello) { m.Time++ }),
		hello("another nonce", func(m *wire.SHello) { m.Nonce[0] ^= 1 }),
		hello("another key", func(m *wire.SHello) { m.Server = keys.GenerateSigningKey().Public() }),
		hello("another signature", func(m *wire.SHello) { m.Signature[63] ^= 1 }),
		hello("no signature", func(m *wire.SHello) { m.Signature = [64]byte{} }),
		hello("a signature over something else", func(m *wire.SHello) {
			m.Signature = key.Sign(keys.PurposeServerHello, keys.VaultID{}, []byte("something else"))
		}),
		attack{lying.Drop(wire.TypeSHello, 1), wire.ErrUnreachable},
		attack{lying.Replace("OK in place of a proof", 1, func(*wire.SHello) []wire.Message { return []wire.Message{&wire.OK{}} }), wire.ErrServerIdentity},
		attack{lying.Insert("OK before the proof", wire.TypeSHello, 1, &wire.OK{}), wire.ErrServerIdentity},
		attack{lying.Insert("BOUND before sign-in", wire.TypeOK, 1, &wire.Bound{}), wire.ErrProtocol},
		attack{lying.Replace("another version is needed", 1, func(*wire.SHello) []wire.Message {
			return []wire.Message{wire.NewError(wire.CodeVersion, "")}
		}), wire.ErrVersion},
	)
	s.tryPartly(t, known, // what it says to the first of both is said already
		attack{lying.Repeat(wire.TypeSHello, 1), wire.ErrProtocol},
		attack{lying.Repeat(wire.TypeOK, 1), wire.ErrProtocol},
	)
}

// D4: what exists at a secondary nobody learns: a thousand sign-ins to what is there
// and a thousand to what is not get the same answer after the same time.
func TestD4UniformRefusals(t *testing.T) {
	n := 1000
	if testing.Short() || raceEnabled {
		n = 50
	}
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		v := at.NewVault(t)
		d := v.Device(t, "a", vault.Config{})
		network := at.Network(t)
		times := make(map[string]map[time.Duration]int)
		try := func(what string, id client.Identity) {
			began := time.Now()
			c, err := client.Dial(t.Context(), client.Server{URL: "ws://localhost/", Key: at.ServerKey().Public(), NetDial: network.NetDial}, id)
			if !errors.Is(err, wire.ErrDenied) {
				if err == nil {
					c.Close()
				}
				t.Fatalf("%s: %v, want ErrDenied", what, err)
			}
			if times[what] == nil {
				times[what] = make(map[time.Duration]int)
			}
			times[what][time.Since(began)]++
		}
		real := v.Root.VaultID()
		for range n {
			wrong := keys.GenerateSigningKey()
			var other keys.DeviceID
			copy(other[:], keys.GenerateRoot().Text()[20:])
			try("a device that is there", client.Device(real, d.Vault.Device(), wrong))
			try("a device that is not", client.Device(real, other, wrong))
			try("a vault that is not", client.Device(keys.GenerateRoot().VaultID(), d.Vault.Device(), wrong))
			try("the owner of another", client.Owner(keys.GenerateRoot().Authority()))
		}
		for what, took := range times {
			if len(took) != 1 {
				t.Errorf("%s: answers come after %v", what, took)
			}
			for d := range took {
				if d != 250*time.Millisecond {
					t.Errorf("%s: after %v", what, d)
				}
			}
		}
	})
}

// D6: a stolen device deletes and overwrites everything. What was there is there
// still, on the other devices and at the secondary: a new device restores it.
func TestD6StolenDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		v := at.NewVault(t)
		a, stolen := v.Device(t, "a", vault.Config{}), v.Device(t, "stolen", vault.Config{})
		long := strings.Repeat("long ", 20<<10)
		write(t, a, "notes", "x", "1")
		write(t, a, "notes", "y", "1")
		write(t, a, "notes", "long", long)
		vaulttest.Sync(t, a, stolen)
		fatal(t, stolen.Namespace("notes").Delete(t.Context(), "x"))
		write(t, stolen, "notes", "y", "overwritten")
		fatal(t, stolen.Namespace("notes").Delete(t.Context(), "long"))
		vaulttest.Sync(t, stolen, a)
		fresh := v.Device(t, "new", vault.Config{})
		for _, d := range []*vaulttest.Device{a, fresh} {
			for name, want := range map[string]string{"x": "1", "y": "1"} {
				var had []string
				for r, err := range d.Namespace("notes").History(t.Context(), name) {
					fatal(t, err)
					had = append(had, string(r.Value))
				}
				if !slices.Contains(had, want) {
					t.Errorf("%q had %q, and not %q", name, had, want)
				}
			}
		}
	})
}

// D7: what goes over the line depends on sizes, and not on content, nor on what an
// app reads.
func TestD7Traffic(t *testing.T) {
	// The same devices each time: what they are asked for first goes by their ids.
	from := vaulttest.NewSecondary(t)
	v := from.NewVault(t)
	one, two := v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
	traffic := func(t *testing.T, letter string, reads bool) (frames []string) {
		synctest.Test(t, func(t *testing.T) {
			at := from.Copy(t)
			a, b := one.Copy(t, at), two.Copy(t, at)
			for i := range 5 {
				write(t, a, "notes", fmt.Sprint("name", i), strings.Repeat(letter, 100*i*i))
			}
			write(t, a, "notes", "long", strings.Repeat(letter, 100_000))
			vaulttest.Sync(t, a, b)
			if reads {
				for r, err := range b.Namespace("notes").List(t.Context()) {
					fatal(t, err)
					for range 3 {
						_, err := b.Namespace("notes").Get(t.Context(), r.Name)
						fatal(t, err)
					}
					for _, err := range b.Namespace("notes").History(t.Context(), r.Name) {
						fatal(t, err)
					}
				}
			}
			write(t, b, "notes", "name1", strings.Repeat(letter, 100))
			vaulttest.Sync(t, b, a)
			for _, d := range []*vaulttest.Device{a, b} {
				for _, f := range d.Network.Frames() {
					frames = append(frames, f.String())
				}
			}
		})
		return frames
	}
	first := traffic(t, "a", false)
	for name, frames := range map[string][]string{"other content": traffic(t, "b", false), "an app that reads": traffic(t, "a", true)} {
		if !slices.Equal(first, frames) {
			t.Errorf("%s: the traffic is another:\n%s\nand was\n%s", name, strings.Join(frames, "\n"), strings.Join(first, "\n"))
		}
	}
}

// D9: a tenant comes to nothing of another's, whatever it names.
func TestD9OtherTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		mine, theirs := at.NewVault(t), at.NewVault(t)
		d, other := mine.Device(t, "mine", vault.Config{}), theirs.Device(t, "theirs", vault.Config{})
		for range 3 {
			write(t, other, "notes", "x", strings.Repeat("theirs ", 20<<10))
			vaulttest.Sync(t, other)
		}
		log := lying.Log(pull(t, at, theirs))
		object := parse(t, log[len(log)-1]).Commit.Changes
		var hash commitlog.Hash
		var size uint64
		for i := range object {
			if object[i].HasObject() {
				hash, size = object[i].ObjectHash, object[i].ObjectSize
			}
		}
		if size == 0 {
			t.Fatal("no object")
		}
		k, err := device(t, d).Seed.Keys()
		fatal(t, err)
		server := client.Server{URL: "ws://localhost/", Key: at.ServerKey().Public(), NetDial: at.Network(t).NetDial}
		for what, id := range map[string]client.Identity{
			"my device at their vault":    client.Device(theirs.Root.VaultID(), d.Vault.Device(), k.Auth),
			"their device with my key":    client.Device(theirs.Root.VaultID(), other.Vault.Device(), k.Auth),
			"their device at my vault":    client.Device(mine.Root.VaultID(), other.Vault.Device(), k.Auth),
			"my device with another key":  client.Device(mine.Root.VaultID(), d.Vault.Device(), k.Sign),
			"my authority at their vault": client.Device(theirs.Root.VaultID(), d.Vault.Device(), mine.Root.Authority().Auth),
		} {
			if c, err := client.Dial(t.Context(), server, id); !errors.Is(err, wire.ErrDenied) {
				if err == nil {
					c.Close()
				}
				t.Errorf("%s: %v, want ErrDenied", what, err)
			}
		}
		ask := func(ms ...wire.Message) wire.Message {
			c, err := client.Dial(t.Context(), server, client.Device(mine.Root.VaultID(), d.Vault.Device(), k.Auth))
			fatal(t, err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var last wire.Message
			for _, m := range ms {
				fatal(t, c.Send(ctx, m))
				if last, err = c.Receive(ctx); err != nil {
					return nil
				}
			}
			return last
		}
		my := lying.Log(pull(t, at, mine))
		bind := &wire.Bind{Size: uint64(len(my)), Root: my.Root(uint64(len(my)))}
		if m, ok := ask(&wire.Object{Hash: hash, Size: size}).(*wire.Have); !ok || m.Bytes != 0 || m.Whole {
			t.Errorf("their object: %+v", m)
		}
		for id := commitlog.CommitID(2); int(id) <= len(log); id++ {
			for _, of := range []bool{false, true} {
				if m, ok := ask(bind, &wire.Fetch{Request: 1, Commit: id, Object: of, Length: 1000}).(*wire.Error); !ok || !errors.Is(m, wire.ErrNotFound) {
					t.Errorf("commit %d, which is theirs: %+v", id, m)
				}
			}
		}
		if m, ok := ask(bind, &wire.Proof{Request: 1, From: 1, To: uint64(len(log))}).(*wire.Error); !ok || !errors.Is(m, wire.ErrNotFound) {
			t.Errorf("a proof of their log: %+v", m)
		}
		if m, ok := ask(&wire.Bind{Size: 3, Root: log.Root(3)}).(*wire.Bound); !ok || m.Size != uint64(len(my)) || m.Root == log.Root(3) {
			t.Errorf("their position: %+v", m)
		}
		// A commit of mine that names their object does not get it.
		me := authorOf(t, d)
		c, blob := me.put(t, "notes", "x", "1")
		c.ObjectHash, c.ObjectSize = hash, size
		up := lying.SetID(me.commit(t, my, "notes", []commitlog.Change{c}, [][]byte{blob}, nil), 0)
		if m, ok := ask(bind, &wire.Upload{Items: wire.Cut(up)}).(*wire.Uploaded); !ok || !errors.Is(m.Results[0].Err(), wire.ErrObjectMissing) {
			t.Errorf("a commit that names their object: %+v", m)
		}
		// Their commits are none of mine.
		for i, b := range log {
			if m := ask(bind, &wire.Upload{Items: wire.Cut(lying.SetID(b, 0))}); m != nil {
				t.Errorf("their commit %d: %+v", i+1, m)
			}
		}
		if size := uint64(len(pull(t, at, mine))); size != uint64(len(my)) {
			t.Errorf("my log has %d commits, had %d", size, len(my))
		}
	})
}
