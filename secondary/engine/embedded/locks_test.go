package embedded_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// asking is a context that calls a function the first time that it is asked.
type asking struct {
	context.Context
	fn func()
}

func (c *asking) Err() error {
	if fn := c.fn; fn != nil {
		c.fn = nil
		fn()
	}
	return c.Context.Err()
}

// another makes a second vault, with one commit in it.
func (w *world) another() (*rawvault.Vault, *commitlog.Bundle, *wire.Control) {
	w.t.Helper()
	ctx, v := w.t.Context(), rawvault.New()
	if err := w.e.Invite(ctx, wire.Token{2}, 1, w.now.Add(time.Hour), nil); err != nil {
		w.t.Fatal(err)
	}
	if err := w.e.Create(ctx, wire.Token{2}, v.Authority.Public(), w.now); err != nil {
		w.t.Fatal(err)
	}
	b, c := v.ControlCommit(v.NewDevice().Registration(false))
	b.ID = 1
	return v, b, c
}

func (w *world) refill(ctx context.Context, vault keys.VaultID, b *commitlog.Bundle, c *wire.Control) error {
	_, err := w.e.Refill(ctx, engine.AppendRequest{Vault: vault, Bundles: []*commitlog.Bundle{b}, Control: c, Now: w.now})
	return err
}

// What is done to one vault holds up no other, and who waits for it does not wait for
// longer than its context.
func TestKeepersHoldUpNobody(t *testing.T) {
	w := newWorld(t)
	other, b, c := w.another()
	own := w.d.Commit(keys.Tag{1}, 1)
	own.ID = commitlog.CommitID(w.v.Size() + 1)
	release, err := w.e.Keep(t.Context(), w.v.ID()) // as Compact does where it drops things
	if err != nil {
		t.Fatal(err)
	}
	if err := w.refill(t.Context(), other.ID(), b, c); err != nil {
		t.Errorf("filling another vault: %v", err)
	}
	ended := func(what string, fn func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if err := fn(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s ends with %v", what, err)
		}
	}
	ended("Refill", func(ctx context.Context) error { return w.refill(ctx, w.v.ID(), own, nil) })
	ended("Compact", func(ctx context.Context) error {
		_, err := w.e.Compact(ctx, w.now)
		return err
	})
	ended("Tidy", func(ctx context.Context) error {
		_, err := w.e.Tidy(ctx, w.now, true)
		return err
	})
	if _, faults := w.verify(engine.VerifyOptions{}); len(faults) > 0 {
		t.Errorf("faults: %q", faults)
	}
	release()
	if err := w.refill(t.Context(), w.v.ID(), own, nil); err != nil {
		t.Errorf("filling when nothing holds it up: %v", err)
	}
	if n := w.e.Locks(); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

// While all is verified, a vault is compacted and filled again, and no fault comes of it.
func TestVerifyBesideCompaction(t *testing.T) {
	w := newWorld(t)
	b := w.d.Commit(keys.Tag{1}, 3)
	second := *b
	w.add(b, nil)
	second.ID = commitlog.CommitID(w.v.Size())
	w.add(w.d.Delete(keys.Tag{1}, commitlog.ChangeID{Commit: second.ID}), nil)
	steps := 0
	var step func()
	ctx := &asking{Context: t.Context()}
	step = func() {
		if steps++; steps > 20 {
			return
		}
		if steps%2 == 1 {
			if _, err := w.e.Compact(t.Context(), w.now); err != nil {
				t.Error(err)
			}
		} else if err := w.refill(t.Context(), w.v.ID(), &second, nil); err != nil {
			t.Error(err)
		}
		ctx.fn = step
	}
	ctx.fn = step
	_, err := w.e.Verify(ctx, engine.VerifyOptions{}, func(f engine.Fault) { t.Errorf("fault: %s", f.Text) })
	if err != nil || steps < 2 {
		t.Errorf("%d steps, %v", steps, err)
	}
}

// One vault's object holds up no other's of the same name, nor others of its own.
func TestObjectsHoldUpNobody(t *testing.T) {
	w := newWorld(t)
	other, _, _ := w.another()
	_, data := rawvault.Put(70_000)
	hash := commitlog.Hash(sha256.Sum256(data))
	release, err := w.e.WriteLock(t.Context(), w.v.ID(), hash)
	if err != nil {
		t.Fatal(err)
	}
	write := func(ctx context.Context, vault keys.VaultID) error {
		_, err := w.e.WriteObject(ctx, vault, hash, uint64(len(data)), 0, data)
		return err
	}
	if err := write(t.Context(), other.ID()); err != nil {
		t.Errorf("another vault: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := write(ctx, w.v.ID()); !errors.Is(err, context.Canceled) {
		t.Errorf("the same object: %v", err)
	}
	release()
	if err := write(t.Context(), w.v.ID()); err != nil {
		t.Error(err)
	}
	if n := w.e.Locks(); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}
