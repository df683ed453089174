package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// A runner holds sessions, one after the other: one for Sync, as many as it
// takes for Run. All but its channels belongs to the goroutine that called.
type runner struct {
	v    *Vault
	o    *SyncOptions
	tell *notifier
	live bool // being in step is not the end

	asked <-chan *waiter  // nil: nobody can ask
	nudge <-chan struct{} // nil: nobody can nudge, nor pause

	waiters []*waiter
	total   Report    // of the sessions that have ended
	inStep  time.Time // when a session was in step last
	last    Progress
}

const (
	minWait = time.Second
	maxWait = 5 * time.Minute
	// quickTime is for how long after being in step a new session may begin
	// to upload before it has downloaded.
	quickTime = time.Minute
)

var (
	errPaused = errors.New("the sync was paused")
	errAgain  = errors.New("the sync was asked to connect anew")
)

// Run keeps the vault in step until the context ends, the vault is closed, or
// something happens that trying again cannot help: an alarm, a revocation, a
// secondary that is another, does not know the device or needs another version,
// another session of this device, trouble of the device's own. While it is connected, local changes go out and
// others' come in at once; when it is not, it tries again after 1 s, then
// longer, up to 5 minutes, not before the secondary said, or at [Vault.SyncNow]. A
// vault has one Run at a time: a second returns [ErrRunning].
func (v *Vault) Run(ctx context.Context, o SyncOptions) (err error) {
	if err := v.ready(); err != nil {
		return err
	}
	if !v.setRunning(true) {
		return ErrRunning
	}
	r := &runner{v: v, o: &o, tell: notify(o.Progress), live: true, asked: v.asked, nudge: v.nudge}
	defer func() {
		v.setRunning(false)
		r.fail(err, true)
		r.tell.end(err)
	}()
	select {
	case <-v.nudge: // of a time before
	default:
	}
	wait := minWait
	own, full := false, o.Full
	for {
		if err := r.rest(ctx); err != nil {
			return err
		}
		e := &engine{v: v, mode: o.Mode, own: own, full: full, stay: true, quick: !r.inStep.IsZero() && time.Since(r.inStep) < quickTime}
		before := r.inStep
		err := r.attempt(ctx, e, v.connect)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		full = full && e.comparing()
		if r.inStep != before || e.pulledBytes+e.pushedBytes > 0 {
			wait = minWait
		}
		if err == errPaused {
			r.fail(err, false)
			continue
		}
		own = errors.Is(err, errUnknownStub)
		if own || err == errAgain || errors.Is(err, errElsewhere) {
			continue
		}
		if errors.Is(err, wire.ErrMoved) {
			r.inStep = time.Time{} // the next one sends nothing before it has the log
		}
		r.fail(err, false)
		pause, again := retry(err)
		if !again {
			return err
		}
		if !noRoom(err) {
			// Not before the secondary said, nor all whom it sent away at once; and who
			// is sent away again and again comes less and less often.
			own := wait/2 + rand.N(wait/2+1)
			pause = max(pause+rand.N(pause/8+1), own)
			wait = min(2*wait, maxWait)
		}
		v.conf.Logger.Info("sync interrupted", "err", err, "retry", pause)
		p := r.last
		p.State, p.Err, p.Retry = StateOffline, err, pause
		r.say(p)
		if err := r.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// attempt dials and holds one session, or, where the secondary goes on with another
// history by the owner's word, changes over to that and then holds one more. What they
// moved is in r.total afterwards.
func (r *runner) attempt(ctx context.Context, e *engine, dial dialer) (err error) {
	again := engine{v: e.v, mode: e.mode, own: e.own, full: e.full, stay: e.stay, errand: e.errand}
	for range maxHistories {
		err = r.once(ctx, e, dial)
		var o *otherHistory
		if !errors.As(err, &o) {
			return err
		}
		if err := r.changeOver(ctx, o); err != nil && !errors.As(err, &o) {
			return err
		}
		*e = again
	}
	return err
}

// maxHistories is how many other histories are looked at, one after the other, before
// that waits for the next attempt.
const maxHistories = 4

// once dials and holds one session.
func (r *runner) once(ctx context.Context, e *engine, dial dialer) error {
	select { // one session at a time
	case r.v.slot <- struct{}{}:
		defer func() { <-r.v.slot }()
	case <-ctx.Done():
		return ctx.Err()
	case <-r.v.closed:
		return ErrClosed
	}
	if err := r.v.mend(); err != nil { // before the secondary is asked for anything
		return err
	}
	if e.at.URL == "" {
		at, err := r.v.follow()
		if err != nil {
			return err
		}
		e.at = at
	}
	if e.owner == nil {
		if e.standing = r.v.alarmed(); e.standing != nil && !explainable(e.standing) {
			return e.standing
		}
	}
	r.say(e.progress(StateConnecting))
	conn, err := r.open(ctx, func(ctx context.Context) (client.Messenger, error) {
		return dial(ctx, r.o, e.at, func() { r.say(e.progress(StateSigningIn)) })
	})
	if err == nil {
		err = r.session(ctx, conn, e)
		conn.Close() // what was to be done is done, or err says why not
		if c, ok := conn.(counting); ok {
			e.report.BytesIn, e.report.BytesOut = int64(c.Received()), int64(c.Sent())
		}
	}
	r.total = r.total.plus(&e.report)
	r.last = e.progress("")
	r.tell.keep(r.last)
	var o *otherHistory
	if e.standing != nil && ctx.Err() == nil && !errors.As(err, &o) {
		return e.standing // whatever became of looking for a way out
	}
	return e.keepAlarm(err)
}

// open dials. A vault that is closed or paused does not wait for that, and where
// it has taken long already, the network that [Vault.SyncNow] speaks of may be
// another by now.
func (r *runner) open(outer context.Context, dial func(ctx context.Context) (client.Messenger, error)) (client.Messenger, error) {
	ctx, cancel := context.WithCancelCause(outer)
	begun, early := time.Now(), false
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-r.halt():
				cancel(errPaused)
			case <-r.v.closed:
				cancel(ErrClosed)
			case <-r.nudge:
				if time.Since(begun) < probeTime {
					early = true
					continue
				}
				cancel(errAgain)
			case <-ctx.Done():
			}
			return
		}
	}()
	conn, err := dial(ctx)
	if err != nil && ctx.Err() != nil && outer.Err() == nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-watched
	if early && err != nil {
		r.v.SyncNow() // for the wait that follows
	}
	return conn, err
}

