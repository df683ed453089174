package secondary

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// noteTrouble keeps in mind what stays wrong with the store after an error.
func (s *Server) noteTrouble(err error) {
	switch {
	case errors.Is(err, store.ErrReadOnly):
		if s.trouble.CompareAndSwap(nil, &errReadOnly) {
			s.config.Logger.Error("the store is read-only", "err", err)
			select {
			case s.sick <- struct{}{}:
			default:
			}
		}
	case errors.Is(err, store.ErrDamaged):
		s.trouble.Store(&errDamaged)
	}
}

// trouble is what a device is told of the server's own trouble.
func trouble(err error) *wire.Error {
	for _, full := range []error{store.ErrReadOnly, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG} {
		if errors.Is(err, full) {
			return wire.NewError(wire.CodeReadOnly, "")
		}
	}
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, short) {
			return wire.NewError(wire.CodeBusy, tooMuch)
		}
	}
	return wire.NewError(wire.CodeInternal, "")
}

// mendTime is how often a store that is read-only is tried.
const mendTime = 3 * time.Second

// Mend has an engine that became read-only (see [engine.Mender]) write again when it
// can, and tries until it can or ctx ends. The logger is told.
func (s *Server) Mend(ctx context.Context) {
	m, ok := s.config.Engine.(engine.Mender)
	if !ok {
		return
	}
	timer := time.NewTimer(mendTime)
	defer timer.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sick:
			// Not at once: what fails again and again must not be all that goes on.
			timer.Reset(mendTime)
			continue
		case <-timer.C:
		}
		if s.trouble.Load() != &errReadOnly {
			continue
		}
		err := m.Mend(ctx)
		switch {
		case err == nil:
			s.trouble.CompareAndSwap(&errReadOnly, nil)
			s.config.Logger.Info("the store takes writes again")
			last = ""
			continue
		case err.Error() != last && !errors.Is(err, context.Canceled):
			last = err.Error()
			s.config.Logger.Warn("the store stays read-only", "err", err)
		}
		if errors.Is(err, store.ErrDamaged) {
			s.noteTrouble(err)
		}
		timer.Reset(mendTime)
	}
}
