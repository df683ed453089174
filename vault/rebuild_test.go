package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// content returns what a vault shows, by record, and the errors of what it cannot
// show. The value of a long one is read, too.
func content(t testing.TB, v *vault.Vault, namespaces ...string) (values map[string]string, failed []error) {
	t.Helper()
	values = make(map[string]string)
	for _, name := range namespaces {
		n := v.Namespace(name)
		for rec, err := range n.List(t.Context()) {
			if err != nil {
				failed = append(failed, err)
				continue
			}
			value := rec.Value
			if value == nil {
				if value, err = readLong(t, n, rec.Name); err != nil {
					failed = append(failed, err)
					continue
				}
			}
			values[name+"/"+rec.Name] = string(value)
		}
	}
	return values, failed
}

func readLong(t testing.TB, n *vault.Namespace, name string) ([]byte, error) {
	_, r, err := n.Open(t.Context(), name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	return b.Bytes(), errors.Join(err, r.Close())
}

// reopen opens a device's vault in the place of the one that was closed.
func reopen(t testing.TB, d *vaulttest.Device) error {
	v, err := vault.Open(t.Context(), d.Dir, vault.Config{Dial: d.Network.Dial, NoSync: true})
	if err == nil {
		d.Vault = v
	}
	return err
}

func film(seed byte) []byte { return bytes.Repeat([]byte{seed, 1, 2, 3}, 40<<10) }

// unsent makes a device of two write what is not sent, and returns what it shows.
func unsent(t testing.TB, laptop, phone *vaulttest.Device) map[string]string {
	t.Helper()
	notes := laptop.Namespace("notes")
	for i := range 12 {
		_, err := notes.Put(t.Context(), fmt.Sprint("note ", i), []byte(fmt.Sprint("text ", i)))
		fatal(t, err)
	}
	_, err := notes.Put(t.Context(), "film", film(1))
	fatal(t, err)
	vaulttest.Sync(t, laptop, phone)
	_, err = phone.Namespace("contacts").Put(t.Context(), "ada", []byte("+44"))
	fatal(t, err)
	vaulttest.Sync(t, phone, laptop)
	for _, name := range []string{"note 1", "note 2", "new"} {
		_, err := notes.Put(t.Context(), name, []byte("unsent "+name))
		fatal(t, err)
	}
	fatal(t, notes.Delete(t.Context(), "note 3"))
	_, err = notes.Put(t.Context(), "photo", film(2))
	fatal(t, err)
	fatal(t, laptop.Update(t.Context(), "plans", func(tx *vault.Tx) error {
		for _, name := range []string{"one", "two"} {
			if _, err := tx.Put(name, []byte("plan "+name)); err != nil {
				return err
			}
		}
		return nil
	}))
	values, failed := content(t, laptop.Vault, "notes", "contacts", "plans")
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	return values
}

func equal(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %.20q, not %.20q", what, name, got[name], value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: there is a record %s", what, name)
		}
	}
}

// F44: the local database is damaged: noticed, the unsent changes saved, the rest
// got from the secondary, with the device's own keys.
func TestF44RebuildSavesWhatWasNotSent(t *testing.T) {
	vaults := vaulttest.NewSecondary(t).NewVault(t)
	laptop, phone := vaults.Device(t, "laptop", vault.Config{}), vaults.Device(t, "phone", vault.Config{})
	want := unsent(t, laptop, phone)
	fatal(t, laptop.Close())
	path := filepath.Join(laptop.Dir, "vault.db")
	b, err := os.ReadFile(path)
	fatal(t, err)
	clear(b[:os.Getpagesize()])
	fatal(t, os.WriteFile(path, b, 0o600))
	if err := reopen(t, laptop); !errors.Is(err, vault.ErrDamaged) {
		t.Fatalf("opening: %v", err)
	}
	d, err := vault.Examine(laptop.Dir)
	fatal(t, err)
	// Without that page older states of the outbox may be found, too.
	saved := make(map[string]bool)
	for _, x := range d.Saved {
		saved[x.Record] = true
	}
	for _, name := range []string{"notes/note 1", "notes/note 2", "notes/new", "notes/note 3", "notes/photo", "/one", "/two"} {
		if !saved[name] {
			t.Errorf("%s is not saved", name)
		}
	}
	if len(d.Faults) == 0 || d.Lost != 0 {
		t.Fatalf("found %+v", d)
	}
	d, err = vault.Rebuild(t.Context(), laptop.Dir, vault.Config{NoSync: true})
	fatal(t, err)
	if kept, err := os.ReadFile(d.Kept); err != nil || !bytes.Equal(kept, b) {
		t.Errorf("the damaged store was not kept: %v", err)
	}
	fatal(t, reopen(t, laptop))

	// What was saved is there before anything has come. Of the rest nothing is said
	// to be missing that is only not here yet.
	rec, err := laptop.Namespace("notes").Get(t.Context(), "new")
	fatal(t, err)
	if string(rec.Value) != "unsent new" || !rec.Pending {
		t.Errorf("a saved change shows %+v", rec)
	}
	if _, err := laptop.Namespace("contacts").Get(t.Context(), "ada"); !errors.Is(err, vault.ErrIncomplete) {
		t.Errorf("what has not come is %v", err)
	}
	if _, failed := content(t, laptop.Vault, "notes"); len(failed) != 1 || !errors.Is(failed[0], vault.ErrIncomplete) {
		t.Errorf("a list of what has not come ends with %v", failed)
	}
	vaulttest.Sync(t, laptop, phone)
	for _, x := range []*vaulttest.Device{laptop, phone} {
		got, failed := content(t, x.Vault, "notes", "contacts", "plans")
		if len(failed) > 0 {
			t.Error(failed)
		}
		equal(t, x.Dir, got, want)
	}
	vaulttest.InStep(t, laptop, phone)
	if is, err := laptop.Rebuilding(); is || err != nil {
		t.Errorf("the rebuild has not ended: %v", err)
	}
}
