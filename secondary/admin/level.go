package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// A Level is from which on a server logs: debug, info, warn or error.
type Level struct {
	Level string `json:"level"` // in a question, empty: it stays
}

var errNoLog = errors.New("no server runs that has a log")

func (o *Operator) logLevel(_ context.Context, q Level) (Level, error) {
	if o.Level == nil {
		return Level{}, errNoLog
	}
	if q.Level != "" {
		var to slog.Level
		if err := to.UnmarshalText([]byte(q.Level)); err != nil {
			return Level{}, fmt.Errorf("log level %q: want debug, info, warn or error", q.Level)
		}
		o.Level.Set(to)
	}
	return Level{strings.ToLower(o.Level.Level().String())}, nil
}

// LogLevel changes the level from which on the server logs, until it ends, and returns
// the one in force.
func (c *Client) LogLevel(ctx context.Context, q Level) (Level, error) {
	return ask[Level](ctx, c, "log-level", q)
}
