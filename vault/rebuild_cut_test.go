package vault_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// spoilers take away what says where everything is, each more of it: nothing of the
// outbox, but what points to it.
var spoilers = []func(b []byte){
	func(b []byte) { clear(b[:os.Getpagesize()]) },
	func(b []byte) { clear(b[:2*os.Getpagesize()]) },
}

// A store is damaged after its device was cut off at any frame of a sync, with what
// it sent signed, under way, acknowledged or back: what comes of it is what would
// have come without, once.
func TestF44RebuildAfterACutAtAnyFrame(t *testing.T) {
	for i, spoil := range spoilers {
		for cut := 1; ; cut += sample {
			whole := false
			t.Run(fmt.Sprint(i, "/", cut), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { whole = rebuildAfterCut(t, cut, spoil) })
			})
			if whole || t.Failed() {
				break
			}
		}
	}
}

func rebuildAfterCut(t *testing.T, cut int, spoil func([]byte)) (whole bool) {
	vaults := vaulttest.NewSecondary(t).NewVault(t)
	laptop, phone := vaults.Device(t, "laptop", vault.Config{KeepEach: true}), vaults.Device(t, "phone", vault.Config{})
	unsent(t, laptop, phone)
	notes := laptop.Namespace("notes")
	for i := range 3 { // each names the one before
		_, err := notes.Put(t.Context(), "often", fmt.Append(nil, i))
		fatal(t, err)
	}
	want, failed := content(t, laptop.Vault, "notes", "contacts", "plans")
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	n := 0
	laptop.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
		if n++; n == cut {
			return vaulttest.Fault{Cut: true, Bytes: vaulttest.Whole}
		}
		return vaulttest.Fault{}
	})
	_, err := laptop.Sync(t.Context(), vault.SyncOptions{})
	laptop.Network.SetFaults(nil)
	fatal(t, laptop.Close())

	path := filepath.Join(laptop.Dir, "vault.db")
	b, rerr := os.ReadFile(path)
	fatal(t, rerr)
	spoil(b)
	fatal(t, os.WriteFile(path, b, 0o600))
	_, rerr = vault.Rebuild(t.Context(), laptop.Dir, vault.Config{NoSync: true})
	fatal(t, rerr)
	fatal(t, reopen(t, laptop))
	vaulttest.Sync(t, laptop, phone)
	_, rerr = notes.Put(t.Context(), "later", []byte("x"))
	if !errors.Is(rerr, vault.ErrClosed) {
		t.Error("the vault from before is open")
	}
	_, rerr = laptop.Namespace("notes").Put(t.Context(), "later", []byte("x"))
	fatal(t, rerr)
	want["notes/later"] = "x"
	vaulttest.Sync(t, laptop, phone)
	vaulttest.InStep(t, laptop, phone)
	for _, d := range []*vaulttest.Device{laptop, phone} {
		got, failed := content(t, d.Vault, "notes", "contacts", "plans")
		if len(failed) > 0 {
			t.Error(failed)
		}
		equal(t, d.Dir, got, want)
		past, _ := pastOf(t, d.Vault, "notes/often")
		if len(past) > 3 || len(past) == 0 {
			t.Errorf("%d versions of what was written three times: %q", len(past), past)
		}
		past, _ = pastOf(t, d.Vault, "notes/note 1")
		if len(past) != 2 {
			t.Errorf("%d versions of what was written twice: %q", len(past), past)
		}
		st, err := d.Status(t.Context())
		fatal(t, err)
		if st.Conflicts > 0 || st.Aside+st.Quarantine > 0 {
			t.Errorf("after it: %+v", st)
		}
		_, err = d.Check(t.Context(), nil)
		fatal(t, err)
	}
	return err == nil
}

// A rebuild that is cut off at any frame goes on where it was, and believes no
// secondary that has less than the damaged store had.
func TestF44RebuildIsResumed(t *testing.T) {
	vaults := vaulttest.NewSecondary(t).NewVault(t)
	laptop, phone := vaults.Device(t, "laptop", vault.Config{}), vaults.Device(t, "phone", vault.Config{})
	want := unsent(t, laptop, phone)
	fatal(t, laptop.Close())
	_, err := vault.Rebuild(t.Context(), laptop.Dir, vault.Config{NoSync: true})
	fatal(t, err)
	for cut := 1; ; cut++ {
		fatal(t, reopen(t, laptop))
		n := 0
		laptop.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			if n++; n == cut {
				return vaulttest.Fault{Cut: true, Bytes: vaulttest.Whole}
			}
			return vaulttest.Fault{}
		})
		_, err := laptop.Sync(t.Context(), vault.SyncOptions{})
		if vault.IsAlarm(err) {
			t.Fatal(err)
		}
		if err == nil {
			break
		}
		if cut%3 == 0 { // it is damaged again, half way
			fatal(t, laptop.Close())
			_, err := vault.Rebuild(t.Context(), laptop.Dir, vault.Config{NoSync: true})
			fatal(t, err)
			continue
		}
		fatal(t, laptop.Close())
	}
	laptop.Network.SetFaults(nil)
	vaulttest.Sync(t, laptop, phone)
	vaulttest.InStep(t, laptop, phone)
	got, failed := content(t, laptop.Vault, "notes", "contacts", "plans")
	if len(failed) > 0 {
		t.Error(failed)
	}
	equal(t, "laptop", got, want)
}

// What the damaged store knew of the log is a floor.
func TestF44RebuildBelievesNoShorterLog(t *testing.T) {
	s := vaulttest.NewSecondary(t)
	vaults := s.NewVault(t)
	laptop, phone := vaults.Device(t, "laptop", vault.Config{}), vaults.Device(t, "phone", vault.Config{})
	put(t, laptop.Vault, "a", "1")
	vaulttest.Sync(t, laptop, phone)
	s.Stop()
	old := t.TempDir()
	fatal(t, os.CopyFS(old, os.DirFS(s.Dir)))
	s.Start()
	put(t, phone.Vault, "b", "2")
	vaulttest.Sync(t, phone, laptop)
	fatal(t, laptop.Close())
	s.Stop()
	fatal(t, os.RemoveAll(s.Dir))
	fatal(t, os.CopyFS(s.Dir, os.DirFS(old)))
	s.Start()
	_, err := vault.Rebuild(t.Context(), laptop.Dir, vault.Config{NoSync: true})
	fatal(t, err)
	fatal(t, reopen(t, laptop))
	if _, err := laptop.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrRollback) {
		t.Errorf("a secondary that has lost a commit: %v", err)
	}
	if is, err := laptop.Rebuilding(); !is || err != nil {
		t.Errorf("the rebuild has ended on it: %v", err)
	}
}
