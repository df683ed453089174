package vault

import "context"

// An errand is a session for one caller, where no Run has any. It serves waiters
// until it is ended, or the session ends.
type errand struct {
	asked  chan *waiter
	cancel context.CancelFunc
	ended  chan struct{} // closed when err is final
	err    error
}

// begin begins an errand. Its goroutine ends with end, which the caller calls.
func (v *Vault) begin(ctx context.Context) *errand {
	ctx, cancel := context.WithCancel(ctx)
	e := &errand{asked: make(chan *waiter), cancel: cancel, ended: make(chan struct{})}
	r := &runner{v: v, o: &SyncOptions{}, live: true, asked: e.asked}
	go func() {
		defer close(e.ended)
		e.err = r.hold(ctx, v.connect, func(own bool) *engine { return &engine{v: v, errand: true, own: own} })
		r.fail(e.err, true)
	}()
	return e
}

func (e *errand) end() {
	e.cancel()
	<-e.ended
}

// drive has a session serve the waiter, and returns when the waiter is done or
// that session has ended. It is Run's session, which connects at once for it, or
// else one of the transaction's own, which stays for the next waiter.
func (t *transaction) drive(w *waiter) error {
	for {
		running, paused, changed := t.v.running()
		if running && !paused {
			t.leave() // a vault has one session
			if taken, o := t.v.handOver(w, changed); taken {
				return o.err
			}
			continue
		}
		if t.errand == nil {
			t.errand = t.v.begin(t.ctx)
		}
		taken, o := t.v.handTo(t.errand.asked, w, t.errand.ended)
		if !taken {
			o.err = t.errand.err
		}
		if o.err != nil {
			t.leave()
		}
		return o.err
	}
}

// leave ends the transaction's own session.
func (t *transaction) leave() {
	if t.errand != nil {
		t.errand.end()
		t.errand = nil
	}
}

// setHold keeps other commits from being signed, or lets them. Once the
// transaction is over it does nothing: a session may still have its waiter.
func (t *transaction) setHold(hold bool) {
	t.v.changedMu.Lock()
	defer t.v.changedMu.Unlock()
	if !t.over {
		t.v.setHold(hold)
	}
}

// finish lets other commits be signed again, for good.
func (t *transaction) finish() {
	t.v.changedMu.Lock()
	defer t.v.changedMu.Unlock()
	t.over = true
	t.v.setHold(false)
}

// setHold is called while changedMu is held.
func (v *Vault) setHold(hold bool) {
	if v.hold.Swap(hold) && !hold {
		close(v.unsent) // there may be something to send
		v.unsent = make(chan struct{})
	}
}
