package vault

import (
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys/keyfile"
)

// What is not sent, and up to where the log was known, is saved of a store of an earlier
// layout, too: it may be damaged before it was ever converted.
func TestSalvageLayout1(t *testing.T) {
	dir := copyLayout1(t)
	d, err := keyfile.ReadDevice(filepath.Join(dir, deviceFile))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := newKeyring(d)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := store.OpenObjects(filepath.Join(dir, objectsDir))
	if err != nil {
		t.Fatal(err)
	}
	s, err := salvageStore(dir, ring, objects)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.pending) != 1 || s.lost != 0 || len(s.namespaces) == 0 {
		t.Errorf("saved %d changes, lost %d", len(s.pending), s.lost)
	}
	if s.newest.id != 61 {
		t.Errorf("the newest commit that is known is %d, want 61", s.newest.id)
	}
}
