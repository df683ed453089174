package vault

import (
	"fmt"

	"github.com/kistvault/kist/secondary/wire"
)

// sendMark asks the secondary to say when everything has come that is in the log
// now, and returns the token by which arrived knows the answer. One MARK is under
// way at a time: until it is answered, sendMark sends nothing and returns 0.
func (e *engine) sendMark() (token uint64, out []wire.Message) {
	if e.phase != phaseBound || e.marking || e.full {
		return 0, nil
	}
	if !e.expects() {
		e.heard = e.now
	}
	e.mark++
	e.marking = true
	return e.mark, []wire.Message{&wire.Mark{Token: e.mark}}
}

// arrived reports whether everything is here that was in the log when MARK was
// sent.
func (e *engine) arrived(token uint64) bool { return token != 0 && e.marked >= token && e.filled() }

// lost reports whether a MARK will not be answered any more.
func (e *engine) lost(token uint64) bool { return e.marked < token && !e.marking }

func (e *engine) onMarked(m *wire.Marked) error {
	if !e.marking || m.Token != e.mark {
		return fmt.Errorf("%w: MARKED without MARK", wire.ErrProtocol)
	}
	e.marking = false
	if e.phase != phaseBound {
		return nil // the commits that it speaks of were dropped: it is asked for again
	}
	if m.Size > e.size {
		return fmt.Errorf("%w: MARKED before the commits that it speaks of", wire.ErrProtocol)
	}
	e.marked = m.Token
	return nil
}
