package embedded_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// What the second version has stored is brought to the third, with nothing changed: a
// log with devices that come and go, what was superseded and compacted, checkpoints.
func TestUpgradeLogs(t *testing.T) {
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	f, err := os.Open("testdata/layout2.db.gz")
	fatal(err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	fatal(err)
	data, err := io.ReadAll(r)
	fatal(err)
	fatal(os.WriteFile(filepath.Join(dir, embedded.StoreFile), data, 0o600))
	for range 2 {
		fatal(embedded.UpgradeLogs(dir))
	}
	fatal(embedded.UpgradeLogs(t.TempDir()))

	e := open(t, dir)
	defer e.Close()
	vault, err := keys.ParseVaultID("TGEDTWVRQY8SRNW1GQVPHME4P4")
	fatal(err)
	x, err := e.Tenant(t.Context(), vault)
	fatal(err)
	if u := x.Used; u.Commits != 17 || u.Log != 14438 || u.Devices != 2 {
		t.Errorf("it takes %+v", u)
	}
	var faults []string
	done, err := e.Verify(t.Context(), engine.VerifyOptions{Pages: true}, func(f engine.Fault) { faults = append(faults, f.Text) })
	fatal(err)
	// Its object is not here.
	if len(faults) != 1 || done.Commits != 17 || done.Bytes != 14438 {
		t.Errorf("verified %+v, found %q", done, faults)
	}
}
