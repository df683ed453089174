package vault

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
)

// copyLayout1 returns a directory with a vault that an earlier program has written: 61
// commits, and one change that is not sent.
func copyLayout1(t *testing.T) (dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	must(os.Mkdir(filepath.Join(dir, objectsDir), 0o700))
	key, err := os.ReadFile("testdata/layout1/" + deviceFile)
	must(err)
	must(os.WriteFile(filepath.Join(dir, deviceFile), key, 0o600))
	f, err := os.Open("testdata/layout1/" + storeFile + ".gz")
	must(err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	must(err)
	data, err := io.ReadAll(r)
	must(err)
	must(os.WriteFile(filepath.Join(dir, storeFile), data, 0o600))
	return dir
}

// A vault that an earlier program has written is brought to the present layout when it
// is opened, and holds what it held.
func TestOpenLayout1(t *testing.T) {
	dir := copyLayout1(t)
	for range 2 {
		v, err := Open(t.Context(), dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		report, err := v.VerifyLog(t.Context(), nil)
		if err != nil || report.Commits != 61 {
			t.Errorf("verified %+v, %v", report, err)
		}
		r, err := v.Namespace("notes").Get(t.Context(), "unsent")
		if err != nil || string(r.Value) != "written and not sent" {
			t.Errorf("the unsent change: %+v, %v", r, err)
		}
		if version, err := layoutOf(v.db); err != nil || version != schemaVersion {
			t.Errorf("layout %d, %v", version, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A layout that this program does not know is refused, and what to do is said.
func TestOpenNewerLayout(t *testing.T) {
	dir := copyLayout1(t)
	path := filepath.Join(dir, storeFile)
	db, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *store.Tx) error { return tx.Bucket(bucketMeta).Put(metaVersion, []byte{schemaVersion + 1}) })
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Config{}); err == nil || !strings.Contains(err.Error(), "use a newer kist") {
		t.Errorf("opened a newer store: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it was written to, or %v", err)
	}
}
