package vault

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A change whose blob is here and cannot be used is in the bucket "unread" for as
// long as it is in the log here, and in "quarantine" while it is live. It counts in
// the log like any other: it is live, and what it names is superseded. Which record
// it is about is said by its blob, or by what it names, if that could be opened:
//
//	ID ‖ index → record key 32 ‖ ID ‖ index of the stand-in
//
// Both are zeros where they are not known. The record shows the stand-in, which is
// the newest version before it that this program understands, marked as such; so
// nothing vanishes that was there. The next edit of the record supersedes the change
// like what else is live. The content of a stand-in is kept as long as the change is
// live: see standsIn.
type unread struct {
	key  recordKey
	show commitlog.ChangeID
}

// understands counts what programs have come to understand of content. A program
// that understands more raises it, and then Open looks at everything in the bucket
// anew.
const understands = 1

// unreadable returns what is kept of a change that cannot be used, nil where it can.
func (s *state) unreadable(id commitlog.ChangeID) (*unread, error) {
	b := s.unread.Get(changeKey(id))
	if b == nil {
		return nil, nil
	}
	if len(b) != 32+10 {
		return nil, fmt.Errorf("%w: entry of what cannot be used", store.ErrDamaged)
	}
	return &unread{key: recordKey(b), show: parseChangeKey(b[32:])}, nil
}

// setUnread notes a change that cannot be used, and completes what is known of it
// with the record that it is about.
func (s *state) setUnread(id commitlog.ChangeID, o *opened) error {
	var u unread
	if o.known {
		u.key = o.key
	}
	named, err := s.log.Named(id)
	if err != nil {
		return err
	}
	var best *head
	for _, n := range named {
		if _, here, err := s.log.Change(n); err != nil {
			return err
		} else if !here {
			continue // the log began at a checkpoint, or is about to, and it was not live there
		}
		key, h, err := s.recordOf(n)
		if err != nil {
			return err
		}
		if u.key == (recordKey{}) {
			u.key = key
		}
		if h != nil && key == u.key && h.op != commitlog.OpDelete && (best == nil || h.compare(best, StrategyTimestamp) > 0) {
			best = h
		}
	}
	if best != nil {
		u.show = best.id
	}
	if !o.known && u.key != (recordKey{}) {
		e, err := s.record(u.key)
		switch {
		case err != nil:
			return err
		case e != nil:
			o.name = e.name
		case best != nil:
			o.name = best.payload.Name
		default:
			u.key = recordKey{}
		}
		o.known, o.key = u.key != (recordKey{}), u.key
	}
	return s.unread.Put(changeKey(id), append(slices.Clone(u.key[:]), changeKey(u.show)...))
}

// standing returns the version that is shown of a change of the log: it itself, its
// stand-in, or nil.
func (s *state) standing(id commitlog.ChangeID) (h *head, err error) {
	u, err := s.unreadable(id)
	switch {
	case err != nil:
		return nil, err
	case u == nil:
		if h, err = s.openChange(id); h != nil && !h.payload.Understood() {
			h = nil // a newer program has used this store
		}
		return h, err
	case u.show == (commitlog.ChangeID{}):
		return nil, nil
	}
	if h, err = s.openChange(u.show); h != nil {
		h.unread = id
	}
	return h, err
}

// recordOf returns the record that a change of the log is about, zeros if that is
// not known here, and what is shown of the change.
func (s *state) recordOf(id commitlog.ChangeID) (key recordKey, h *head, err error) {
	if h, err = s.standing(id); err != nil {
		return key, nil, err
	}
	u, err := s.unreadable(id)
	if u != nil || h == nil || err != nil {
		if u != nil {
			key = u.key
		}
		return key, h, err
	}
	header, err := s.log.Header(id.Commit)
	if err != nil {
		return key, nil, err
	}
	return s.v.keys.recordKey(keys.Tag(header[6:22]), h.payload.Name), h, nil
}

// at returns the change that a head is there for: itself, or the one that cannot
// be used.
func (h *head) at() commitlog.ChangeID {
	if h.unread != (commitlog.ChangeID{}) {
		return h.unread
	}
	return h.id
}

// standsIn reports whether a version of a record is what is shown instead of a live
// change: then its content is to stay.
func (s *state) standsIn(e *entry, id commitlog.ChangeID) (bool, error) {
	for _, live := range e.live {
		u, err := s.unreadable(live)
		if err != nil || u != nil && u.show == id {
			return err == nil, err
		}
	}
	return false, nil
}

// rereadBatch bounds how many changes are looked at in one transaction.
const rereadBatch = 256

// reread tries all that could not be used once more, if this program understands
// more than the one that has tried last.
func (v *Vault) reread() error {
	var tried bool
	err := v.view(func(s *state) error {
		b := s.meta.Get(metaUnderstands)
		tried = len(b) == 1 && b[0] >= understands
		return nil
	})
	var from []byte
	for err == nil && !tried {
		err = v.update(func(s *state) error {
			var batch [][]byte
			add := func(k, _ []byte) (bool, error) {
				batch = append(batch, slices.Clone(k))
				return len(batch) < rereadBatch, nil
			}
			if err := s.unread.Scan(from, add); err != nil {
				return err
			}
			if tried = len(batch) == 0; tried {
				return s.meta.Put(metaUnderstands, []byte{understands})
			}
			for _, k := range batch {
				if err := s.rereadChange(parseChangeKey(k)); err != nil {
					return err
				}
			}
			from = append(batch[len(batch)-1], 0)
			return nil
		})
	}
	return err
}

// rereadChange looks at a change anew.
func (s *state) rereadChange(id commitlog.ChangeID) error {
	before, err := s.unreadable(id)
	if err != nil {
		return err
	}
	raw, err := s.log.Header(id.Commit)
	if err != nil {
		return err
	}
	h, err := commitlog.ParseHeader(raw)
	if err != nil {
		return err
	}
	ch, blob, err := s.log.Entry(id)
	if err != nil || blob == nil {
		return err
	}
	var o opened
	if sealer, err := s.v.keys.sealer(h.Tag, h.Epoch); err != nil {
		o.reason = err.Error()
	} else {
		s.v.openOne(&o, sealer, h.Tag, &ch, bytes.Clone(blob), new(seal.Payload), nil)
	}
	if !s.log.Live(h.Tag, id) {
		if o.reason != "" {
			return s.setUnread(id, &o)
		}
		if before != nil && before.key == (recordKey{}) {
			if err := s.version(o.key, id); err != nil {
				return err
			}
		}
		return s.unread.Delete(changeKey(id))
	}
	if err := s.quarantine.Delete(changeKey(id)); err != nil {
		return err
	}
	ix := &indexer{s: s, done: &applied{}}
	if err := ix.add(id, &ch, &o, true, 0, false); err != nil {
		return err
	}
	for _, e := range ix.entries {
		e.join = true
	}
	return ix.flush()
}

// fillUnread puts what an earlier program has in quarantine into the bucket.
func (s *state) fillUnread() error {
	return s.quarantine.Scan(nil, func(k, _ []byte) (bool, error) {
		return true, s.unread.Put(slices.Clone(k), make([]byte, 32+10))
	})
}
