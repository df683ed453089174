package secondary

import (
	"context"
	"errors"
	"strings"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// answer maps an error to what a device is told of it. This is the one place
// that does. What has no code is the server's own trouble: it is logged, and the
// device learns that there is some.
func (s *Session) answer(err error) *wire.Error {
	code := wire.CodeOf(err)
	if code == 0 && errors.Is(err, context.Canceled) { // Shutdown ran out of time
		code, err = wire.CodeShutdown, wire.ErrShutdown
	}
	if code == 0 {
		s.server.config.Logger.Error("session failed", "conn", s.name, "err", err)
		s.server.noteTrouble(err)
		return trouble(err)
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	var ce *commitlog.CommitError
	if errors.As(err, &ce) {
		return wire.NewError(code, ce.Reason)
	}
	text := strings.TrimPrefix(err.Error(), code.Err().Error())
	return wire.NewError(code, strings.TrimPrefix(text, ": "))
}
