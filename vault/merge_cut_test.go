package vault_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A parting is a vault with two histories: a and b have one, b less of it, and c and
// the secondary have the other.
type parting struct {
	s       *vaulttest.Secondary
	vaults  *vaulttest.Vault
	a, b, c *vaulttest.Device
	want    map[string]string
}

// backup returns a function that sets the secondary back to what it is now.
func backup(t *testing.T, s *vaulttest.Secondary) (restore func()) {
	t.Helper()
	s.Stop()
	old := t.TempDir()
	fatal(t, os.CopyFS(old, os.DirFS(s.Dir)))
	s.Start()
	return func() {
		t.Helper()
		s.Stop()
		fatal(t, os.RemoveAll(s.Dir))
		fatal(t, os.CopyFS(s.Dir, os.DirFS(old)))
		s.Start()
	}
}

func newParting(t *testing.T) *parting {
	t.Helper()
	p := &parting{s: vaulttest.NewSecondary(t)}
	p.vaults = p.s.NewVault(t)
	p.a, p.b, p.c = p.vaults.Device(t, "a", vault.Config{}), p.vaults.Device(t, "b", vault.Config{}), p.vaults.Device(t, "c", vault.Config{})
	put(t, p.a.Vault, "removed", "1")
	put(t, p.a.Vault, "edited", "1")
	vaulttest.Sync(t, p.a, p.b, p.c)
	old := backup(t, p.s)
	put(t, p.a.Vault, "edited", "2")
	put(t, p.a.Vault, "edited again", "1")
	fatal(t, p.a.Namespace("notes").Delete(t.Context(), "removed"))
	_, err := p.a.Namespace("notes").Put(t.Context(), "film", film(7))
	fatal(t, err)
	vaulttest.Sync(t, p.a, p.b)
	put(t, p.a.Vault, "once", "a")
	put(t, p.a.Vault, "edited again", "2")
	vaulttest.Sync(t, p.a)
	put(t, p.a.Vault, "unsent by a", "a")
	put(t, p.b.Vault, "unsent by b", "b")
	old()
	put(t, p.c.Vault, "from c", "c")
	vaulttest.Sync(t, p.c)
	p.want = map[string]string{
		"notes/edited": "2", "notes/edited again": "2", "notes/film": string(film(7)), "notes/once": "a", "notes/unsent by a": "a", "notes/unsent by b": "b", "notes/from c": "c",
	}
	return p
}

// merged compares what all devices have in the end.
func (p *parting) merged(t *testing.T) {
	t.Helper()
	vaulttest.Sync(t, p.a, p.b, p.c, p.a, p.b)
	vaulttest.InStep(t, p.a, p.b, p.c)
	for _, d := range []*vaulttest.Device{p.a, p.b, p.c} {
		got, failed := content(t, d.Vault, "notes")
		if len(failed) > 0 {
			t.Error(failed)
		}
		equal(t, d.Dir, got, p.want)
		for _, name := range []string{"once", "unsent by a", "unsent by b", "from c"} {
			if past, _ := pastOf(t, d.Vault, "notes/"+name); len(past) != 1 {
				t.Errorf("%d versions of %s, which was written once: %q", len(past), name, past)
			}
		}
		st, err := d.Status(t.Context())
		fatal(t, err)
		if st.Conflicts > 0 || st.Alarm != "" {
			t.Errorf("%+v", st)
		}
		_, err = d.Check(t.Context(), nil)
		fatal(t, err)
	}
}

// cutAt has a device's connection break at a frame, of all from now on. was reports
// whether there has been such a frame.
func cutAt(d *vaulttest.Device, cut int) (was func() bool) {
	var n atomic.Int64
	d.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
		return vaulttest.Fault{Cut: n.Add(1) == int64(cut), Bytes: vaulttest.Whole}
	})
	return func() bool { return n.Load() >= int64(cut) }
}

