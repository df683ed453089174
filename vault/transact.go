package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Transact runs fn in a transaction on one namespace that is serialised through
// the secondary: what fn reads is the namespace as it is at the end of the log,
// and what it writes comes into the log directly there, as one commit, or not at
// all. So of two devices that book the same room for the same night exactly one
// succeeds. Where another device was faster, fn runs again, on what that one
// wrote; it should have no effect but through tx, and must use no other method of
// the vault.
//
// It returns nil when the commit is in the verified log, and durable here. Until
// then no other method shows anything of it. A transaction that wrote nothing
// sends nothing: nil says that fn ran on all that was in the log at the call. An
// error of fn is returned as it is, and nothing was sent. Beyond that:
//
//   - [ErrOffline]: the secondary cannot be reached. Nothing was written.
//   - [ErrContention]: others were faster, 32 times. Nothing was written.
//   - [ErrOutcomeUnknown]: the connection was lost or the context ended after the
//     commit was sent, or the secondary refused it and the log does not show yet
//     that it is not there. The commit may be in the log, or come into it; fn is
//     not run again for it. It is kept, over a restart too, and unless it was
//     refused the next sync sends it again as it is: then it comes into the log at
//     its place, or never will. One that was refused comes to be decided by
//     whatever is written next, on any device. [Status].Undecided says whether
//     such a commit is left.
//
// Changes of the namespace that this device wrote before the call and that are
// not in the log yet go up first, so that fn sees them. Those written while it
// runs are not seen by it: on the same record they are concurrent edits, and so
// are changes that the secondary refuses ([Status].Aside).
//
// Transactions of one vault run one after the other. Transact needs no [Vault.Run];
// where one runs, it goes along with its session. While a transaction is being
// decided, no other change of this device goes up. The namespace has to be
// selected, or it fails with [ErrNotSelected]. Limits are those of
// [Vault.Update]; the revisions that tx.Put returns mean nothing afterwards.
func (v *Vault) Transact(ctx context.Context, namespace string, fn func(tx *Tx) error) error {
	const op = "transact"
	if err := keys.ValidNamespace(namespace); err != nil {
		return opError(op, namespace, "", fmt.Errorf("%w: %v", ErrInvalid, err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return ctx.Err()
	case <-v.closed:
		return opError(op, namespace, "", ErrClosed)
	}
	t := &transaction{v: v, ctx: ctx, namespace: namespace, tag: v.keys.tag(namespace), fn: fn}
	err := v.ready()
	if err == nil {
		err = v.view(func(s *state) error { t.before = s.outbox.Sequence(); return nil })
	}
	if err == nil {
		err = t.run()
	}
	if t.ownError {
		return err
	}
	return opError(op, namespace, "", err)
}

const (
	maxRuns     = 32                     // of fn
	maxSessions = 6                      // that are lost
	minJitter   = 5 * time.Millisecond   // before another run: a random part of this, doubled each time …
	maxJitter   = 500 * time.Millisecond // … up to this
	minAgain    = 50 * time.Millisecond  // before another session, likewise
	maxAgain    = 2 * time.Second
)

// A transaction is a call of Transact.
type transaction struct {
	v         *Vault
	ctx       context.Context
	namespace string
	tag       keys.Tag
	fn        func(*Tx) error
	before    uint64  // newest local id at the call: what is unsent up to it goes up first
	errand    *errand // its own session; nil: there is none
	served    bool    // there was a session for what it waited for last

	seq, seen uint64 // of the attempt that is not decided; 0: none
	runs      int    // of fn that led to an attempt

	over bool // nothing is held any more; guarded by v.changedMu

	ended    bool
	err      error // final, if ended
	ownError bool  // it is fn's own
}

// run brings the transaction to an end, over as many sessions as it needs.
func (t *transaction) run() error {
	defer t.leave()
	defer t.finish()
	for lost := 1; ; lost++ {
		var err error
		for err == nil && !t.ended {
			if t.seq == 0 {
				err = t.attempt()
			} else {
				err = t.decide()
			}
		}
		if t.ended {
			return t.err
		}
		t.setHold(false) // without a session: another may have to come to its end first
		wait, again := retry(err)
		others := false // the session was somebody else's, who ended it
		for _, ended := range []error{errPaused, ErrStopped, wire.ErrReplaced, context.Canceled} {
			others = others || errors.Is(err, ended)
		}
		switch {
		case t.ctx.Err() != nil:
			return t.interrupted(t.ctx.Err(), nil)
		case !again && !others:
			return t.interrupted(err, nil)
		case lost == maxSessions, !t.served && t.seq == 0 && !others, wait > maxAgain:
			return t.interrupted(err, ErrOffline)
		}
		t.pause(max(wait, jitter(minAgain, maxAgain, lost)))
	}
}

// jitter returns a random time up to least, doubled n times, and at most most.
func jitter(least, most time.Duration, n int) time.Duration {
	return rand.N(min(least<<min(n, 16), most)) + 1
}

func (t *transaction) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	case <-t.v.closed:
	}
}

// interrupted returns what is to be said where no session decides the attempt: as
// says what err means if nothing was written, nil: itself.
func (t *transaction) interrupted(err, as error) error {
	f, ferr := fatePassed, error(nil)
	if t.seq != 0 {
		f, ferr = t.fate()
	}
	switch {
	case ferr == nil && f == fateTaken:
		return nil
	case ferr != nil || f != fatePassed:
		as = ErrOutcomeUnknown
	}
	if as == nil {
		return err
	}
	return fmt.Errorf("%w: %w", as, err)
}

