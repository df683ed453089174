package embedded

import (
	"context"

	"github.com/kistvault/kist/secondary/engine"
)

var _ engine.Mender = (*Engine)(nil)

// mendRoom is how much must be free for writing to begin again: less would be used
// up by the next few commits.
const mendRoom = 4 << 20

// Mend implements [engine.Mender].
func (e *Engine) Mend(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.db.Mend(mendRoom)
}