// F43: a merge that is cut at any frame, over a restart, is begun again and comes to
// the same; and so does a device that changes over.
func TestMergeCutAtAnyFrame(t *testing.T) {
	for cut := 1; ; cut += sample {
		whole := false
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParting(t)
				was := cutAt(p.a, cut)
				_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
				p.a.Network.SetFaults(nil)
				whole = !was()
				if err != nil {
					if cut%2 == 0 { // another device goes on meanwhile
						put(t, p.c.Vault, "later", "c")
						p.want["notes/later"] = "c"
						vaulttest.Sync(t, p.c)
					}
					p.a.Reopen()
					_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
				}
				fatal(t, err)
				p.merged(t)
			})
		})
		if whole || t.Failed() {
			break
		}
	}
}

func TestChangeOverCutAtAnyFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		for cut := 1; ; cut++ {
			if cut%3 == 0 {
				put(t, p.b.Vault, fmt.Sprint("meanwhile ", cut), "b")
				p.want[fmt.Sprint("notes/meanwhile ", cut)] = "b"
			}
			cutAt(p.b, cut)
			_, err := p.b.Sync(t.Context(), vault.SyncOptions{})
			p.b.Network.SetFaults(nil)
			if err == nil {
				break
			}
			if vault.IsAlarm(err) || cut > 1000 {
				t.Fatal(err)
			}
			if cut%2 == 0 {
				p.b.Reopen()
			}
		}
		p.merged(t)
	})
}

// A program that ends between the two halves of a change goes on with the second when
// it is started again, and nothing of what the vault says is in between.
func TestChangeOverBetweenRooms(t *testing.T) {
	p := newParting(t)
	copied := filepath.Join(t.TempDir(), "copy")
	testonly.BetweenRooms = func(dir string) error { return os.CopyFS(copied, os.DirFS(dir)) }
	defer func() { testonly.BetweenRooms = nil }()
	_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	testonly.BetweenRooms = nil
	fatal(t, p.a.Close())
	fatal(t, os.RemoveAll(p.a.Dir))
	fatal(t, os.Rename(copied, p.a.Dir))
	fatal(t, os.Chmod(filepath.Join(p.a.Dir, "device.key"), 0o600))
	fatal(t, reopen(t, p.a))
	p.merged(t)
}

// What is written while a device changes over is not lost, wherever it comes between.
func TestChangeOverWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		n := 0
		_, err = p.b.Sync(t.Context(), vault.SyncOptions{Step: func() {
			if n++; n > 200 { // enough, and it has to end
				return
			}
			put(t, p.b.Vault, fmt.Sprint("at step ", n), "b")
			p.want[fmt.Sprint("notes/at step ", n)] = "b"
			if n%5 == 0 {
				put(t, p.b.Vault, "edited", fmt.Sprint(n))
				p.want["notes/edited"] = fmt.Sprint(n)
			}
		}, Mode: vault.PullOnly})
		fatal(t, err)
		if n < 10 {
			t.Errorf("%d steps", n)
		}
		p.merged(t)
	})
}

// A commit that was acknowledged and never came back to its author is in the lost log.
// Its author's own log is the beginning of the one that goes on: nothing is written
// twice, and it learns from the reset that an acknowledgement does not count any more.
func TestResetAfterAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		d := p.vaults.Device(t, "d", vault.Config{})
		vaulttest.Sync(t, p.c, d)
		old := backup(t, p.s)
		put(t, d.Vault, "acknowledged", "d")
		p.want["notes/acknowledged"] = "d"
		d.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			return vaulttest.Fault{Cut: f.Type == wire.TypeDownload || f.Type == wire.TypeUploaded && f.Dir == vaulttest.Down}
		})
		_, err := d.Sync(t.Context(), vault.SyncOptions{})
		if err == nil {
			t.Fatal("it came back")
		}
		d.Network.SetFaults(nil)
		vaulttest.Sync(t, p.c) // which has it, and is lost with it
		old()
		e := p.vaults.Device(t, "e", vault.Config{})
		put(t, e.Vault, "from e", "e")
		p.want["notes/from e"] = "e"
		vaulttest.Sync(t, e)
		_, err = p.c.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		put(t, d.Vault, "later", "d")
		p.want["notes/later"] = "d"
		vaulttest.Sync(t, d, e, p.c)
		if past, _ := pastOf(t, d.Vault, "notes/acknowledged"); len(past) != 1 {
			t.Errorf("%d versions: %q", len(past), past)
		}
		vaulttest.InStep(t, p.c, d, e)
		// And of the first parting, too, for which this was the other history.
		_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		p.merged(t)
		vaulttest.Sync(t, d, e)
		vaulttest.InStep(t, p.a, d, e)
	})
}