// end ends the transaction.
func (t *transaction) end(err error) error {
	t.ended, t.err = true, err
	return nil
}

// await waits, while there is a session, until all is here that was in the log
// when it was asked, if head, and until reports true.
func (t *transaction) await(head bool, until func(s *state) (bool, error)) error {
	w := &waiter{ctx: t.ctx, down: head, until: until, once: true}
	err := t.drive(w)
	t.served = w.served.Load()
	return err
}

func (t *transaction) fate() (f fate, err error) {
	err = t.v.view(func(s *state) (err error) { f, err = s.fate(t.seq, t.seen); return err })
	return f, err
}

// decide waits until the attempt is decided.
func (t *transaction) decide() error {
	err := t.await(true, func(s *state) (bool, error) {
		f, err := s.fate(t.seq, t.seen)
		return f != fateSent, err
	})
	if err != nil {
		return err
	}
	f, err := t.fate()
	if err == nil && f == fateRefused {
		// If it was for its place, the log is longer; else the word of the
		// secondary is all there is.
		if err = t.await(true, nil); err == nil {
			f, err = t.fate()
		}
	}
	if err != nil {
		return err
	}
	switch {
	case f == fateTaken:
		return t.end(nil)
	case f == fateLost:
		return t.end(fmt.Errorf("%w: the vault's history was reset by its owner", ErrOutcomeUnknown))
	case f == fateRefused:
		err := errors.New("the secondary refused it")
		if w := t.v.why.Load(); w != nil && w.seq == t.seq {
			err = w.err
		}
		return t.end(fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
	case t.runs == maxRuns:
		return t.end(ErrContention)
	}
	t.seq = 0
	t.pause(jitter(minJitter, maxJitter, t.runs))
	return t.ctx.Err()
}

// ready reports whether fn may run: what this device wrote before is in the log,
// the content of the namespace is here, and nothing is under way.
func (t *transaction) ready(s *state) (bool, error) {
	waits := false
	err := s.unsent.ScanPrefix(t.tag[:], nil, func(k, _ []byte) (bool, error) {
		waits = be.Uint64(k[16:]) <= t.v.localNow(t.before)
		return false, nil
	})
	if err == nil && !waits {
		waits, err = s.incomplete(t.tag)
	}
	// From here on nothing else is signed, so that its turn comes.
	t.setHold(err == nil && !waits)
	return !waits && s.sent.Empty(), err
}

// incomplete reports whether content of the namespace is still to come.
func (s *state) incomplete(tag keys.Tag) (yes bool, err error) {
	if s.meta.Get(metaSweep) != nil {
		return true, nil
	}
	err = s.missing.Scan(nil, func(k, what []byte) (bool, error) {
		header, err := s.log.Header(commitlog.CommitID(be.Uint64(k)))
		yes = err == nil && what[0]&wantBlob != 0 && keys.Tag(header[6:22]) == tag
		return !yes, err
	})
	return yes, err
}

// errRollback rolls back the store's transaction in which fn has run.
var errRollback = errors.New("rolled back")

// attempt runs fn at the end of the log, and keeps the commit that comes of it,
// to be sent.
func (t *transaction) attempt() error {
	head := true
	for kept := false; !kept; head = false { // something may come between
		if err := t.await(head, t.ready); err != nil {
			return err
		}
		b, err := t.sign()
		if err != nil || t.ended {
			return err
		}
		if b == nil {
			continue
		}
		err = t.v.update(func(s *state) (err error) {
			kept, err = s.keepAttempt(b)
			return err
		})
		if err != nil && kept { // by a store that cannot say whether it is durable
			return t.end(fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
		}
		if err != nil {
			return err
		}
		if kept {
			t.seq, t.seen = b.Commit.Header.Seq, b.Commit.Header.SeenSize
			t.runs++
		}
	}
	return nil
}

// sign runs fn and signs what it wrote. It returns nil if that ends the
// transaction, or if the end of the log has come to be another since it was
// waited for: fn must not take for absent what has not come yet.
func (t *transaction) sign() (b *commitlog.Bundle, err error) {
	var own, failed error
	ready := false
	err = t.v.update(func(s *state) (err error) {
		b, own, failed = nil, nil, nil
		if ready, err = t.ready(s); err != nil {
			return err
		} else if !ready {
			return errRollback
		}
		if err := s.unknown(t.tag); !errors.Is(err, ErrNotFound) {
			failed = err // not selected
			return errRollback
		}
		tx := &Tx{s: s, namespace: t.namespace, ctx: t.ctx, logged: make(map[recordKey]bool)}
		if own = t.fn(tx); own != nil {
			return errRollback
		}
		if failed = tx.broken; failed == nil {
			b, failed = s.signAttempt(&tx.txn)
		}
		return errRollback
	})
	switch {
	case !errors.Is(err, errRollback):
		return nil, err
	case !ready:
		return nil, nil
	case own != nil:
		t.ownError = true
		return nil, t.end(own)
	case failed != nil || b == nil:
		return nil, t.end(failed)
	}
	return b, nil
}
