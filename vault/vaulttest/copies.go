package vaulttest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// Lie has a secondary that runs tell lies with the mutation, on connections that
// begin from now on, and returns the liar. After a restart it is honest again.
func (s *Secondary) Lie(m lying.Mutation) *lying.Server {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.t.Fatal("the secondary is stopped")
	}
	if s.running.liar == nil {
		s.running.liar = lying.New(s.running.server, wire.BindingNone)
	}
	s.running.liar.Tell(m)
	return s.running.liar
}

// Copy starts a secondary with the same key and a copy of the data, which goes its
// own way from there: what the first one was at this moment. Nothing may be going
// on. It may be made in a bubble of which the first one is no part.
func (s *Secondary) Copy(t testing.TB) *Secondary {
	t.Helper()
	c := &Secondary{Dir: t.TempDir(), t: t, key: s.key, change: s.change}
	copyDir(t, c.Dir, s.Dir)
	c.Start()
	t.Cleanup(c.Stop)
	return c
}

// Copy returns a copy of the device as it is, at a secondary: a clone that does not
// know that it is one. Nothing may be going on. See [Secondary.Copy].
func (d *Device) Copy(t testing.TB, to *Secondary) *Device {
	t.Helper()
	c := &Device{Network: to.Network(t), Dir: filepath.Join(t.TempDir(), "vault"), t: t, conf: d.conf}
	c.conf.Dial = c.Network.Dial
	copyDir(t, c.Dir, d.Dir)
	c.open()
	t.Cleanup(c.close)
	return c
}

// SetConfig opens the device's vault anew with what change makes of its config.
func (d *Device) SetConfig(change func(*vault.Config)) {
	d.t.Helper()
	change(&d.conf)
	d.Reopen()
}

// copyDir copies a directory with the modes of its files.
func copyDir(t testing.TB, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copyFile(filepath.Join(to, rel), path)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyFile copies a file and leaves holes where it holds nothing, as the store of a
// secondary does for the most part.
func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	size, block, nothing := int64(0), make([]byte, 32<<10), make([]byte, 32<<10)
	for err == nil {
		var n int
		if n, err = io.ReadFull(r, block); !bytes.Equal(block[:n], nothing[:n]) {
			if _, err := w.WriteAt(block[:n], size); err != nil {
				return errors.Join(err, w.Close())
			}
		}
		size += int64(n)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = w.Truncate(size)
	}
	return errors.Join(err, w.Close())
}

// New returns a device that is not admitted to the vault yet, as a restore begins
// with. The first Enrol admits it.
func (v *Vault) New(t testing.TB, name string, conf vault.Config, to *Secondary) *Device {
	t.Helper()
	conf.NoSync = true
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	if err != nil {
		t.Fatal(err)
	}
	file := &keyfile.Device{
		Vault: v.Root.VaultID(), ID: k.ID(), Seed: seed, Authority: v.Root.Authority().Public(),
		TagSecret: v.Root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: v.Root.Epoch(1)}},
		Servers: []keyfile.Server{{URL: url, Key: to.key.Public(), Binding: keyfile.Binding(wire.BindingNone.String())}},
	}
	d := &Device{Network: to.Network(t), Dir: filepath.Join(t.TempDir(), "vault"), t: t, conf: conf}
	d.conf.Dial = d.Network.Dial
	if err := vault.Create(d.Dir, file, name); err != nil {
		t.Fatal(err)
	}
	d.open()
	t.Cleanup(d.close)
	return d
}

// ServerKey returns the key of the secondary's identity.
func (s *Secondary) ServerKey() keys.SigningKey { return s.key }
