package embedded_test

import (
	"crypto/sha256"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// world is a vault with a history: devices that come and go, values that are
// superseded and compacted, objects, checkpoints.
type world struct {
	t   *testing.T
	dir string
	e   *embedded.Engine
	v   *rawvault.Vault
	d   *rawvault.Device
	now time.Time

	object commitlog.Hash // live
}

func (w *world) add(b *commitlog.Bundle, c *wire.Control) {
	w.t.Helper()
	out, _, err := w.e.Append(w.t.Context(), engine.AppendRequest{Vault: w.v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: w.now})
	if err != nil || out[0].Err != nil {
		w.t.Fatalf("append: %+v, %v", out, err)
	}
	w.v.Appended(b.Commit.Leaf())
}

// put appends a value as an object.
func (w *world) put(size int) commitlog.Hash {
	w.t.Helper()
	_, data := rawvault.Put(size)
	ch, blob := rawvault.Put(commitlog.MinBlob)
	ch.ObjectHash, ch.ObjectSize = sha256.Sum256(data), uint64(size)
	if have, err := w.e.WriteObject(w.t.Context(), w.v.ID(), ch.ObjectHash, ch.ObjectSize, 0, data); have != ch.ObjectSize || err != nil {
		w.t.Fatalf("object: %d, %v", have, err)
	}
	w.add(w.d.CommitOf(keys.Tag{1}, []commitlog.Change{ch}, [][]byte{blob}), nil)
	return ch.ObjectHash
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), v: rawvault.New(), now: time.UnixMilli(1750000000000)}
	w.e = open(t, w.dir)
	t.Cleanup(func() { w.e.Close() })
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(w.e.Invite(t.Context(), wire.Token{1}, 1, w.now.Add(time.Hour), nil))
	fatal(w.e.Create(t.Context(), wire.Token{1}, w.v.Authority.Public(), w.now))
	w.d = w.v.NewDevice()
	other := w.v.NewDevice()
	w.add(w.v.ControlCommit(w.d.Registration(false), other.Registration(false)))
	for range 5 {
		w.add(w.d.Commit(keys.Tag{1}, 3), nil)
		w.add(other.Commit(keys.Tag{2}, 2), nil)
	}
	w.put(70_000)
	w.add(w.v.ControlCommit(other.Registration(true)))
	w.add(w.d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 2}, commitlog.ChangeID{Commit: 12}), nil)
	w.add(w.d.Delete(keys.Tag{1}, commitlog.ChangeID{Commit: 4, Index: 1}), nil)
	w.object = w.put(80_000)
	w.add(w.v.ControlCommit(w.v.NewDevice().Registration(false)))
	done, err := w.e.Compact(t.Context(), w.now)
	if err != nil || done.Blobs < 3 || done.Objects != 1 {
		t.Fatalf("compacted: %+v, %v", done, err)
	}
	return w
}

func (w *world) verify(o engine.VerifyOptions) (engine.Verified, []string) {
	w.t.Helper()
	var faults []string
	done, err := w.e.Verify(w.t.Context(), o, func(f engine.Fault) { faults = append(faults, f.Text) })
	if err != nil {
		w.t.Fatalf("verifying: %v", err)
	}
	return done, faults
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	done, faults := w.verify(engine.VerifyOptions{Pages: true})
	x, err := w.e.Tenant(t.Context(), w.v.ID())
	if err != nil {
		t.Fatal(err)
	}
	if len(faults) > 0 || done.Vaults != 1 || done.Commits != w.v.Size() || done.Objects != 1 || done.Bytes != x.Used.Bytes() {
		t.Errorf("a good store: %+v, %q; it takes %+v", done, faults, x.Used)
	}
	if x.Used.Objects != 80_000 {
		t.Errorf("objects take %d bytes", x.Used.Objects)
	}

	// While others write and compact.
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			w.add(w.d.Commit(keys.Tag{3}, 2), nil)
			if i%10 == 0 {
				w.e.Compact(t.Context(), w.now)
			}
		}
	})
	for range 20 {
		if _, faults := w.verify(engine.VerifyOptions{}); len(faults) > 0 {
			t.Errorf("while others write: %q", faults)
			break
		}
	}
	close(stop)
	writing.Wait()
}

