package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
)

// due returns those of a page of conflicts that are to be answered now, and when
// the next of the others is. Where that is not decided yet, it is here.
func (v *Vault) due(page []recordKey, now time.Time) (due []recordKey, next time.Time, err error) {
	if len(page) == 0 {
		return nil, next, nil
	}
	err = v.update(func(s *state) error {
		due, next = nil, time.Time{}
		for _, key := range page {
			c, author, err := s.answerable(key)
			if err != nil {
				return err
			}
			if c == nil {
				continue
			}
			if c.due == 0 || c.due > millis(now.Add(leftAfter)) { // or the clock was set back
				c.due = millis(answerDue(now, author, v.resolvers.rand))
				if err := s.conflicts.Put(slices.Clone(key[:]), c.encode()); err != nil {
					return err
				}
			}
			if c.due <= millis(now) {
				due = append(due, key)
			} else {
				next = earlier(next, fromMillis(c.due))
			}
		}
		return nil
	})
	return due, next, err
}

// answerable returns the state of a conflict that a resolver can be asked about,
// nil if it cannot, and whether this device is the author of its newest version.
func (s *state) answerable(key recordKey) (c *conflictState, author bool, err error) {
	b := s.conflicts.Get(key[:])
	if b == nil {
		return nil, false, nil
	}
	if c, err = parseConflictState(b); err != nil || !c.differ {
		return nil, false, err
	}
	e, err := s.record(key)
	if err != nil || e == nil || len(e.pending) > 0 {
		return nil, false, err
	}
	heads, err := s.heads(e)
	if err != nil || len(heads) != len(e.live) {
		return nil, false, err
	}
	var newest head
	for _, h := range heads {
		if h.unread != (commitlog.ChangeID{}) {
			return nil, false, nil // it would be superseded unseen
		}
		if h.id.Compare(newest.id) > 0 {
			newest = h
		}
	}
	return c, newest.device == s.v.keys.device, nil
}

// errStale: the record, or its resolver, is no longer the one that was asked.
var errStale = errors.New("it has changed meanwhile")

// answer asks the resolver about one conflict and writes what it says. It returns
// when it is to be asked again, if it has failed.
func (v *Vault) answer(ctx context.Context, namespace string, key recordKey) (again time.Time, err error) {
	var asked []commitlog.ChangeID
	var c *Conflict
	err = v.view(func(s *state) error {
		asked, c = nil, nil
		if st, _, err := s.answerable(key); st == nil || err != nil {
			return err
		}
		e, err := s.record(key)
		if err != nil {
			return err
		}
		asked = e.live
		c, err = s.conflict(e, false)
		return err
	})
	if err != nil || c == nil {
		return again, err
	}
	n := v.Namespace(namespace)
	a, err := v.resolvers.ask(ctx, namespace, *c)
	var ch *change
	if err == nil && !a.none() {
		ch, err = n.answer(ctx, c.Name, a)
	}
	switch {
	case errors.Is(err, errStale):
		return again, nil
	case err == nil && ch == nil:
		again = v.conf.Now().Add(leftAfter)
		return again, v.postpone(key, asked, millis(again), 0)
	case err == nil:
		if !ch.delete {
			ch.restate = true
		}
		err = v.writeAnswer(key, asked, ch)
		if errors.Is(err, errStale) {
			return again, nil // what has come will be looked at by itself
		}
		return again, err
	case ctx.Err() != nil:
		return again, ctx.Err()
	}
	v.conf.Logger.Warn("a resolver failed", "panic", errors.Is(err, errPanic), "timeout", errors.Is(err, context.DeadlineExceeded))
	v.resolvers.fail(key, fmt.Errorf("%w: %w", ErrResolver, err))
	again = answerDue(v.conf.Now(), false, v.resolvers.rand)
	return again, v.postpone(key, asked, millis(again), raisedResolver)
}

func (r *Resolution) none() bool { return r.Keep == nil && !r.Delete && r.Value == nil }

// writeAnswer writes a resolver's answer, if the record has still the versions
// that it was asked about.
func (v *Vault) writeAnswer(key recordKey, asked []commitlog.ChangeID, ch *change) error {
	return v.update(func(s *state) error {
		e, err := s.record(key)
		if err != nil {
			return err
		}
		if e == nil || len(e.pending) > 0 || liveSet(e.live) != liveSet(asked) {
			return errStale
		}
		_, err = s.write(&txn{alone: true}, ch)
		return err
	})
}

// postpone sets when a conflict is to be answered, and tells the listener why.
func (v *Vault) postpone(key recordKey, asked []commitlog.ChangeID, due uint64, why byte) error {
	return v.update(func(s *state) error {
		b := s.conflicts.Get(key[:])
		if b == nil {
			return nil
		}
		c, err := parseConflictState(b)
		if err != nil || c.set != liveSet(asked) {
			return err
		}
		c.due = due
		if err := s.conflicts.Put(slices.Clone(key[:]), c.encode()); err != nil || why == 0 {
			return err
		}
		return s.raise(key, why)
	})
}
