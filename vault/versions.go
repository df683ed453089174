package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// Version returns one version of a record with its value, by its place in the
// log (Record.Commit in a history); the zero place is the newest change that is
// not in the log yet. [ErrNotFound] if the record has no such version. The value
// is the caller's. A long one is read into memory whole; OpenVersion does not.
func (n *Namespace) Version(ctx context.Context, name string, id commitlog.ChangeID) (*Record, error) {
	rec, r, err := n.OpenVersion(ctx, name, id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if rec.Value == nil && !rec.Deleted {
		if rec.Value, err = io.ReadAll(contextReader{ctx, r}); err != nil {
			return nil, opError("version", n.name, name, err)
		}
	}
	return rec, nil
}

// OpenVersion returns one version of a record, as Version does, and a reader of
// its value, which the caller closes: see [Namespace.Open]. The value of a
// removal is empty.
func (n *Namespace) OpenVersion(ctx context.Context, name string, id commitlog.ChangeID) (rec *Record, value io.ReadCloser, err error) {
	err = n.lookAt(ctx, name, func(s *state, e *entry) error {
		h, err := s.versionAt(e, id)
		if err != nil {
			return err
		}
		rec = s.toRecord(n.name, nil, h)
		rec.Live = h.local == 0 && slices.Contains(e.live, id)
		switch {
		case h.op == commitlog.OpDelete:
			value = io.NopCloser(bytes.NewReader(nil))
			return nil
		case !h.payload.Understood():
			return ErrNotUnderstood
		}
		value, err = s.value(n.name, h, rec)
		rec.Value = bytes.Clone(rec.Value)
		return err
	})
	if err != nil {
		return nil, nil, opError("version", n.name, name, err)
	}
	return rec, value, nil
}

// Open reads the value of one of the conflict's versions, or of the ancestor. The
// caller closes the reader.
func (c *Conflict) Open(ctx context.Context, r *Record) (io.ReadCloser, error) {
	switch {
	case r.Value != nil || r.Deleted:
		return io.NopCloser(bytes.NewReader(r.Value)), nil
	case c.v == nil:
		return nil, opError("open", c.Namespace, c.Name, fmt.Errorf("%w: the conflict is of no vault", ErrInvalid))
	}
	_, value, err := c.v.Namespace(c.Namespace).OpenVersion(ctx, c.Name, r.Commit)
	return value, err
}

// Revert makes a version of the record its state again, as a new change that
// supersedes all there is: value, content type and times. An expiry that has
// passed is left out. Long values are not read. It is durable on this device
// when Revert returns. Reverting to a removal is [ErrInvalid]; see Delete.
func (n *Namespace) Revert(ctx context.Context, name string, id commitlog.ChangeID, opts ...Option) (Revision, error) {
	rev, err := n.writeAgain(ctx, name, func(s *state, e *entry) (*head, error) { return s.versionAt(e, id) }, opts)
	return rev, opError("revert", n.name, name, err)
}

// Undelete brings back a record that was removed, as it was before, or one that
// has expired, without its expiry. Of several versions that the removal ended,
// it is the one that was shown. A version that was removed before it was sent is
// brought back too, where it was written, for 30 days: see Removed. [ErrCondition] if
// the record is there.
func (n *Namespace) Undelete(ctx context.Context, name string) (Revision, error) {
	// That it is not there is looked at again in the transaction that writes.
	rev, err := n.writeAgain(ctx, name, (*state).deleted, []Option{IfAbsent()})
	return rev, opError("undelete", n.name, name, err)
}

// lookAt calls fn with a record's entry in a read transaction, [ErrNotFound] if
// this device knows nothing of the record.
func (n *Namespace) lookAt(ctx context.Context, name string, fn func(s *state, e *entry) error) error {
	if err := (&change{namespace: n.name, name: name}).check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.v.view(func(s *state) error {
		tag := n.v.keys.tag(n.name)
		e, err := s.find(n.v.keys.recordKey(tag, name))
		if err != nil {
			return err
		}
		if e == nil {
			return s.unknown(tag)
		}
		return fn(s, e)
	})
}

// versionAt returns a record's version at a place in the log, or the newest
// pending one. [ErrNotFound] if the record has none there.
func (s *state) versionAt(e *entry, id commitlog.ChangeID) (*head, error) {
	if id == (commitlog.ChangeID{}) {
		if len(e.pending) == 0 {
			return nil, fmt.Errorf("%w: no version waits to be sent", ErrNotFound)
		}
		p, err := s.pendingChange(e.pending[len(e.pending)-1])
		if err != nil {
			return nil, err
		}
		h, err := s.openPending(p)
		return &h, err
	}
	if !slices.Contains(e.live, id) && s.versions.Get(versionKey(e.key, id)) == nil {
		return nil, s.noVersion(e.key.tag(), id)
	}
	if u, err := s.unreadable(id); err != nil || u != nil {
		return nil, errors.Join(err, ErrNotUnderstood)
	}
	h, err := s.openChange(id)
	switch {
	case err != nil || h != nil:
	case s.missing.Get(changeKey(id)) != nil:
		err = fmt.Errorf("%w: version %v has not come yet, sync first", ErrNotHere, id)
	default:
		err = compacted(id)
	}
	return h, err
}

// noVersion says why no version of a record is known at a place. Whose a change is is
// in its content: where that has been dropped before it came here, nobody can tell.
func (s *state) noVersion(tag keys.Tag, id commitlog.ChangeID) error {
	k, err := s.keeping()
	if err != nil {
		return err
	}
	info, ok, err := s.log.Change(id)
	if err != nil {
		return err
	}
	if ok && info.Tag == tag && !info.Live && k.has(tag) {
		if _, blob, err := s.log.Entry(id); err != nil || blob == nil {
			return errors.Join(err, compacted(id))
		}
	}
	return fmt.Errorf("%w: no version of it at %v", ErrNotFound, id)
}

// compacted is the error for a change whose content is no longer kept.
func compacted(id commitlog.ChangeID) error {
	return fmt.Errorf("%w: %w: that of version %v", ErrNotFound, ErrCompacted, id)
}

// deleted returns what a record that is not there showed last.
func (s *state) deleted(e *entry) (*head, error) {
	heads, err := s.heads(e)
	if err != nil {
		return nil, err
	}
	now := millis(s.v.conf.Now())
	switch {
	case len(heads) > 0 && e.expired(now):
		return &heads[0], nil
	case len(heads) > 0 && e.hidden(now):
		return nil, fmt.Errorf("%w: it is not removed, but hidden until %s", ErrCondition, fromMillis(e.available).UTC().Format("2006-01-02 15:04:05 MST"))
	case len(heads) > 0:
		return nil, fmt.Errorf("%w: it is not removed", ErrCondition)
	}
	ended, err := s.ended(e)
	if err != nil {
		return nil, err
	}
	taken, err := s.taken(e.key)
	if err != nil {
		return nil, err
	}
	if taken != nil && !slices.ContainsFunc(ended, func(h head) bool { return h.payload.HLC > taken.payload.HLC }) {
		return taken, nil
	}
	if len(ended) == 0 {
		return nil, fmt.Errorf("%w: %w: what it held before it was removed", ErrNotFound, ErrCompacted)
	}
	return &ended[0], s.sort(e, ended)
}

// ended returns the versions that a record's newest delete has ended, without
// those that others of them had superseded.
func (s *state) ended(e *entry) (out []head, err error) {
	var named []commitlog.ChangeID
	if n := len(e.pending); n > 0 {
		p, err := s.pendingChange(e.pending[n-1])
		if err != nil {
			return nil, err
		}
		for _, r := range p.refs {
			if r.local == 0 {
				continue
			}
			// It follows up on a put that is not in the log yet.
			q, err := s.pendingChange(r.local)
			if err != nil {
				return nil, err
			}
			h, err := s.openPending(q)
			return []head{h}, err
		}
		named = logged(p.refs)
	} else {
		var last commitlog.ChangeID
		err := s.versions.ScanPrefix(e.key[:], nil, func(k, _ []byte) (bool, error) {
			id := parseChangeKey(k[len(e.key):])
			ch, _, err := s.log.Entry(id)
			if err == nil && ch.Op == commitlog.OpDelete {
				last = id
			}
			return true, err
		})
		if err != nil || last.Commit == 0 {
			return nil, err
		}
		if named, err = s.log.Named(last); err != nil {
			return nil, err
		}
	}
	older := make(map[commitlog.ChangeID]bool)
	for _, id := range named {
		before, err := s.log.Named(id)
		if err != nil {
			return nil, err
		}
		for _, b := range before {
			older[b] = true
		}
	}
	for _, id := range named {
		if older[id] {
			continue
		}
		h, err := s.standing(id)
		if err != nil {
			return nil, err
		}
		if h != nil {
			out = append(out, *h)
		}
	}
	return out, nil
}

// writeAgain writes the content of a version anew, without an expiry that has
// passed.
func (n *Namespace) writeAgain(ctx context.Context, name string, pick func(*state, *entry) (*head, error), opts []Option) (Revision, error) {
	c, err := n.again(ctx, name, pick)
	if err != nil {
		return 0, err
	}
	c.unexpire(n.v.conf.Now())
	for _, o := range opts {
		o(c)
	}
	return n.v.writeAlone(ctx, c)
}

// unexpire leaves out an expiry that has passed at a time.
func (c *change) unexpire(now time.Time) {
	if c.expires <= millis(now) {
		c.expires = 0
	}
}

// again returns a change with the content of a version. A long value stays the
// object that it is, unless the keys have been rotated since: the object is bound
// to its epoch, and is sealed anew then, chunk by chunk.
func (n *Namespace) again(ctx context.Context, name string, pick func(*state, *entry) (*head, error)) (c *change, err error) {
	var stale io.ReadCloser // a long value of an earlier epoch
	err = n.lookAt(ctx, name, func(s *state, e *entry) error {
		h, err := pick(s, e)
		if err != nil {
			return err
		}
		c, stale, err = s.contentOf(n.name, h, false)
		return err
	})
	if stale != nil {
		defer stale.Close()
	}
	if err == nil && stale != nil {
		err = n.v.prepare(ctx, c, stale)
	}
	return c, err
}

// contentOf returns a change with the content of a head, and a reader of its
// value where that has to be sealed anew: where the keys have been rotated, or
// where it is for another record. An object is one record's alone, so that it can
// be forgotten with it.
func (s *state) contentOf(namespace string, h *head, another bool) (*change, io.ReadCloser, error) {
	p := h.payload
	switch {
	case h.op == commitlog.OpDelete:
		return nil, nil, fmt.Errorf("%w: that version is a removal", ErrInvalid)
	case !p.Understood():
		return nil, nil, ErrNotUnderstood
	}
	c := &change{
		namespace: namespace, name: p.Name, value: bytes.Clone(p.Value), contentType: p.ContentType,
		expires: p.Expires, available: p.Available,
	}
	if p.Object == nil {
		return c, nil, nil
	}
	now, err := s.epoch()
	if err != nil {
		return nil, nil, err
	}
	then, err := s.epochOf(h)
	if err != nil {
		return nil, nil, err
	}
	if then != now || another {
		r, err := s.value(namespace, h, &Record{})
		return c, r, err
	}
	c.object, c.objSize = p.Object, seal.ObjectSize(p.Object.Length)
	return c, nil, nil
}

// epochOf returns the epoch that a head is sealed for.
func (s *state) epochOf(h *head) (uint32, error) {
	if h.epoch != 0 {
		return h.epoch, nil
	}
	header, err := s.log.Header(h.id.Commit)
	if err != nil {
		return 0, err
	}
	return be.Uint32(header[2:]), nil
}
