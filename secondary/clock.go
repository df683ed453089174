package secondary

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/kistvault/kist/internal/durable"
)

// What is dropped for good is dropped by the clock. A look at it is stored, so that one
// that has jumped is noticed, by a server that was restarted meanwhile, too: then nothing
// is dropped until it has gone on from there for about a day, in which somebody can put it
// right.
type look struct {
	At   time.Time `json:"at"`   // what the clock said; zero: it was never looked at
	Held bool      `json:"held"` // and that was no time to drop anything
}

// What a clock may have gone on between two looks, a day apart where the server runs all
// the time: a machine that sleeps, or is off over a few days, has not jumped.
const (
	clockBack  = time.Hour
	clockAhead = 4 * day
	clockHold  = 20 * time.Hour
)

// next is the next look, at now. Where it is Held the clock is not to be relied on.
func (l look) next(now time.Time) look {
	switch since := now.Sub(l.At); {
	case l.At.IsZero():
	case since < -clockBack, since > clockAhead:
		return look{now, true}
	case l.Held && since < clockHold:
		return l
	}
	return look{now, false}
}

// steady looks at the clock, and reports whether it can be relied on.
func (s *Server) steady() bool {
	c := &s.config
	before := s.looked
	s.looked = before.next(c.Now().UTC().Round(time.Second))
	if s.looked.Held && s.looked != before {
		c.Logger.Warn("the clock is not where it should be, or the server was off for long: nothing is dropped for good until it has been so for a day", "clock", s.looked.At, "before", before.At)
	}
	if s.looked != before && c.ClockFile != "" {
		if err := s.looked.store(c.ClockFile); err != nil {
			c.Logger.Error("storing what the clock says", "err", err) // a full disk needs compaction most
		}
	}
	return !s.looked.Held
}

func (l look) store(path string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// readLook reads a stored look: the zero one where there is none. One that cannot be read
// counts as none, too; it is of no worth.
func readLook(path string) (l look, err error) {
	text, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil && json.Unmarshal(text, &l) != nil {
		return look{}, nil
	}
	return l, err
}
