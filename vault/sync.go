package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// SyncOptions say how Sync and Run go about it. The zero value is usual.
type SyncOptions struct {
	Mode Mode
	// Progress is told where a sync is, if not nil, from the goroutine that
	// called Sync or Run. It should return soon.
	Progress func(Progress)
	// Floor is what a new device knows of the log beforehand: Enrol refuses one
	// that does not reach and contain it, before anything is signed. Nil:
	// nothing.
	Floor *keyfile.Checkpoint
	// Dial opens a session. Nil dials the vault's secondary.
	Dial func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error)
}

// A Progress is where a sync is.
type Progress struct {
	State     State
	Commits   uint64 // of the verified log
	Announced uint64 // commits that the secondary has
	BytesLeft uint64 // to come, as the secondary says
	Pulled    int    // changes by others so far
	Pushed    int    // own changes that are in the log so far
	Err       error  // why it went offline; nil otherwise
}

// State is what a sync is doing. A listener sees the states in order; "live" is
// only ever said while a session is bound and in step.
type State string

const (
	StateOffline     State = "offline"
	StateConnecting  State = "connecting"
	StateDownloading State = "downloading"
	StateUploading   State = "uploading"
	StateLive        State = "live"
)

// server turns what is stored of a secondary into what the client dials.
func server(s keyfile.Server) (client.Server, error) {
	b, err := wire.ParseBinding(string(s.Binding))
	return client.Server{URL: s.URL, Key: s.Key, Binding: b}, err
}

func (o *SyncOptions) dial(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
	if o.Dial != nil {
		return o.Dial(ctx, s, id)
	}
	c, err := client.Dial(ctx, s, id)
	if err != nil {
		return nil, err // and not a Messenger that holds a nil *Conn
	}
	return c, nil
}

// connect dials the vault's secondary as this device.
func (v *Vault) connect(ctx context.Context, o *SyncOptions) (client.Messenger, error) {
	servers := v.Servers()
	if len(servers) == 0 {
		return nil, ErrNoSecondary
	}
	s, err := server(servers[0])
	if err != nil {
		return nil, err
	}
	return o.dial(ctx, s, client.Device(v.keys.vault, v.keys.device, v.keys.own.Auth))
}

// Sync brings vault and secondary in step, once: it returns when everything that
// the secondary had is here and verified, and everything that was in the outbox
// is in the log. The report is never nil; the error is not nil if anything was
// left undone, but for what the report itself lists (Aside, Quarantine).
// An error of package commitlog is an alarm: the secondary was caught at
// something no honest one does. Nothing was changed by what it sent, and Status
// says so until a sync goes well.
func (v *Vault) Sync(ctx context.Context, o SyncOptions) (*Report, error) {
	if err := v.ready(); err != nil {
		return &Report{}, err
	}
	dial := func() (client.Messenger, error) { return v.connect(ctx, &o) }
	r, err := v.once(ctx, &engine{v: v, mode: o.Mode}, &o, dial)
	if errors.Is(err, errUnknownStub) {
		r, err = v.once(ctx, &engine{v: v, mode: o.Mode, full: true}, &o, dial)
	}
	return r, err
}

// ready reports what stands in the way of a session of this device.
func (v *Vault) ready() error {
	return v.view(func(s *state) error {
		ok, err := s.enrolled()
		if err == nil && !ok {
			err = ErrNotEnrolled
		}
		return err
	})
}

// once runs one session until it is in step.
func (v *Vault) once(ctx context.Context, e *engine, o *SyncOptions, dial func() (client.Messenger, error)) (*Report, error) {
	o.tell(e, StateConnecting, nil)
	conn, err := dial()
	if err == nil {
		err = v.session(ctx, conn, e, o, false)
		if cerr := conn.Close(); err == nil {
			err = cerr
		}
	}
	err = v.alarm(err)
	o.tell(e, StateOffline, err)
	r, ferr := e.finish()
	if c, ok := conn.(interface {
		Sent() uint64
		Received() uint64
	}); ok && conn != nil {
		r.BytesIn, r.BytesOut = int64(c.Received()), int64(c.Sent())
	}
	return r, errors.Join(err, ferr)
}

// Enrol connects a new device with the vault's secondary: it pulls and verifies
// the whole log as the owner, and has the authority admit this device. With an
// invite's token it creates the vault at the secondary, if that does not have
// it; without, an empty log is [commitlog.ErrNoGenesis]. It may be repeated
// until it has gone well.
func (v *Vault) Enrol(ctx context.Context, a keys.Authority, token *wire.Token, o SyncOptions) (*Report, error) {
	if a.Public().VaultID() != v.ID() {
		return &Report{}, commitlog.ErrVaultIDMismatch
	}
	servers := v.Servers()
	if len(servers) == 0 {
		return &Report{}, ErrNoSecondary
	}
	s, err := server(servers[0])
	if err != nil {
		return &Report{}, err
	}
	id := client.Owner(a)
	if token != nil {
		id = client.NewVault(a, *token)
	}
	e := &engine{v: v, owner: &ownerMode{authority: a, now: v.conf.Now(), create: token != nil, floor: o.Floor}}
	return v.once(ctx, e, &o, func() (client.Messenger, error) { return o.dial(ctx, s, id) })
}

