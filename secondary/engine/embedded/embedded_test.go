package embedded_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/engine/enginetest"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func open(t testing.TB, dir string) *embedded.Engine {
	t.Helper()
	e, err := embedded.Open(dir, embedded.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine { return open(t, t.TempDir()) })
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	defer e.Close()
	if _, err := embedded.Open(dir, embedded.Options{Timeout: 50 * time.Millisecond}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("opening twice: %v, want ErrInUse", err)
	}
}

// What was answered is there after opening again.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	v := rawvault.New()
	d := v.NewDevice()
	now := time.Now()
	token := wire.Token{1}
	if err := e.Invite(t.Context(), token, 1, now.Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		t.Helper()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = open(t, dir)
	}
	reopen()
	if err := e.Create(t.Context(), token, v.Authority.Public(), now); err != nil {
		t.Fatal(err)
	}
	reopen()
	b, c := v.ControlCommit(d.Registration(false))
	for range 2 { // the second time because the answer was lost
		out, size, err := e.Append(t.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now})
		if err != nil || out[0].ID != 1 || out[0].Err != nil || size != 1 {
			t.Fatalf("append: %+v, size %d, %v", out, size, err)
		}
		reopen()
	}
	v.Appended(b.Commit.Leaf())
	p, err := e.Read(t.Context(), engine.ReadRequest{Vault: v.ID()}, func(*engine.Entry) (bool, error) { return false, nil })
	if err != nil || p.Left != uint64(b.EncodedSize()) {
		t.Errorf("left: %+v, %v; want %d", p, err, b.EncodedSize())
	}
	if a, err := e.Author(t.Context(), v.ID(), d.ID); err != nil || a.Auth != d.Auth.Public() {
		t.Errorf("device: %+v, %v", a, err)
	}
	point := d.Checkpoint(v.Comes([]*commitlog.Bundle{b}), 1)
	if err := e.PutCheckpoint(t.Context(), point); err != nil {
		t.Fatal(err)
	}
	reopen()
	if c, err := e.Checkpoint(t.Context(), v.ID(), 0, keys.DeviceID{}); err != nil || c.Device != d.ID || !bytes.Equal(c.Raw, point.Raw) {
		t.Errorf("checkpoint: %+v, %v", c, err)
	}
	if err := e.Create(t.Context(), token, v.Authority.Public(), now); err != nil {
		t.Errorf("creating again: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// An error of an object's file, which is logged, does not name the vault.
func TestErrorsNameNoVault(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	defer e.Close()
	v := rawvault.New()
	now := time.Now()
	if err := e.Invite(t.Context(), wire.Token{1}, 1, now.Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), wire.Token{1}, v.Authority.Public(), now); err != nil {
		t.Fatal(err)
	}
	data, hash := make([]byte, 1000), commitlog.Hash{7}
	sub := filepath.Join(dir, "objects", v.ID().String(), "07")
	write := func() error {
		_, err := e.WriteObject(t.Context(), v.ID(), hash, 2000, 0, data)
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{sub, filepath.Dir(sub)} { // a file where a directory should be
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, oerr := e.OpenObject(t.Context(), v.ID(), hash)
		_, _, herr := e.HaveObject(t.Context(), v.ID(), hash)
		for what, err := range map[string]error{"WriteObject": write(), "OpenObject": oerr, "HaveObject": herr} {
			if err == nil || strings.Contains(err.Error(), v.ID().String()) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// A server that is closed, and was, writes nothing to be so: it starts on a full disk.
func TestCloseAgain(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	writes := 0
	e.Observe(func(time.Duration) { writes++ })
	for _, step := range []struct {
		uses   uint32
		writes int
	}{{0, 0}, {engine.Unlimited, 1}, {0, 2}, {0, 2}} {
		if err := e.Invite(t.Context(), wire.Token{}, step.uses, time.Now().Add(time.Hour), nil); err != nil || writes != step.writes {
			t.Errorf("%d uses: %v, %d writes; want %d", step.uses, err, writes, step.writes)
		}
	}
}

// BenchmarkAppend measures commits a second by the number of devices that write
// at once, each one commit after another.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(map[int]string{1: "writers=1", 16: "writers=16", 64: "writers=64"}[writers], func(b *testing.B) {
			e := open(b, b.TempDir())
			defer e.Close()
			v := rawvault.New()
			if err := e.Invite(b.Context(), wire.Token{1}, 1, time.Now().Add(time.Hour), nil); err != nil {
				b.Fatal(err)
			}
			if err := e.Create(b.Context(), wire.Token{1}, v.Authority.Public(), time.Now()); err != nil {
				b.Fatal(err)
			}
			var devices []*rawvault.Device
			var registrations []wire.Registration
			for range writers {
				d := v.NewDevice()
				devices, registrations = append(devices, d), append(registrations, d.Registration(false))
			}
			first, c := v.ControlCommit(registrations...)
			if _, _, err := e.Append(b.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{first}, Control: c, Now: time.Now()}); err != nil {
				b.Fatal(err)
			}
			v.Appended(first.Commit.Leaf())
			work := make([][]*commitlog.Bundle, writers)
			for n := range b.N {
				i := n % writers
				work[i] = append(work[i], devices[i].Commit(keys.Tag{1}, 1))
			}
			b.ResetTimer()
			done := make(chan error, writers)
			for i := range writers {
				go func() {
					for _, w := range work[i] {
						out, _, err := e.Append(b.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{w}, Now: time.Now()})
						if err == nil {
							err = out[0].Err
						}
						if err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range writers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}
