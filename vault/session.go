package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// session runs the engine over a connection: until it is in step, or, if the
// runner goes on living, until the connection or the context ends. It starts a
// reader and a writer, which end before it returns; the engine runs in the
// caller's goroutine alone. Nothing that comes in is held but one message, and
// nothing goes out beyond the engine's windows: each side waits for the other.
func (r *runner) session(ctx context.Context, conn client.Messenger, e *engine) error {
	ctx, cancel := context.WithCancelCause(ctx)
	in := make(chan wire.Message)
	out := make(chan []wire.Message, 1)
	ended := make(chan struct{}, 2)
	defer func() {
		r.v.prompt.Store(false)
		r.outOfContact(e)
		e.now = time.Now()
		e.waits() // what it waited in vain, up to the end
		cancel(nil)
		<-ended
		<-ended
	}()
	go func() { // reads
		defer func() { ended <- struct{}{} }()
		for {
			m, err := conn.Receive(ctx)
			if err != nil {
				cancel(err)
				return
			}
			m = r.v.parsing(m) // while the engine stores what came before
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() { // writes
		defer func() { ended <- struct{}{} }()
		for {
			select {
			case ms := <-out:
				for _, m := range ms {
					if err := conn.Send(ctx, m); err != nil {
						cancel(err)
						return
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	counter, counts := conn.(counting)
	timer := time.NewTimer(0)
	defer timer.Stop()

	for _, w := range r.waiters {
		w.begun, w.token = w.full, 0 // it was of a session before
		e.full = e.full || w.full
	}
	e.now = time.Now()
	queue, err := e.bind() // to be sent
	if err != nil {
		return err
	}
	look := func() { // at the clock and the connection
		e.now = time.Now()
		if counts {
			e.moved(counter.Moved())
			e.report.BytesOut, e.report.BytesIn = int64(counter.Sent()), int64(counter.Received())
		}
	}
	local := r.v.outboxGrown()
	for {
		// Looked at here and not only below, where something else may have come at the
		// same time: what was put meanwhile would stay.
		select {
		case <-local:
			local, e.drained = r.v.outboxGrown(), false
		default:
		}
		look()
		for _, step := range []func() ([]wire.Message, error){
			func() ([]wire.Message, error) { return r.serve(e) },
			e.pump,
		} {
			more, err := step()
			if err != nil {
				return err
			}
			queue = append(queue, more...)
		}
		if r.o.Step != nil {
			r.o.Step()
		}
		done, err := e.inStep()
		if err != nil {
			return err
		}
		r.inContact(e, conn, done)
		if done {
			r.inStep = e.now
			r.v.resolveSoon()
			if !r.live {
				return nil
			}
			r.v.prompt.Store(e.mode != PullOnly)
		}
		r.say(e.progress(e.state(done)))
		var send chan<- []wire.Message
		if len(queue) > 0 {
			send = out
		}
		timer.Stop()
		if at := e.deadline(); !at.IsZero() {
			timer.Reset(time.Until(at))
		} else if done {
			timer.Reset(keepContact)
		}
		select {
		case send <- queue:
			queue = nil
		case m := <-in:
			e.now = time.Now()
			if err := e.receive(m); err != nil {
				return err
			}
		case <-local:
		case w := <-r.asked:
			r.add(w, e)
		case <-r.nudge:
			look()
			queue = append(queue, e.probe()...)
		case <-r.halt():
			return errPaused
		case <-timer.C:
		case <-r.v.closed:
			return ErrClosed
		case <-ctx.Done():
			return whyEnded(ctx)
		}
	}
}

// whyEnded returns why a session's context ended: the connection's error, or the
// caller's.
func whyEnded(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("session ended: %w", err)
	}
	return ctx.Err()
}
