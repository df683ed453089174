package vault

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/kistvault/kist/secondary/wire"
)

// A waiter waits until a runner's sync has come to a point. It is handed over
// through Vault.asked, and is the runner's from then on.
type waiter struct {
	ctx  context.Context
	down bool   // until all is here that was in the log when it was asked
	up   uint64 // until the outbox entries up to this local id are in the log; 0: not
	full bool   // after a full sync
	once bool   // it shares the fate of the session, and does not wait for another
	// until, if not nil, says whether the store has come to the point, when all
	// else has. It is called in the runner's goroutine, and the session sends.
	until func(s *state) (bool, error)

	tell *notifier    // is told what the runner does meanwhile
	done chan outcome // holds one

	served atomic.Bool // there was a session for it

	base  Report // of the runner, when the waiter came
	begun bool   // the full sync was asked for in this session
	token uint64 // of the MARK that it waits for; 0: none
}

// An outcome is how a wait ended, and what the runner did meanwhile.
type outcome struct {
	report Report
	err    error
}

// handOver gives a waiter to the runner in charge and waits for its end. It
// reports false if there was none to take it and may be no more.
func (v *Vault) handOver(w *waiter, or <-chan struct{}) (taken bool, o outcome) {
	return v.handTo(v.asked, w, or)
}

// handTo is handOver to the runner that takes from asked.
func (v *Vault) handTo(asked chan<- *waiter, w *waiter, or <-chan struct{}) (taken bool, o outcome) {
	w.done = make(chan outcome, 1)
	select {
	case asked <- w:
	case <-or:
		return false, outcome{}
	case <-w.ctx.Done():
		return true, outcome{err: w.ctx.Err()}
	case <-v.closed:
		return true, outcome{err: ErrClosed}
	}
	select {
	case o := <-w.done:
		return true, o
	case <-w.ctx.Done():
		return true, outcome{err: w.ctx.Err()}
	case <-v.closed:
		return true, outcome{err: ErrClosed}
	}
}

// WaitForUpload returns when every change that was in the outbox is verified in
// the log, or set aside; at once if nothing is. It needs a [Vault.Run], and
// waits for one, over lost connections and pauses, until ctx ends.
func (v *Vault) WaitForUpload(ctx context.Context) error {
	up, err := v.lastLocal()
	if err != nil || up == 0 {
		return err
	}
	return v.wait(&waiter{ctx: ctx, up: up})
}

// WaitForDownload returns when everything is here, and verified, that was in the
// secondary's log when it was asked, which is after the call. It needs a
// [Vault.Run], and waits for one, over lost connections and pauses, until ctx
// ends.
func (v *Vault) WaitForDownload(ctx context.Context) error {
	return v.wait(&waiter{ctx: ctx, down: true})
}

// wait hands a waiter to a Run, whenever there is one. It does not wait for what
// an alarm has stopped.
func (v *Vault) wait(w *waiter) error {
	for {
		_, _, changed := v.running()
		if err := v.alarmed(); err != nil {
			return err
		}
		if taken, o := v.handOver(w, changed); taken {
			return o.err
		}
	}
}

// lastLocal returns the local id of the newest change in the outbox that waits
// for its turn, 0 if there is none.
func (v *Vault) lastLocal() (last uint64, err error) {
	err = v.view(func(s *state) error {
		return s.outbox.Scan(nil, func(k, _ []byte) (bool, error) {
			if s.aside.Get(k) == nil {
				last = be.Uint64(k)
			}
			return true, nil
		})
	})
	return last, err
}

// sentUpTo reports whether no change up to a local id is on its way any more.
func (s *state) sentUpTo(local uint64) (done bool, err error) {
	done = true
	err = s.outbox.Scan(nil, func(k, _ []byte) (bool, error) {
		if be.Uint64(k) > local {
			return false, nil
		}
		done = s.aside.Get(k) != nil
		return done, nil
	})
	return done, err
}

// add takes a waiter over, and lets go of those whose callers have left. e is the
// session, nil between two.
func (r *runner) add(w *waiter, e *engine) {
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool { return w.ctx.Err() != nil })
	w.base = r.done(e)
	r.waiters = append(r.waiters, w)
}

// done returns what the runner has done so far.
func (r *runner) done(e *engine) Report {
	if e == nil {
		return r.total
	}
	return r.total.plus(&e.report)
}

// serve brings the waiters on: it returns what has to be asked for them, and
// ends those whose point has come.
func (r *runner) serve(e *engine) (out []wire.Message, err error) {
	for _, w := range r.waiters {
		w.served.Store(true)
		if w.full && !w.begun {
			w.begun, e.full = true, true
		}
		if w.down && (w.token == 0 || e.lost(w.token)) {
			var mark []wire.Message
			w.token, mark = e.sendMark()
			out = append(out, mark...)
		}
	}
	var ended []*waiter
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		if err != nil || w.ctx.Err() != nil {
			return err == nil
		}
		if w.down && !e.arrived(w.token) {
			return false
		}
		if w.up > 0 {
			var sent bool
			if err = r.v.view(func(s *state) (err error) { sent, err = s.sentUpTo(r.v.localNow(w.up)); return err }); err != nil || !sent {
				return false
			}
		}
		if w.until != nil {
			var there bool
			if err = r.v.view(func(s *state) (err error) { there, err = w.until(s); return err }); err != nil || !there {
				return false
			}
		}
		ended = append(ended, w)
		return true
	})
	e.mode = r.o.Mode
	for _, w := range r.waiters {
		if (w.up > 0 || w.until != nil) && e.mode == PullOnly {
			e.mode = TwoWay
		}
	}
	for _, w := range ended {
		w.done <- outcome{report: r.done(e).minus(&w.base)}
	}
	return out, err
}

// fail ends the waiters that do not outlive a session, or all.
func (r *runner) fail(err error, all bool) {
	if err == nil {
		err = ErrStopped
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		if !all && !w.once {
			return false
		}
		w.done <- outcome{r.total.minus(&w.base), fmt.Errorf("sync: %w", err)}
		return true
	})
}

// plus and minus are about what a report counts of a sync, not what it counts of
// the vault.
func (r Report) plus(o *Report) Report {
	r.Pulled += o.Pulled
	r.Pushed += o.Pushed
	r.Conflicts += o.Conflicts
	r.Forgotten += o.Forgotten
	r.Compacted += o.Compacted
	r.BytesIn += o.BytesIn
	r.BytesOut += o.BytesOut
	return r
}

func (r Report) minus(o *Report) Report {
	r.Pulled -= o.Pulled
	r.Pushed -= o.Pushed
	r.Conflicts -= o.Conflicts
	r.Forgotten -= o.Forgotten
	r.Compacted -= o.Compacted
	r.BytesIn -= o.BytesIn
	r.BytesOut -= o.BytesOut
	return r
}