// say tells the listener, and those of the waiters.
func (r *runner) say(p Progress) {
	r.tell.tell(p)
	for _, w := range r.waiters {
		w.tell.tell(p)
	}
}

// counting is a connection that counts its bytes.
type counting interface {
	Sent() uint64
	Received() uint64
	Moved() (sent, received uint64) // see client.Conn
}

// dialer opens a session; signingIn is called when there is a connection.
type dialer func(ctx context.Context, o *SyncOptions, at keyfile.Server, signingIn func()) (client.Messenger, error)

// sleep waits before the next attempt: for a time, or until somebody asks for
// something.
func (r *runner) sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.nudge:
		case w := <-r.asked:
			r.add(w, nil)
			if !w.once {
				continue // it can wait
			}
		case <-r.halt():
		case <-ctx.Done():
			return ctx.Err()
		case <-r.v.closed:
			return ErrClosed
		}
		return nil
	}
}

// rest waits for as long as the vault is paused.
func (r *runner) rest(ctx context.Context) error {
	for {
		_, paused, changed := r.v.running()
		if !paused {
			return nil
		}
		if err := r.v.alarmed(); err != nil {
			return err // a Sync in between has raised it
		}
		r.fail(errPaused, false) // those that came just before
		p := r.last
		p.State = StatePaused
		r.say(p)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.v.closed:
			return ErrClosed
		}
	}
}

// halt returns a channel that is closed when the runner is to pause; nil for one
// that does not care.
func (r *runner) halt() <-chan struct{} {
	if r.nudge == nil {
		return nil
	}
	v := r.v
	if v.main != nil {
		v = v.main
	}
	_, paused, changed := v.running()
	if paused {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return changed
}

// SyncNow makes a [Vault.Run] that waits before its next attempt try at once, as
// an app does when the network is back. One that has a connection looks whether
// it still holds.
func (v *Vault) SyncNow() {
	select {
	case v.nudge <- struct{}{}:
	default:
	}
}

// Pause ends the session of a [Vault.Run] and lets it rest until Resume; one
// that begins later rests from the start. Local changes go on, and so does
// [Vault.Sync] when it is called.
func (v *Vault) Pause() { v.setPaused(true) }

// Resume ends a pause.
func (v *Vault) Resume() { v.setPaused(false) }

// runState is whether a Run is going on and whether it rests.
type runState struct {
	running, paused bool
	alarms          int           // that were raised
	changed         chan struct{} // closed and replaced when these change
}

// running returns whether a Run is going on, whether it is to rest, and a channel
// that is closed when that changes.
func (v *Vault) running() (running, paused bool, changed <-chan struct{}) {
	v.changedMu.Lock()
	defer v.changedMu.Unlock()
	return v.run.running, v.run.paused, v.run.changed
}

func (v *Vault) setRunning(on bool) (changed bool) {
	return v.setRun(func(s *runState) { s.running = on })
}

func (v *Vault) setPaused(on bool) { v.setRun(func(s *runState) { s.paused = on }) }

func (v *Vault) setRun(set func(*runState)) (changed bool) {
	v.changedMu.Lock()
	defer v.changedMu.Unlock()
	was := v.run
	if set(&v.run); v.run == was {
		return false
	}
	close(v.run.changed)
	v.run.changed = make(chan struct{})
	return true
}

// retry reports whether trying again may help, and how long to wait first, 0 if
// the secondary does not say.
func retry(err error) (time.Duration, bool) {
	var e *wire.Error
	var other *otherHistory
	switch {
	case IsAlarm(err), errors.Is(err, commitlog.ErrVersion), errors.Is(err, ErrRevoked), errors.Is(err, ErrDamaged), errors.Is(err, ErrClosed):
		return 0, false
	case errors.Is(err, wire.ErrServerIdentity), errors.Is(err, wire.ErrDenied), errors.Is(err, wire.ErrVersion), errors.Is(err, wire.ErrReplaced):
		return 0, false
	case errors.As(err, &e):
		ok := e.Action == wire.ActionRetry || e.Action == wire.ActionRetryAfter
		return time.Duration(min(e.RetryAfter, uint64(maxWait.Milliseconds()))) * time.Millisecond, ok
	case errors.As(err, &other), errors.Is(err, errUnknownStub), errors.Is(err, ErrNotArrived), errors.Is(err, wire.ErrUnreachable),
		errors.Is(err, wire.ErrBusy), errors.Is(err, wire.ErrSuspended), errors.Is(err, wire.ErrTimeout), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, wire.ErrShutdown), errors.Is(err, wire.ErrInternal), errors.Is(err, wire.ErrReadOnly), errors.Is(err, wire.ErrQuota): // as a secondary says that has not proved itself yet: without what to do
		return 0, true
	case noRoom(err):
		return mendTime, true
	}
	return 0, false
}