// A device that was away while the vault was reset twice comes back to it, and with
// what it had not sent.
func TestMergeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		old := backup(t, p.s) // before the first reset
		_, err := p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		put(t, p.a.Vault, "between", "a")
		p.want["notes/between"] = "a"
		vaulttest.Sync(t, p.a)
		d := p.vaults.Device(t, "d", vault.Config{}) // which only that history admits
		vaulttest.Sync(t, p.a)
		put(t, d.Vault, "unsent by d", "d")
		p.want["notes/unsent by d"] = "d"
		old()
		put(t, p.c.Vault, "again", "c")
		p.want["notes/again"] = "c"
		vaulttest.Sync(t, p.c)
		_, err = p.a.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		vaulttest.Sync(t, p.b, d)
		p.merged(t)
		vaulttest.Sync(t, d)
		vaulttest.InStep(t, p.a, p.b, p.c, d)
		for _, x := range []*vaulttest.Device{p.a, d} {
			_, err := x.VerifyLog(t.Context(), nil)
			fatal(t, err)
		}
	})
}

// Whether a transaction through the secondary was written cannot be told any more
// where it was under way when its history was reset.
func TestResetUnderATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParting(t)
		d := p.vaults.Device(t, "d", vault.Config{})
		vaulttest.Sync(t, p.c, d)
		old := backup(t, p.s)
		cut := false
		d.Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
			cut = cut || f.Type == wire.TypeUpload
			return vaulttest.Fault{Cut: cut && f.Dir == vaulttest.Down}
		})
		runs := 0
		book := func() error {
			return d.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
				runs++
				_, err := tx.Put("booked", fmt.Append(nil, runs))
				return err
			})
		}
		if err := book(); !errors.Is(err, vault.ErrOutcomeUnknown) {
			t.Fatalf("got %v, want an unknown outcome", err)
		}
		d.Network.SetFaults(nil)
		vaulttest.Sync(t, p.c)
		old()
		e := p.vaults.Device(t, "e", vault.Config{})
		put(t, e.Vault, "from e", "e")
		vaulttest.Sync(t, e)
		_, err := p.c.Merge(t.Context(), p.vaults.Root.Authority(), vault.SyncOptions{})
		fatal(t, err)
		vaulttest.Sync(t, d)
		if got := get(t, d.Vault, "booked"); got != "1" || runs != 1 {
			t.Errorf("booked %q, after %d runs", got, runs)
		}
		if st, err := d.Status(t.Context()); err != nil || st.Pending != 0 {
			t.Errorf("%+v, %v", st, err)
		}
		vaulttest.InStep(t, d, p.c)
	})
}

// A device that has its log from a checkpoint changes over like every other one; so
// does one whose history below that was never verified, as far as it can tell.
func TestChangeOverFromACheckpoint(t *testing.T) {
	p := newParting(t)
	ctx := t.Context()
	if _, err := p.a.Sync(ctx, vault.SyncOptions{}); !errors.Is(err, commitlog.ErrFork) {
		t.Fatalf("got %v", err)
	}
	_, err := p.a.Merge(ctx, p.vaults.Root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	vaulttest.Sync(t, p.a, p.b, p.c)
	// A new device begins with a checkpoint that counts a reset.
	n := p.vaults.Device(t, "new", vault.Config{})
	old := backup(t, p.s)
	put(t, n.Vault, "from the new one", "n")
	p.want["notes/from the new one"] = "n"
	vaulttest.Sync(t, n, p.a)
	old()
	put(t, p.c.Vault, "more", "c")
	p.want["notes/more"] = "c"
	vaulttest.Sync(t, p.c)
	_, err = p.a.Merge(ctx, p.vaults.Root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	vaulttest.Sync(t, n)
	p.merged(t)
	vaulttest.InStep(t, p.a, n)
}
