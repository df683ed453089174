package secondary

import (
	"context"
	"errors"
	"time"

	"github.com/kistvault/kist/secondary/engine"
)

// day is how often a server compacts.
const day = 24 * time.Hour

// daysAgo returns the time so many days ago. A [time.Duration] does not hold all numbers
// of days that can be set.
func (c *Config) daysAgo(n uint32) time.Time { return c.Now().UTC().AddDate(0, 0, -int(n)) }

// Compact is that of the engine. Vaults for which there may be room now are tried
// again, see [Server.MadeRoom].
func (s *Server) Compact(ctx context.Context, before time.Time) (engine.Compacted, error) {
	done, err := s.config.Engine.Compact(ctx, before)
	switch {
	case err == nil:
		s.counts.compactions.Add(1)
	case !errors.Is(err, context.Canceled):
		s.counts.failures.Add(1)
	}
	s.counts.compacted.Add(done.Bytes)
	if done.Blobs+done.Objects > 0 {
		s.MadeRoom()
	}
	return done, err
}

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
		done, err := s.Compact(ctx, c.daysAgo(c.RetentionDays))
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Error("compaction", "err", err)
			s.noteTrouble(err)
		}
		if done.Blobs+done.Objects > 0 {
			c.Logger.Info("compacted", "blobs", done.Blobs, "objects", done.Objects, "bytes", done.Bytes)
		}
		gone, err := c.Engine.Remove(ctx, c.daysAgo(c.DeletedDays))
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Error("removing deleted vaults", "err", err)
		}
		if gone > 0 {
			c.Logger.Info("removed", "vaults", gone)
		}
		timer.Reset(day)
	}
}
