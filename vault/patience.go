package vault

import (
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

const (
	// stallTime is how long a secondary may leave a session without anything
	// that was asked for, though the line carries next to nothing. That it is
	// dead the connection finds out sooner.
	stallTime = 2 * time.Minute
	// stallBytes, each time, say that a line is slow and not idle.
	stallBytes = 4 << 10
	// probeTime is how long it may take to answer when it was asked whether it
	// is still there.
	probeTime = 5 * time.Second
	// An acknowledged commit that does not come back keeps the device from
	// signing more, and then is an alarm (SPEC.md, "Signing"). A line that
	// carries unseenBytes takes a second off the wait.
	unseenTime  = 30 * time.Second
	missingTime = 5 * time.Minute
	unseenBytes = 1 << 10
)

// heldBack is for how long a vault has been without a commit of its own that was
// acknowledged, while the log stayed at a size. It goes on over sessions: a
// secondary that ends them gains nothing by it. Only time in which the log is
// followed counts.
type heldBack struct {
	size uint64
	time time.Duration
}

// probe finds out whether the secondary is still there.
func (e *engine) probe() []wire.Message {
	if e.phase != phaseBound {
		return nil
	}
	e.probed, e.sentBy, e.gotBy = e.now, e.sentAll, e.gotAll
	_, out := e.sendMark()
	return out
}

// expects reports whether the secondary owes the device something.
func (e *engine) expects() bool {
	return e.phase != phaseBound || e.size < e.need || e.parts.Partial() || e.frames > 0 || e.object != nil ||
		len(e.fetching) > 0 || e.marking || e.past.request != 0 || e.checkpoint.request != 0 || e.reset.request != 0
}

// deadline returns when the engine wants to be stepped though nothing has come;
// zero: not at all.
func (e *engine) deadline() time.Time {
	if e.verifies() || e.indexes() {
		return e.now
	}
	switch { // in the order of stalled, which would not be due otherwise
	case !e.expects():
		if e.pastDue() {
			return e.past.rest
		}
		return time.Time{}
	case !e.probed.IsZero():
		return e.probed.Add(probeTime)
	case e.unseen():
		return e.now.Add(missingTime - e.v.held.time)
	}
	return e.heard.Add(stallTime)
}

// unseen reports whether an own commit was acknowledged and has not come back.
func (e *engine) unseen() bool { return e.phase == phaseBound && e.size < e.acked }

// waits counts the time of a wait, up to now. Where there is nothing to wait for, or
// the log has come closer, it begins anew.
func (e *engine) waits() {
	w := &e.v.held
	switch {
	case e.phase != phaseBound: // nothing can come
	case !e.unseen() || w.size != e.size:
		*w = heldBack{size: e.size}
	default:
		w.time += e.now.Sub(e.waited)
	}
	e.waited = e.now
}

// stalled returns an error if the secondary has been owing for too long. What
// it sends beside the matter does not count, unless it amounts to what a slow line
// carries: see moved.
func (e *engine) stalled() error {
	e.waits()
	switch {
	case !e.expects():
		e.heard = time.Time{}
	case e.heard.IsZero():
		e.heard = e.now
	case !e.probed.IsZero():
		if e.now.Sub(e.probed) >= probeTime {
			return fmt.Errorf("%w: the secondary is not there any more", wire.ErrTimeout)
		}
	case e.unseen():
		if e.v.held.time >= missingTime {
			e.v.held = heldBack{} // who tries again after the alarm waits anew
			return &commitlog.CommitError{ID: commitlog.CommitID(e.acked), Err: commitlog.ErrOwnCommitMissing,
				Reason: fmt.Sprintf("a commit of this device was acknowledged, and has not come for %v", missingTime)}
		}
	case e.now.Sub(e.heard) >= stallTime:
		return fmt.Errorf("%w: the secondary has left a request without an answer for %v", wire.ErrTimeout, stallTime)
	}
	return nil
}

// moved tells how many bytes of messages the connection has sent and received so
// far. A frame may take longer on its way than a secondary may take to answer. What
// comes of a message that was not asked for ends the session, so it puts off nothing.
func (e *engine) moved(sent, received uint64) {
	sent, received = max(sent, e.sentAll), max(received, e.gotAll)
	e.waits()
	came := received - e.gotAll
	e.v.held.time = max(0, e.v.held.time-time.Duration(came)*(time.Second/unseenBytes))
	e.sentAll, e.gotAll = sent, received
	switch {
	case e.probed.IsZero():
	case received > e.gotBy:
		e.probed = time.Time{} // that is a sign of life
	case sent-e.sentBy >= stallBytes:
		e.probed, e.sentBy = e.now, sent // the question is on its way yet
	}
	if sent+received-e.carried >= stallBytes && !e.heard.IsZero() {
		e.carried, e.heard = sent+received, e.now
	}
}

// maySign reports whether more may be signed: not while the secondary holds back
// what it has acknowledged.
func (e *engine) maySign() bool { return !e.unseen() || e.v.held.time < unseenTime }
