package secondary

import "github.com/kistvault/kist/secondary/wire"

// tellMoved tells the operator that a vault was moved away, or has come; not which, for
// logs are passed on. Where to is in the commit, which the secondary cannot read.
func (s *Server) tellMoved(c *wire.Control, size uint64) {
	switch c.Moved {
	case wire.MovedAway:
		s.config.Logger.Info("a vault was moved to another secondary, and is closed here", "commits", size)
	case wire.MovedHere:
		s.config.Logger.Info("a vault was moved here", "commits", size)
	}
}
