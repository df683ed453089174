package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/engine"
)

// unwell is an engine whose calls fail.
type unwell struct {
	engine.Engine
	engine.Keeper
	err error
}

func (u unwell) Compact(context.Context, time.Time) (engine.Compacted, error) {
	return engine.Compacted{}, u.err
}

func (u unwell) Tidy(context.Context, time.Time, bool) (engine.Tidied, error) {
	return engine.Tidied{Invites: 3}, u.err
}

func (u unwell) Export(context.Context, keys.VaultID, engine.Taker) (engine.Exported, error) {
	return engine.Exported{}, u.err
}

// endless is an engine whose store has no end.
type endless struct {
	engine.Engine
	engine.Keeper
	ended chan error
}

func (e endless) Snapshot(_ context.Context, begin func(int64) (io.Writer, error)) error {
	w, err := begin(1 << 40)
	for err == nil {
		_, err = w.Write(make([]byte, 64<<10))
	}
	e.ended <- err
	return err
}

// Who asks for a copy of the store, and does not take it, keeps it from nobody for ever.
func TestCopyStalls(t *testing.T) {
	defer admin.SetStall(time.Millisecond)()
	client, o := listen(t)
	e := endless{o.Engine, o.Engine.(engine.Keeper), make(chan error, 1)}
	o.Engine = e
	c, err := net.Dial("unix", o.Data.AdminSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /store HTTP/1.1\r\nHost: kistd\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-e.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the copy ended with %v", err)
	}
	if _, err := client.Vaults(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Who asks is told of damage, and of a disk that takes nothing, as errors that programs
// know.
func TestUnwell(t *testing.T) {
	client, o := listen(t)
	vault := fill(t, o.Engine).ID().String()
	well := o.Engine
	for _, want := range []error{store.ErrDamaged, store.ErrReadOnly} {
		o.Engine = unwell{well, well.(engine.Keeper), fmt.Errorf("page 7: %w", want)}
		if _, err := client.Compact(t.Context(), admin.CompactQuestion{}); !errors.Is(err, want) {
			t.Errorf("compact: %v, want %v", err, want)
		}
		if _, err := client.ExportTo(t.Context(), vault, io.Discard, nil); !errors.Is(err, want) {
			t.Errorf("export: %v, want %v", err, want)
		}
		state, err := client.Tidy(t.Context(), admin.TidyQuestion{})
		if want == store.ErrDamaged && (err != nil || state.Damaged == "" || state.Invites != 3) {
			t.Errorf("tidy: %+v, %v; want what was found, and that there is damage", state, err)
		}
		if want == store.ErrReadOnly && !errors.Is(err, want) {
			t.Errorf("tidy: %v, want %v", err, want)
		}
	}
}
