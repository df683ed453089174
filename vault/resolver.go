package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Resolver answers a conflict: given all siblings and the ancestor that they
// have in common, it says what the record is to be. Conflict.Versions has the
// siblings alone.
//
// It is a function of its argument alone, whatever the order of the siblings:
// the same on every device, at every time, without I/O other than Conflict.Open.
// [github.com/kistvault/kist/vault/vaulttest.CheckResolver] looks whether it is.
// It must not change its argument, must stop when ctx ends, and must not use the
// vault. The zero Resolution leaves the siblings as they are, for a person to
// settle.
type Resolver func(ctx context.Context, c Conflict) (Resolution, error)

// SetResolver has conflicts in the namespace answered by r, while the vault is
// open and the namespace's strategy is [StrategyResolver]; nil: no more. The
// answer is written as an automatic change, which gives way to every edit that
// did not know of it.
//
// Answers are given from when a sync has come in step, in a goroutine of the vault,
// so that a slow resolver holds up nothing. So that devices do not all answer
// the same, the author of the newest version answers at once and the others
// after one to ten minutes, if there is still need. A record of which a change
// is not sent yet, or a version is not here or not understood, has to wait. Where
// r fails, panics or takes more than 10 seconds, the siblings stay, Config.Conflict
// is told, and r is asked again after one to ten minutes.
func (v *Vault) SetResolver(namespace string, r Resolver) {
	v.resolvers.set(namespace, r)
	v.resolvers.disputed.Store(true)
}

const (
	resolverTimeout = 10 * time.Second
	answerAfter     = time.Minute     // at least, by other devices than the author's
	answerWithin    = 9 * time.Minute // … and so much more, at random
	leftAfter       = 24 * time.Hour  // what a resolver leaves to people it is asked about again
	resolverPage    = 64              // conflicts looked at in one transaction
)

// answerDue says when this device answers a conflict that it sees at now: at
// once if it is the author of the newest version, else after a random time.
func answerDue(now time.Time, author bool, random func(n int64) int64) time.Time {
	if author {
		return now
	}
	return now.Add(answerAfter + time.Duration(random(int64(answerWithin))))
}

// resolvers are the resolvers that were set, and who runs them.
type resolvers struct {
	disputed atomic.Bool // there are conflicts that were not looked at

	mu       sync.Mutex
	by       map[string]*setResolver
	failures map[recordKey]error // why the last answer failed; at most maxFailures
	random   func(n int64) int64 // nil: rand.Int64N
	work     chan struct{}       // nil: the worker was not started
}

// A setResolver is a resolver, and whether a call of it has not returned yet.
type setResolver struct {
	resolve Resolver
	busy    bool
}

// maxFailures bounds how many errors are kept for the listener.
const maxFailures = 256

func (r *resolvers) set(namespace string, fn Resolver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fn == nil {
		delete(r.by, namespace)
		return
	}
	if r.by == nil {
		r.by = make(map[string]*setResolver)
	}
	r.by[namespace] = &setResolver{resolve: fn}
}

// names returns the namespaces that have a resolver.
func (r *resolvers) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for name := range r.by {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (r *resolvers) rand(n int64) int64 {
	if r.random != nil {
		return r.random(n)
	}
	return rand.Int64N(n)
}

func (r *resolvers) failure(key recordKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.failures[key]; err != nil {
		delete(r.failures, key)
		return err
	}
	return ErrResolver
}

func (r *resolvers) fail(key recordKey, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures == nil {
		r.failures = make(map[recordKey]error)
	}
	if len(r.failures) < maxFailures {
		r.failures[key] = err
	}
}

// resolveSoon has the resolvers look at what has come to be disputed. A session
// calls it whenever it is in step: while it is not, a conflict may have been
// settled in the log already. It does not wait, and does nothing where there is
// nothing to do.
func (v *Vault) resolveSoon() {
	r := &v.resolvers
	if !r.disputed.Load() || len(r.names()) == 0 || !r.disputed.Swap(false) {
		return
	}
	r.mu.Lock()
	if r.work == nil {
		r.work = make(chan struct{}, 1)
		go v.resolveAll(r.work)
	}
	work := r.work
	r.mu.Unlock()
	select {
	case work <- struct{}{}:
	default:
	}
}

// resolveAll runs the resolvers when there is something to answer, until the
// vault is closed.
func (v *Vault) resolveAll(work <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-v.closed
		cancel()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-work:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := v.conf.Now()
		next, err := v.resolveDue(ctx, now)
		if err != nil && ctx.Err() == nil {
			v.conf.Logger.Warn("conflicts were not answered", "err", err)
			next = now.Add(answerAfter)
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(max(next.Sub(v.conf.Now()), 0))
		}
	}
}

// resolveDue answers the conflicts that are due at a time, one after the other,
// and returns when the next one is due; zero: none is waiting.
func (v *Vault) resolveDue(ctx context.Context, now time.Time) (next time.Time, err error) {
	for _, namespace := range v.resolvers.names() {
		tag := v.keys.tag(namespace)
		var st Strategy
		if err := v.view(func(s *state) (err error) { st, err = s.strategy(tag); return err }); err != nil {
			return next, err
		}
		var from []byte
		for st == StrategyResolver {
			page, err := v.disputed(tag[:], from, resolverPage)
			if err != nil {
				return next, err
			}
			due, soonest, err := v.due(page, now)
			if err != nil {
				return next, err
			}
			for _, key := range due {
				if err := ctx.Err(); err != nil {
					return next, err
				}
				at, err := v.answer(ctx, namespace, key)
				if err != nil {
					return next, err
				}
				soonest = earlier(soonest, at)
			}
			next = earlier(next, soonest)
			if len(page) < resolverPage {
				break
			}
			from = append(page[len(page)-1][:], 0)
		}
	}
	return next, nil
}

// earlier returns the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// errPanic: a resolver panicked.
var errPanic = errors.New("panic")

// ask calls the resolver of a namespace under a time limit. One that does not
// come back is left behind, and not called again before it has.
func (r *resolvers) ask(ctx context.Context, namespace string, c Conflict) (Resolution, error) {
	r.mu.Lock()
	set := r.by[namespace]
	if set == nil {
		r.mu.Unlock()
		return Resolution{}, errStale
	}
	if set.busy {
		r.mu.Unlock()
		return Resolution{}, fmt.Errorf("an earlier call has not returned: %w", context.DeadlineExceeded)
	}
	set.busy = true
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, resolverTimeout)
	defer cancel()
	type result struct {
		a   Resolution
		err error
	}
	done := make(chan result, 1)
	go func() {
		var out result
		defer func() {
			if p := recover(); p != nil {
				out.err = fmt.Errorf("%w: %v", errPanic, p)
			}
			r.mu.Lock()
			set.busy = false
			r.mu.Unlock()
			done <- out
		}()
		out.a, out.err = set.resolve(ctx, c)
	}()
	select {
	case out := <-done:
		return out.a, out.err
	case <-ctx.Done():
		return Resolution{}, ctx.Err()
	}
}
