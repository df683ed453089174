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

// TidyAfter is how long what nobody needs is kept: an upload may go on after days, and
// who comes late with an invite is told that it has expired.
const TidyAfter = 7 * day

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
// (Config.DeletedDays), and what nobody needs any more (TidyAfter): at once, and then once
// a day, until ctx ends, but not where the clock has jumped. Sessions go on meanwhile. The
// logger is told what was dropped, and of errors, which end the day's run and no more: the
// next one goes on there. It is called once.
func (s *Server) CompactDaily(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s.steady() {
			s.compactNow(ctx)
			s.removeNow(ctx)
			s.tidy(ctx)
		}
		timer.Reset(day)
	}
}

func (s *Server) compactNow(ctx context.Context) {
	c := &s.config
	done, err := s.Compact(ctx, c.daysAgo(c.RetentionDays))
	if err != nil && !errors.Is(err, context.Canceled) {
		c.Logger.Error("compaction", "err", err)
		s.noteTrouble(err)
	}
	if done.Blobs+done.Objects > 0 {
		c.Logger.Info("compacted", "blobs", done.Blobs, "objects", done.Objects, "bytes", done.Bytes)
	}
}

func (s *Server) removeNow(ctx context.Context) {
	c := &s.config
	gone, err := c.Engine.Remove(ctx, c.daysAgo(c.DeletedDays))
	if err != nil && !errors.Is(err, context.Canceled) {
		c.Logger.Error("removing deleted vaults", "err", err)
	}
	if gone > 0 {
		c.Logger.Info("removed", "vaults", gone)
	}
}

// tidy removes what nobody needs any more, where the engine keeps such things.
func (s *Server) tidy(ctx context.Context) {
	c := &s.config
	k, ok := c.Engine.(engine.Keeper)
	if !ok {
		return
	}
	gone, err := k.Tidy(ctx, c.Now().Add(-TidyAfter), true)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.Logger.Error("removing what is left over", "err", err)
	}
	if gone != (engine.Tidied{}) {
		c.Logger.Info("removed what was left over", "objects", gone.Objects, "bytes", gone.Bytes, "invites", gone.Invites)
	}
	if gone.Objects > 0 {
		s.MadeRoom()
	}
}
