package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

func archiveOf(t *testing.T, w *world, e *embedded.Engine) []byte {
	t.Helper()
	var b bytes.Buffer
	done, err := e.Export(t.Context(), w.v.ID(), archive.NewWriter(&b))
	if err != nil || done.Missing > 0 {
		t.Fatalf("export: %+v, %v", done, err)
	}
	return b.Bytes()
}

func takeIn(t *testing.T, e *embedded.Engine, data []byte) error {
	in := e.Import(engine.ImportOptions{})
	return errors.Join(archive.Read(t.Context(), bytes.NewReader(data), in), in.Close(t.Context()))
}

// Killed at any step of an import, the next process finds no vault that a device could
// sign in to, or all of it; and the import can be made again.
func TestImportKilled(t *testing.T) {
	defer embedded.SetImportBatch(3)()
	w := newWorld(t)
	data := archiveOf(t, w, w.e)
	dir, states := t.TempDir(), t.TempDir()
	e := open(t, dir)
	n := 0
	state := func(i int) string { return filepath.Join(states, fmt.Sprint(i)) }
	keep := func() { // what is on the disk at this moment
		if err := os.CopyFS(state(n), os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		n++
	}
	e.Observe(func(time.Duration) { keep() })
	durable.Hook = func(durable.Op, bool, string) error {
		keep()
		return nil
	}
	err := takeIn(t, e, data)
	durable.Hook = nil
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	if n < 15 {
		t.Errorf("only %d steps", n)
	}
	whole := 0
	for i := range n {
		e := open(t, state(i))
		_, err := e.Author(t.Context(), w.v.ID(), w.d.ID)
		switch {
		case err == nil:
			whole++
			if err := takeIn(t, e, data); !errors.Is(err, engine.ErrExists) {
				t.Errorf("step %d: whole, and imported again: %v, want ErrExists", i, err)
			}
		case !errors.Is(err, wire.ErrNotFound):
			t.Errorf("step %d: %v, want ErrNotFound", i, err)
		default:
			if i%2 == 0 {
				if _, err := e.Remove(t.Context(), time.Time{}); err != nil {
					t.Errorf("step %d: %v", i, err)
				}
				if left, err := e.Vaults(t.Context()); left != 0 || err != nil {
					t.Errorf("step %d: %d vaults are left, %v", i, left, err)
				}
			}
			if err := takeIn(t, e, data); err != nil {
				t.Errorf("step %d: again: %v", i, err)
			}
		}
		if !bytes.Equal(archiveOf(t, w, e), data) {
			t.Errorf("step %d: it has become another", i)
		}
		if _, err := e.Verify(t.Context(), engine.VerifyOptions{Pages: true}, func(f engine.Fault) { t.Errorf("step %d: %v", i, f) }); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if whole != 1 {
		t.Errorf("it was whole after %d of %d steps, want the last", whole, n)
	}
}

// A vault is exported as it is at one moment, whatever is written, compacted and
// imported beside.
func TestExportBeside(t *testing.T) {
	w := newWorld(t)
	other := open(t, t.TempDir())
	defer other.Close()
	head, err := w.e.Head(t.Context(), w.v.ID(), w.v.Size())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	begun := &during{Taker: archive.NewWriter(&b), do: func() {
		before := w.now
		w.now = w.now.Add(time.Hour)
		for range 20 {
			w.put(90_000)
			w.add(w.d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 12}), nil)
		}
		w.add(w.v.ControlCommit(w.v.NewDevice().Registration(false), w.d.Registration(true)))
		if _, err := w.e.Compact(t.Context(), before); err != nil {
			t.Error(err)
		}
	}}
	if _, err := w.e.Export(t.Context(), w.v.ID(), begun); err != nil {
		t.Fatal(err)
	}
	if err := takeIn(t, other, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if now, err := other.Head(t.Context(), w.v.ID(), 1<<30); err != nil || now != head {
		t.Errorf("head %+v, %v; want %+v", now, err, head)
	}
	if _, err := other.Verify(t.Context(), engine.VerifyOptions{}, func(f engine.Fault) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

// during is a taker that does something else before the end.
type during struct {
	engine.Taker
	do func()
}

func (d *during) Begin(ctx context.Context, w *engine.Whole) error {
	d.do()
	return d.Taker.Begin(ctx, w)
}
