package vault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
)

// A Resolution is the answer to a conflict: one of Keep, Delete and Value. The
// zero value is no answer.
type Resolution struct {
	Keep   *Record // this version goes on: one of the conflict's, or its ancestor
	Delete bool    // the record is to end
	Value  []byte  // a new value; it may be empty, but not nil

	// Of Value.
	ContentType        string
	Expires, Available time.Time
}

// check returns an error for anything that is not one answer.
func (r *Resolution) check() error {
	n := 0
	for _, is := range []bool{r.Keep != nil, r.Delete, r.Value != nil} {
		if is {
			n++
		}
	}
	switch {
	case n == 0:
		return fmt.Errorf("%w: no answer", ErrInvalid)
	case n > 1:
		return fmt.Errorf("%w: more than one answer", ErrInvalid)
	}
	return nil
}

// Settle ends a record's conflict with a person's answer: an edit that
// supersedes all versions this device knows of. With IfRevision(r.Revision), r
// being one of the versions that the person has seen, it fails with
// [ErrCondition] where the record has changed meanwhile. It is durable on this
// device when Settle returns. Keeping a removal is to remove; an expiry that has
// passed is not kept.
func (n *Namespace) Settle(ctx context.Context, name string, answer Resolution, opts ...Option) (rev Revision, err error) {
	c, err := n.answer(ctx, name, answer)
	if err == nil {
		if answer.Keep != nil {
			c.unexpire(n.v.conf.Now())
		}
		c.cond.expired = true
		for _, o := range opts {
			o(c)
		}
		rev, err = n.v.writeAlone(ctx, c)
	}
	return rev, opError("settle", n.name, name, err)
}

// answer returns the change that writes a resolution.
func (n *Namespace) answer(ctx context.Context, name string, a Resolution) (*change, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	c := &change{namespace: n.name, name: name}
	switch {
	case a.Delete || a.Keep != nil && a.Keep.Deleted:
		c.delete = true
		return c, c.check()
	case a.Keep != nil:
		return n.again(ctx, name, func(s *state, e *entry) (*head, error) { return s.seen(e, a.Keep) })
	}
	c.contentType, c.expires, c.available = a.ContentType, millis(a.Expires), millis(a.Available)
	return c, n.v.prepare(ctx, c, bytes.NewReader(a.Value))
}

// seen returns the version of a record that somebody has seen as r. One that was
// not sent then may be in the log by now.
func (s *state) seen(e *entry, r *Record) (*head, error) {
	if r.Commit != (commitlog.ChangeID{}) {
		return s.versionAt(e, r.Commit)
	}
	heads, err := s.heads(e)
	if err != nil {
		return nil, err
	}
	for i, h := range heads {
		if h.device == s.v.keys.device && h.payload.HLC == r.clock {
			return &heads[i], nil
		}
	}
	return nil, fmt.Errorf("%w: another version has taken the place of that one", ErrNotFound)
}

// SettleBoth ends a record's conflict by keeping all versions: the one shown
// under the record's name, each other one under a name of its own, which says
// the device and the day (UTC) it was written: "name (device, 2026-11-20)". It
// returns these names. Removals are left out, and an expiry that has passed. Long
// values have to be here, see [Namespace.Fetch]. All of it is one transaction,
// durable on this device when SettleBoth returns. [ErrCondition] if there is no
// conflict, or, with IfRevision, if the record has changed meanwhile.
func (n *Namespace) SettleBoth(ctx context.Context, name string, opts ...Option) (names []string, err error) {
	changes, names, err := n.apart(ctx, name)
	if err == nil {
		for _, o := range opts {
			o(changes[0])
		}
		err = n.v.update(func(s *state) error {
			var t txn
			for _, c := range changes {
				if _, err := s.write(&t, c); err != nil {
					return err
				}
			}
			if t.bytes > commitlog.MaxCommitBytes-reserve {
				return fmt.Errorf("%w: the versions together have more than %d MiB", ErrTooLarge, commitlog.MaxCommitBytes>>20)
			}
			return s.end(&t)
		})
	}
	if err != nil {
		return nil, opError("settle", n.name, name, err)
	}
	return names, nil
}

// apart returns the changes that put each version of a record under a name of its
// own, that of the version shown first, and the names of the others. What the
// record must not have become meanwhile is in their conditions.
func (n *Namespace) apart(ctx context.Context, name string) (changes []*change, names []string, err error) {
	var stale []io.ReadCloser // by change; nil: nothing has to be sealed anew
	defer func() {
		for _, r := range stale {
			if r != nil {
				r.Close()
			}
		}
	}()
	err = n.lookAt(ctx, name, func(s *state, e *entry) error {
		heads, err := s.heads(e)
		if err != nil {
			return err
		}
		heads = distinct(heads)
		if len(heads) < 2 {
			return fmt.Errorf("%w: it has one version", ErrCondition)
		}
		given := make(map[string]bool)
		taken := func(name string) (bool, error) {
			if given[name] {
				return true, nil
			}
			other, err := s.record(n.v.keys.recordKey(e.key.tag(), name))
			if err != nil || other == nil {
				return false, err
			}
			return s.shown(other)
		}
		for i := range heads {
			c, r, err := s.contentOf(n.name, &heads[i], i > 0)
			if err != nil {
				return err
			}
			c.unexpire(n.v.conf.Now())
			changes, stale = append(changes, c), append(stale, r)
			if i == 0 {
				c.cond = condition{revision: e.rev, expired: true}
				continue
			}
			c.cond.absent = true
			if c.name, err = secondName(name, s.toRecord(n.name, e, &heads[i]), taken, seal.MaxName); err != nil {
				return err
			}
			given[c.name] = true
			names = append(names, c.name)
		}
		return nil
	})
	for i, r := range stale {
		if err == nil && r != nil {
			err = n.v.prepare(ctx, changes[i], r)
		}
	}
	return changes, names, err
}