// What has changed on the disk is found.
func TestVerifyFinds(t *testing.T) {
	part := func(w *world, tx *store.Tx, part byte) []byte { // of the last commit
		k, _ := tx.Bucket("log/" + w.v.ID().String()).Last([]byte("c"))
		return append(append([]byte(nil), k[:9]...), part)
	}
	for name, test := range map[string]struct {
		spoil func(w *world, tx *store.Tx) error
		want  string
	}{
		"blob": {func(w *world, tx *store.Tx) error {
			return change(w, tx, part(w, tx, 1), func(v []byte) []byte { v[len(v)-1] ^= 1; return v })
		}, "its content is another"},
		"signature": {func(w *world, tx *store.Tx) error {
			return change(w, tx, part(w, tx, 0), func(v []byte) []byte { v[len(v)-1] ^= 1; return v })
		}, "signature"},
		"live": {func(w *world, tx *store.Tx) error {
			b := tx.Bucket("log/" + w.v.ID().String())
			var first []byte
			err := b.ScanPrefix([]byte("l"), nil, func(k, _ []byte) (bool, error) { first = append(first, k...); return false, nil })
			if err != nil {
				return err
			}
			return b.Delete(first)
		}, "live"},
		"end": {func(w *world, tx *store.Tx) error { // of another change than it was
			b := tx.Bucket("log/" + w.v.ID().String())
			k, v := b.Last([]byte("r"))
			k, v = append([]byte(nil), k...), append([]byte(nil), v...)
			if err := b.Delete(k); err != nil {
				return err
			}
			k[len(k)-1] ^= 2
			return b.Put(k, v)
		}, "has ended change"},
		"another end": {func(w *world, tx *store.Tx) error {
			b := tx.Bucket("log/" + w.v.ID().String())
			k, v := b.Last([]byte("r"))
			k = append([]byte(nil), k...)
			k[len(k)-1] ^= 2
			return b.Put(k, append([]byte(nil), v...))
		}, "have ended"},
		"tree": {func(w *world, tx *store.Tx) error {
			return change(w, tx, part(w, tx, 2), func(v []byte) []byte { v[0] ^= 1; return v })
		}, "tree"},
		"author": {func(w *world, tx *store.Tx) error {
			id := w.d.ID
			return change(w, tx, append(append([]byte("a"), id[:]...), 0xFF), func(v []byte) []byte { v[79]++; return v })
		}, "what is known of"},
		"size": {func(w *world, tx *store.Tx) error {
			return change(w, tx, part(w, tx, 3), func(v []byte) []byte { v[7]++; return v })
		}, "are counted"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			reopen(w, func(tx *store.Tx) error { return test.spoil(w, tx) })
			if _, faults := w.verify(engine.VerifyOptions{}); len(faults) == 0 || !strings.Contains(strings.Join(faults, "\n"), test.want) {
				t.Errorf("found %q, want %q", faults, test.want)
			}
		})
	}
	t.Run("object", func(t *testing.T) {
		w := newWorld(t)
		file := embedded.ObjectFile(w.dir, w.v.ID(), w.object)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[77] ^= 1
		for want, spoil := range map[string]func() error{
			"damaged": func() error { return os.WriteFile(file, data, 0o600) },
			"missing": func() error { return os.Remove(file) },
		} {
			if err := spoil(); err != nil && want == "damaged" {
				t.Fatal(err)
			}
			if _, faults := w.verify(engine.VerifyOptions{}); len(faults) != 1 {
				t.Errorf("%s: found %q", want, faults)
			}
		}
	})
}

// change changes the last value of a bucket of the log.
func change(w *world, tx *store.Tx, prefix []byte, how func(v []byte) []byte) error {
	b := tx.Bucket("log/" + w.v.ID().String())
	k, v := b.Last(prefix)
	return b.Put(append([]byte(nil), k...), how(append([]byte(nil), v...)))
}

// reopen changes the store behind the engine's back.
func reopen(w *world, fn func(tx *store.Tx) error) {
	w.t.Helper()
	err := w.e.Close()
	if err == nil {
		var db *store.DB
		if db, err = store.Open(w.dir+"/kist.db", store.Options{}); err == nil {
			if err = db.Update(fn); err == nil {
				err = db.Close()
			}
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.e = open(w.t, w.dir)
}

// Files of objects that a backup may be copying are removed when it is done.
func TestHold(t *testing.T) {
	w := newWorld(t)
	file := embedded.ObjectFile(w.dir, w.v.ID(), w.object)
	release := w.e.Hold()
	id := commitlog.ChangeID{Commit: commitlog.CommitID(w.v.Size() - 1)} // the object's
	w.add(w.d.Delete(keys.Tag{1}, id), nil)
	for _, held := range []bool{true, false} {
		if _, err := w.e.Compact(t.Context(), w.now); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); (err == nil) != held {
			t.Errorf("held %v: the file: %v", held, err)
		}
		if held {
			release()
		}
	}
	if err := w.e.SetState(t.Context(), w.v.ID(), engine.StateDeleted, w.now); err != nil {
		t.Fatal(err)
	}
	release = w.e.Hold()
	if n, err := w.e.Remove(t.Context(), w.now); n != 0 || err != nil {
		t.Errorf("removed while held: %d, %v", n, err)
	}
	release()
	if n, err := w.e.Remove(t.Context(), w.now); n != 1 || err != nil {
		t.Errorf("removed: %d, %v", n, err)
	}
	if done, faults := w.verify(engine.VerifyOptions{Pages: true}); len(faults) > 0 || done.Vaults != 0 {
		t.Errorf("after that: %+v, %q", done, faults)
	}
}