// Run keeps the vault in step until the context ends, the vault is closed, or
// something happens that trying again cannot help: an alarm, a revocation, a
// secondary that is another. While it is connected, local changes go out and
// others' come in at once; when it is not, it tries again after 1 s, then
// longer, up to 5 minutes.
func (v *Vault) Run(ctx context.Context, o SyncOptions) error {
	if err := v.ready(); err != nil {
		return err
	}
	wait := minWait
	full := false
	for {
		e := &engine{v: v, mode: o.Mode, full: full}
		o.tell(e, StateConnecting, nil)
		conn, err := v.connect(ctx, &o)
		if err == nil {
			err = v.session(ctx, conn, e, &o, true)
			err = errors.Join(err, conn.Close())
			if e.bound {
				wait = minWait
			}
		}
		err = v.alarm(err)
		o.tell(e, StateOffline, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		full = errors.Is(err, errUnknownStub)
		pause, again := retry(err)
		if !again {
			return err
		}
		if pause == 0 {
			pause = wait/2 + rand.N(wait/2+1)
			wait = min(2*wait, maxWait)
		}
		v.conf.Logger.Info("sync interrupted", "err", err, "retry", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-v.closed:
			timer.Stop()
			return ErrClosed
		}
	}
}

const (
	minWait = time.Second
	maxWait = 5 * time.Minute
)

// retry reports whether trying again may help, and how long to wait first, 0 if
// the secondary does not say.
func retry(err error) (time.Duration, bool) {
	var e *wire.Error
	switch {
	case IsAlarm(err), errors.Is(err, commitlog.ErrVersion), errors.Is(err, ErrRevoked), errors.Is(err, ErrDamaged), errors.Is(err, ErrClosed):
		return 0, false
	case errors.Is(err, wire.ErrServerIdentity), errors.Is(err, wire.ErrDenied), errors.Is(err, wire.ErrVersion), errors.Is(err, wire.ErrReplaced):
		return 0, false
	case errors.As(err, &e):
		ok := e.Action == wire.ActionRetry || e.Action == wire.ActionRetryAfter
		return time.Duration(min(e.RetryAfter, uint64(maxWait.Milliseconds()))) * time.Millisecond, ok
	case errors.Is(err, errUnknownStub), errors.Is(err, wire.ErrUnreachable), errors.Is(err, wire.ErrBusy), errors.Is(err, wire.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return 0, true
	}
	return 0, false
}

// IsAlarm reports whether the error says that a secondary was caught at
// something no honest one does.
func IsAlarm(err error) bool {
	var c *commitlog.CommitError
	return errors.As(err, &c) && !errors.Is(err, commitlog.ErrVersion)
}

// alarm keeps an alarm for Status, and takes it back after a session that went
// well.
func (v *Vault) alarm(err error) error {
	text := ""
	if IsAlarm(err) {
		text = err.Error()
	} else if err != nil {
		return err
	}
	var have string
	verr := v.view(func(s *state) error { have = string(s.meta.Get(metaAlarm)); return nil })
	if verr == nil && have != text {
		verr = v.update(func(s *state) error {
			if text == "" {
				return s.meta.Delete(metaAlarm)
			}
			return s.meta.Put(metaAlarm, []byte(text))
		})
	}
	return errors.Join(err, verr)
}

// tell reports progress.
func (o *SyncOptions) tell(e *engine, st State, err error) {
	if o.Progress != nil {
		o.Progress(Progress{
			State: st, Commits: e.size, Announced: max(e.announced, e.size), BytesLeft: e.left,
			Pulled: e.report.Pulled, Pushed: e.report.Pushed, Err: err,
		})
	}
}

// session runs the engine over a connection: until it is in step, or, if live,
// until the connection or the context ends. It starts a reader and a writer,
// which end before it returns; the engine runs in the caller's goroutine alone.
func (v *Vault) session(ctx context.Context, conn client.Messenger, e *engine, o *SyncOptions, live bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	in := make(chan wire.Message)
	out := make(chan []wire.Message, 1)
	ended := make(chan struct{}, 2)
	defer func() {
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

	first, err := e.bind()
	if err != nil {
		return err
	}
	calm := false            // an alarm of an earlier session was taken back
	var queue []wire.Message // to be sent; the engine's windows bound it
	queue = append(queue, first...)
	for {
		local := v.outboxGrown()
		more, err := e.pump()
		if err != nil {
			return err
		}
		queue = append(queue, more...)
		done, err := e.inStep()
		if err != nil {
			return err
		}
		switch {
		case done && !live:
			return nil
		case done:
			if !calm {
				if err := v.alarm(nil); err != nil {
					return err
				}
				calm = true
			}
			o.tell(e, StateLive, nil)
		case e.bound && e.size >= e.need:
			o.tell(e, StateUploading, nil)
		default:
			o.tell(e, StateDownloading, nil)
		}
		var send chan<- []wire.Message
		if len(queue) > 0 {
			send = out
		}
		select {
		case send <- queue:
			queue = nil
		case m := <-in:
			if err := e.receive(m); err != nil {
				return err
			}
		case <-local:
			e.drained = false
		case <-v.closed:
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
