package secondary_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
)

// sickEngine is an engine that can be mended after some attempts.
type sickEngine struct {
	engine.Engine
	tries, good atomic.Int64
}

func (e *sickEngine) Mend(context.Context) error {
	if e.tries.Add(1) < e.good.Load() {
		return syscall.ENOSPC
	}
	return nil
}

// A server whose store has become read-only says so, tries it again and again, and is
// ready when that has helped; the same the next time. One that is damaged is not tried.
func TestMend(t *testing.T) {
	sick := new(sickEngine)
	change := func(c *secondary.Config) {
		sick.Engine = c.Engine
		c.Engine = sick
	}
	inBubble(t, change, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			f.server.Mend(ctx)
		}()
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(time.Hour)
		if sick.tries.Load() != 0 {
			t.Error("it mends what is well")
		}
		for round := range 3 {
			sick.tries.Store(0)
			sick.good.Store(3)
			for range 10 { // sessions that meet it at the same time
				f.server.NoteTrouble(fmt.Errorf("append: %w: %w", store.ErrReadOnly, syscall.ENOSPC))
			}
			for f.server.Ready() != nil {
				pass(time.Second)
				if sick.tries.Load() > 3 {
					t.Fatal("it does not come to an end")
				}
			}
			if sick.tries.Load() != 3 {
				t.Errorf("round %d: ready after %d attempts, want 3", round, sick.tries.Load())
			}
			pass(time.Hour)
			if sick.tries.Load() != 3 {
				t.Errorf("round %d: it goes on mending", round)
			}
		}
		f.server.NoteTrouble(store.ErrDamaged)
		f.server.NoteTrouble(store.ErrReadOnly)
		pass(time.Hour)
		if sick.tries.Load() != 3 || f.server.Ready() == nil || errors.Is(f.server.Ready(), store.ErrReadOnly) {
			t.Errorf("damaged: %d attempts, ready: %v", sick.tries.Load(), f.server.Ready())
		}
		cancel()
		<-over
	})
}
