package embedded

import (
	"time"

	"github.com/kistvault/kist/secondary/engine"
)

var _ engine.Watched = (*Engine)(nil)

// Observe implements [engine.Watched].
func (e *Engine) Observe(fn func(commit time.Duration)) { e.db.Observe(fn) }

// Waiting implements [engine.Watched].
func (e *Engine) Waiting() int { return e.db.Waiting() }
