package embedded

import (
	"context"
	"errors"
	"os"

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
	// Opening the store again holds readers up, so it is not done for nothing.
	if err := e.tryDisk(); err != nil {
		return err
	}
	return e.db.Reopen()
}

// tryDisk writes a file and brings it to the disk. One that is left by a process that
// was killed is written over by the next try, and is of no account until then.
func (e *Engine) tryDisk() error {
	f, err := os.OpenFile(e.db.Path()+".try", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for at := int64(0); at < mendRoom && err == nil; at += int64(len(buf)) {
		_, err = f.WriteAt(buf, at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
