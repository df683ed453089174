package vault

import (
	"context"
	"errors"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// SyncOptions say how Sync and Run go about it. The zero value is usual.
type SyncOptions struct {
	Mode Mode
	// Full compares the whole log with what this device has verified before,
	// and gets again what of it is lost or damaged here. Run does so once, from
	// its first session on until one has come to the end.
	Full bool
	// Progress is told where a sync is, if not nil, in order and from one
	// goroutine; the last time with End set. A sync does not wait for it: of
	// what it is too slow to take, it gets the newest.
	Progress func(Progress)
	// Step, if not nil, is called by the sync's own goroutine between its
	// steps, when no transaction is open: for tests. The sync waits for it.
	Step func()
	// Floor is what a new device knows of the log beforehand: Enrol refuses one
	// that does not reach and contain it, before anything is signed. Nil:
	// nothing.
	Floor *keyfile.Checkpoint
	// Whole has Enrol pull and verify the whole log before the vault is used, in
	// place of beginning with a checkpoint and verifying what is below it later.
	Whole bool
	// Dial opens a session. Nil is that of the vault's Config. s.Connected, if
	// it calls that, tells the listener that sign-in begins.
	Dial func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error)
}

// server turns what is stored of a secondary into what the client dials.
func server(s keyfile.Server) (client.Server, error) {
	b, err := wire.ParseBinding(string(s.Binding))
	return client.Server{URL: s.URL, Key: s.Key, Binding: b}, err
}

func (v *Vault) dial(ctx context.Context, o *SyncOptions, s client.Server, id client.Identity) (client.Messenger, error) {
	if o.Dial != nil {
		return o.Dial(ctx, s, id)
	}
	if v.conf.Dial != nil {
		return v.conf.Dial(ctx, s, id)
	}
	c, err := client.Dial(ctx, s, id)
	if err != nil {
		return nil, err // and not a Messenger that holds a nil *Conn
	}
	return c, nil
}

// connect dials a secondary as this device.
func (v *Vault) connect(ctx context.Context, o *SyncOptions, at keyfile.Server, signingIn func()) (client.Messenger, error) {
	return v.connectAs(client.Device(v.keys.vault, v.keys.device, v.keys.own.Auth))(ctx, o, at, signingIn)
}

// connectAs returns what dials a secondary as somebody.
func (v *Vault) connectAs(id client.Identity) dialer {
	return func(ctx context.Context, o *SyncOptions, at keyfile.Server, signingIn func()) (client.Messenger, error) {
		s, err := server(at)
		if err != nil {
			return nil, err
		}
		s.Connected = signingIn
		return v.dial(ctx, o, s, id)
	}
}

// Sync brings vault and secondary in step, once: it returns when everything that
// the secondary had is here and verified, and everything that was in the outbox
// is in the log. While a [Vault.Run] is going on it does so through Run's
// session, which it makes connect at once; otherwise in one of its own. It does
// not try again: a secondary that cannot be reached is an error at once.
//
// The report is never nil; the error is not nil if anything was left undone, but
// for what the report itself lists (Aside, Quarantine). An error of package
// commitlog is an alarm: the secondary was caught at something no honest one
// does. Nothing was changed by what it sent. It stays, and every sync fails with it,
// until [Vault.TryAgain].
func (v *Vault) Sync(ctx context.Context, o SyncOptions) (*Report, error) {
	if err := v.ready(); err != nil {
		return &Report{}, err
	}
	tell := notify(o.Progress)
	for {
		running, paused, changed := v.running()
		if !running || paused {
			break
		}
		w := &waiter{ctx: ctx, down: true, full: o.Full, once: true, tell: tell}
		if o.Mode != PullOnly {
			var err error
			if w.up, err = v.lastLocal(); err != nil {
				tell.end(err)
				return &Report{}, err
			}
		}
		v.SyncNow()
		if taken, done := v.handOver(w, changed); taken {
			tell.end(done.err)
			return v.summary(done.report, done.err)
		}
	}
	r := &runner{v: v, o: &o, tell: tell}
	err := r.hold(ctx, v.connect, func(own bool) *engine { return &engine{v: v, mode: o.Mode, full: o.Full, own: own} })
	tell.end(err)
	return v.summary(r.total, err)
}

// ready reports what stands in the way of a session of this device.
func (v *Vault) ready() error {
	return v.view(func(s *state) error {
		ok, err := s.enrolled()
		if rebuilding, _ := s.rebuilding(); err == nil && !ok && !rebuilding {
			err = ErrNotEnrolled
		}
		return err
	})
}

// summary completes a report with what it says of the vault.
func (v *Vault) summary(r Report, err error) (*Report, error) {
	verr := v.view(func(s *state) error {
		r.Commits = s.log.Size()
		pending, err := s.pendingSum()
		r.Pending = pending.changes
		var uerr, aerr error
		r.Undecided, uerr = s.undecided()
		r.Aside, r.NoRoom, aerr = s.countAside()
		count := func(n *int) func(k, v []byte) (bool, error) {
			return func(_, _ []byte) (bool, error) { *n++; return true, nil }
		}
		return errors.Join(err, uerr, aerr,
			s.quarantine.Scan(nil, count(&r.Quarantine)),
			s.missing.Scan(nil, count(&r.Missing)),
		)
	})
	return &r, errors.Join(err, verr)
}

// Enrol connects a new device with the vault's secondary: it pulls what is live, or
// the whole log, as the owner, and has the authority admit this device. Where a
// device begins with a checkpoint, later syncs pull and verify the log below that. With an
// invite's token it creates the vault at the secondary, if that does not have
// it; without, an empty log is [commitlog.ErrNoGenesis]. It may be repeated
// until it has gone well; to repeat it is to try again after an alarm.
func (v *Vault) Enrol(ctx context.Context, a keys.Authority, token *wire.Token, o SyncOptions) (*Report, error) {
	if a.Public().VaultID() != v.ID() {
		return &Report{}, commitlog.ErrVaultIDMismatch
	}
	if err := v.TryAgain(ctx); err != nil {
		return &Report{}, err
	}
	id := client.Owner(a)
	if token != nil {
		id = client.NewVault(a, *token)
	}
	r := &runner{v: v, o: &o, tell: notify(o.Progress)}
	err := r.hold(ctx, v.connectAs(id), func(bool) *engine {
		return &engine{v: v, owner: &ownerMode{authority: a, now: v.conf.Now(), create: token != nil, floor: o.Floor, whole: o.Whole}}
	})
	r.tell.end(err)
	return v.summary(r.total, err)
}
