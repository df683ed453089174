package secondary

import (
	"context"
	"errors"
	"time"
)

// day is how often a server compacts.
const day = 24 * time.Hour

// CompactDaily drops the content of what was superseded for longer than the
// retention time (Config.RetentionDays), and vaults that were deleted long enough ago
// (Config.DeletedDays): at once, and then once a day, until ctx
// ends. Sessions go on meanwhile. The logger is told what was dropped, and of
// errors, which end the day's run and no more: the next one goes on there.
func (s *Server) CompactDaily(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c := &s.config
		done, err := c.Engine.Compact(ctx, c.Now().Add(-time.Duration(c.RetentionDays)*day))
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Error("compaction", "err", err)
			s.noteTrouble(err)
		}
		if done.Blobs+done.Objects > 0 {
			c.Logger.Info("compacted", "blobs", done.Blobs, "objects", done.Objects, "bytes", done.Bytes)
			s.MadeRoom()
		}
		gone, err := c.Engine.Remove(ctx, c.Now().Add(-time.Duration(c.DeletedDays)*day))
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Error("removing deleted vaults", "err", err)
		}
		if gone > 0 {
			c.Logger.Info("removed", "vaults", gone)
		}
		timer.Reset(day)
	}
}
