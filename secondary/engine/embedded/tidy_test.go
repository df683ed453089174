package embedded_test

import (
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// What nothing names goes when it is old enough, whole or not, but not what a device
// was told of; what is named stays.
func TestTidy(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	upload := func(n, of int) string {
		t.Helper()
		_, data := rawvault.Put(of)
		hash := sha256.Sum256(data)
		if _, err := w.e.WriteObject(ctx, w.v.ID(), hash, uint64(of), 0, data[:n]); err != nil {
			t.Fatal(err)
		}
		file := embedded.ObjectFile(w.dir, w.v.ID(), hash)
		if n < of {
			file += ".part"
		}
		return file
	}
	whole, part, fresh := upload(5000, 5000), upload(3000, 9000), upload(4000, 4000)
	_, data := rawvault.Put(2000)
	asked := sha256.Sum256(data)
	for _, d := range [][]byte{data, nil} { // sent, and asked about in a later session
		if _, err := w.e.WriteObject(ctx, w.v.ID(), asked, 2000, 0, d); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	old := now.AddDate(0, 0, -30)
	named := embedded.ObjectFile(w.dir, w.v.ID(), w.object)
	known := embedded.ObjectFile(w.dir, w.v.ID(), asked)
	for _, file := range []string{whole, part, named, known} {
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for token, days := range map[byte]int{2: -30, 3: -1, 4: 1} {
		if err := w.e.Invite(ctx, wire.Token{token}, 1, now.AddDate(0, 0, days), nil); err != nil {
			t.Fatal(err)
		}
	}
	before := now.AddDate(0, 0, -7)
	for _, remove := range []bool{false, true} {
		got, err := w.e.Tidy(ctx, before, remove)
		// The invite that made the vault is of long ago, too.
		if want := (engine.Tidied{Invites: 2, Objects: 3, Bytes: 10_000}); got != want || err != nil {
			t.Errorf("remove %v: %+v, %v; want %+v", remove, got, err, want)
		}
	}
	for file, stays := range map[string]bool{whole: false, part: false, fresh: true, named: true, known: true} {
		if _, err := os.Stat(file); (err == nil) != stays {
			t.Errorf("%s: %v, want it there: %v", file, err, stays)
		}
	}
	if got, err := w.e.Tidy(ctx, before, true); err != nil || got.Invites != 0 || got.Objects != 1 {
		t.Errorf("again: %+v, %v", got, err)
	}
	// Small ones count as a block of the disk.
	if x, err := w.e.Tenant(ctx, w.v.ID()); err != nil || x.Used.Objects != 80_000+4096+4096 {
		t.Errorf("objects take %d bytes, %v", x.Used.Objects, err)
	}
	if _, faults := w.verify(engine.VerifyOptions{Pages: true}); len(faults) > 0 {
		t.Errorf("faults: %q", faults)
	}
}
