package vault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A mover is a vault whose devices can reach several secondaries.
type mover struct {
	t     *testing.T
	at    []*vaulttest.Secondary
	vault *vaulttest.Vault
}

func newMover(t *testing.T, secondaries int) *mover {
	m := &mover{t: t}
	for range secondaries {
		m.at = append(m.at, vaulttest.NewSecondary(t))
	}
	m.vault = m.at[0].NewVault(t)
	return m
}

func (m *mover) reach(d *vaulttest.Device) *vaulttest.Device {
	for _, s := range m.at {
		d.Network.LeadAlso(s)
	}
	return d
}

func (m *mover) device(name string) *vaulttest.Device {
	m.t.Helper()
	return m.reach(m.vault.Device(m.t, name, vault.Config{}))
}

// move moves the vault, with an invite.
func (m *mover) move(d *vaulttest.Device, to *vaulttest.Secondary) error {
	m.t.Helper()
	i := to.Invite()
	_, _, err := d.Move(m.t.Context(), m.vault.Root.Authority(), server(i), &i.Token, vault.SyncOptions{})
	return err
}

func server(i wire.Invite) keyfile.Server {
	return keyfile.Server{URL: i.URL, Key: i.Server, Binding: keyfile.Binding(i.Binding.String())}
}

// is checks which secondary devices have.
func (m *mover) is(to *vaulttest.Secondary, devices ...*vaulttest.Device) {
	m.t.Helper()
	for _, d := range devices {
		if got := d.Servers(); len(got) != 1 || got[0].Key != to.ServerKey().Public() {
			m.t.Errorf("secondaries: %+v", got)
		}
	}
}

// F44: a vault is moved. Devices follow by themselves, those that were away as well,
// and one that is restored from the old secondary.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 3)
		a, b, c := m.device("a"), m.device("b"), m.device("c")
		put(t, a.Vault, "one", "a")
		vaulttest.Sync(t, a, b)
		fatal(t, m.move(a, m.at[1]))
		put(t, b.Vault, "two", "b")
		vaulttest.Sync(t, b)
		m.is(m.at[1], a, b)
		fatal(t, m.move(b, m.at[2]))
		put(t, c.Vault, "three", "c")
		vaulttest.Sync(t, c, a, b)
		m.is(m.at[2], a, b, c)
		vaulttest.InStep(t, a, b, c)

		// And back to the first, which is open again.
		fatal(t, m.move(c, m.at[0]))
		put(t, a.Vault, "four", "a")
		vaulttest.Sync(t, a, b, c)
		m.is(m.at[0], a, b, c)
		vaulttest.InStep(t, a, b, c)
		fatal(t, m.move(a, m.at[1]))

		for _, whole := range []bool{true, false} {
			d := m.reach(m.vault.New(t, "d", vault.Config{}, m.at[0]))
			_, err := d.Enrol(t.Context(), m.vault.Root.Authority(), nil, vault.SyncOptions{Whole: whole})
			fatal(t, err)
			vaulttest.Sync(t, d, a)
			m.is(m.at[1], d)
			vaulttest.InStep(t, a, d)
		}
		if err := m.move(a, m.at[1]); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// Devices that are connected follow at once, with what they have not sent.
func TestMoveLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMover(t, 2)
		a, b := m.device("a"), m.device("b")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx, vault.SyncOptions{}) }()
		synctest.Wait()
		fatal(t, m.move(a, m.at[1]))
		put(t, b.Vault, "one", "b")
		fatal(t, b.WaitForUpload(ctx))
		m.is(m.at[1], b)
		synctest.Wait() // the old one's side of it may end later
		if n := m.at[0].Conns(); n != 0 {
			t.Errorf("%d connections to the old one", n)
		}
		vaulttest.Sync(t, a)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		vaulttest.InStep(t, a, b)
	})
}
