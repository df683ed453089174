package vault_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A backup is a secondary's data as they were.
func (p *person) backup(t *testing.T) (restore func()) {
	t.Helper()
	dir := t.TempDir()
	p.server.Stop()
	crashtest.Copy(t, filepath.Join(dir, "data"), p.server.Dir)
	p.server.Start()
	return func() {
		t.Helper()
		p.server.Stop()
		fatal(t, os.RemoveAll(p.server.Dir))
		crashtest.Copy(t, p.server.Dir, filepath.Join(dir, "data"))
		p.server.Start()
	}
}

// F43, "bad size", "older prefix", "bad device": the secondary was restored from a
// backup. Devices notice and keep all; filled again from one of them, it has what
// all of them wrote, those too that it did not know any more.
func TestRefillOlderSecondary(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "before", "a")
	sync(t, a, b)
	old := p.backup(t)

	put(t, b, "before", "b")
	sync(t, b)
	fatal(t, a.Namespace("notes").Delete(t.Context(), "before"))
	_, err := a.Namespace("files").Put(t.Context(), "long", long(1<<20, "a"))
	fatal(t, err)
	sync(t, a, b)
	c := p.device(vault.Config{}) // which the backup does not know
	put(t, c, "from c", "c")
	sync(t, c, a, b)
	put(t, b, "unsent", "b")
	before := inStep(t, a)

	old()
	for _, v := range []*vault.Vault{a, b} {
		if _, err := v.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrRollback) {
			t.Fatalf("got %v, want a rollback", err)
		}
	}
	if _, err := c.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrDenied) {
		t.Fatalf("got %v, want denied", err)
	}
	lost, err := a.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	if lost == 0 {
		t.Error("nothing was lost")
	}
	if again, err := a.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{}); again != 0 || err != nil {
		t.Errorf("again: %d, %v", again, err)
	}
	for _, v := range []*vault.Vault{a, b} {
		fatal(t, v.TryAgain(t.Context()))
	}
	sync(t, a, b, c)
	sync(t, a, c)
	sameDigest(t, a, b)
	sameDigest(t, a, c)
	if root, err := b.RootAt(t.Context(), before.Commits); err != nil || root != before.Root {
		t.Errorf("the history is another: %v, %v", root, err)
	}
	d := p.device(vault.Config{})
	sync(t, a, d)
	sameDigest(t, a, d)
	if valueIn(t, d, "files", "long") == "" || get(t, d, "unsent") != "b" || get(t, d, "before") != "b" {
		t.Error("something is not there")
	}
}

// F43: the secondary has lost the vault, or is another one: with an invite it is
// made and filled.
func TestRefillEmptySecondary(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "1")
	_, err := a.Namespace("files").Put(t.Context(), "long", long(1<<20, "a"))
	fatal(t, err)
	sync(t, a, b)
	p.server.Stop()
	for _, f := range []string{"kist.db", "objects"} {
		fatal(t, os.RemoveAll(filepath.Join(p.server.Dir, f)))
	}
	p.server.Start()
	if _, err := a.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, wire.ErrDenied) {
		t.Fatalf("got %v, want denied", err)
	}
	i := p.server.Invite()
	_, err = a.Refill(t.Context(), p.root.Authority(), &i.Token, vault.SyncOptions{})
	fatal(t, err)
	put(t, b, "y", "2")
	sync(t, b, a)
	sameDigest(t, a, b)
	c := p.device(vault.Config{})
	sync(t, c)
	if valueIn(t, c, "files", "long") == "" {
		t.Error("the long value is not there")
	}
}

// A secondary that holds another history, or a device that lacks something, is not
// touched.
func TestRefillRefused(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "x", "1")
	sync(t, a, b)
	old := p.backup(t)
	put(t, a, "x", "2")
	sync(t, a)
	old()
	put(t, b, "x", "3") // which had not seen the 2
	sync(t, b)
	if _, err := a.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
		t.Errorf("got %v, want a fork", err)
	}
	st := inStep(t, b)
	if p.commits() != st.Commits {
		t.Errorf("the secondary has %d commits, not %d", p.commits(), st.Commits)
	}
	c := p.selecting(only("files"))
	if _, err := c.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{}); !errors.Is(err, vault.ErrNotAll) {
		t.Errorf("got %v, want incomplete", err)
	}
}
