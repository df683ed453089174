package vault

import (
	"errors"
	"slices"

	"github.com/kistvault/kist/commitlog"
)

// An indexer brings the records of one commit's changes up to date. It keeps the
// entries that it changes until all changes are in, so that a record that many
// of them are about is joined and stored once.
type indexer struct {
	s          *state
	superseded map[commitlog.ChangeID]bool // not found in their record yet
	done       *applied
	own        bool // the commit is this device's, whatever the outbox has of it
	entries    map[recordKey]*indexed
	order      []recordKey // of entries
}

// indexed is an entry that is being changed.
type indexed struct {
	*entry
	join    bool // what it shows has to be worked out
	foreign bool // others have changed it
	added   bool // … by a version that is live
	met     bool // … perhaps not knowing of what is here; see meet
}

func (ix *indexer) entry(key recordKey, name string) (*indexed, error) {
	if e := ix.entries[key]; e != nil {
		return e, nil
	}
	e, err := ix.s.record(key)
	if err != nil {
		return nil, err
	}
	if e == nil {
		e = &entry{key: key, name: name}
	}
	if ix.entries == nil {
		ix.entries = make(map[recordKey]*indexed)
	}
	x := &indexed{entry: e}
	ix.entries[key] = x
	ix.order = append(ix.order, key)
	return x, nil
}

// add takes one change. here says that its blob is stored; local is its id in
// the outbox, 0 for another device's.
func (ix *indexer) add(id commitlog.ChangeID, ch *commitlog.Change, o *opened, here bool, local uint64, void bool) error {
	s := ix.s
	gone := ch.Op == commitlog.OpDelete || void
	if !gone {
		if err := s.want(id, ch, here, 0); err != nil {
			return err
		}
		if o.reason != "" {
			if err := errors.Join(s.quarantine.Put(changeKey(id), []byte(o.reason)), s.setUnread(id, o)); err != nil {
				return err
			}
		} else if !here {
			if err := s.await(id, o); err != nil {
				return err
			}
		} else if s.unread.Get(changeKey(id)) != nil {
			if err := s.unread.Delete(changeKey(id)); err != nil {
				return err
			}
		}
	}
	if !o.known {
		return nil
	}
	e, err := ix.entry(o.key, o.name)
	if err != nil {
		return err
	}
	if local != 0 {
		// It may end what it does not name: an answer to what it names.
		more, err := ix.endsMore(local, e.live)
		if err != nil {
			return err
		}
		e.join, e.foreign = e.join || more, e.foreign || more
	}
	if err := s.supersededIn(o.key, e.entry, ix.superseded); err != nil {
		return err
	}
	if gone {
		err = s.version(o.key, id)
	} else if !slices.Contains(e.live, id) {
		e.live = append(e.live, id)
	}
	if err != nil {
		return err
	}
	if local != 0 {
		weight, err := s.sentOff(e.entry, local, id)
		if err != nil {
			return err
		}
		ix.done.ownBytes += weight
	} else {
		e.foreign = true
		e.added = e.added || !gone
	}
	switch {
	case o.name == aboutName: // nobody has written it: it comes with the first record
	case local != 0 || ix.own:
		ix.done.own++
	default:
		ix.done.changes++
	}
	e.clock = max(e.clock, o.clock)
	switch {
	case len(e.live) == 1 && len(e.pending) == 0 && !gone && o.understood && !e.join:
		if local == 0 {
			e.expires, e.available = o.expires, o.available
		}
	default:
		e.join = true
	}
	if o.about != nil {
		return s.learnNamespace(o.key.tag(), o.about)
	}
	return nil
}

// flush stores the entries.
func (ix *indexer) flush() error {
	for _, key := range ix.order {
		e := ix.entries[key]
		if e.join || len(e.live) > 1 {
			if err := ix.s.join(e.entry); err != nil {
				return err
			}
		}
		if e.foreign {
			if err := ix.s.touch(key, e.entry); err != nil {
				return err
			}
			ix.s.fed = true
		}
		if err := ix.s.setRecord(key, e.entry); err != nil {
			return err
		}
		disputed, err := ix.s.dispute(key, e)
		if err != nil {
			return err
		}
		if disputed {
			ix.done.conflicts++
		}
	}
	return nil
}

// unlist deals with superseded changes whose record is not that of the change
// that superseded them, or where that is not known: refs are by place, and
// liveness does not ask for names.
func (ix *indexer) unlist() error {
	s := ix.s
	for id := range ix.superseded {
		key, h, err := s.recordOf(id)
		if err != nil {
			return err
		}
		if key == (recordKey{}) {
			continue // it never came or never opened, and is in no record
		}
		name := ""
		if h != nil {
			name = h.payload.Name
		} else if s.records.Get(key[:]) == nil {
			continue
		}
		e, err := ix.entry(key, name)
		if err != nil {
			return err
		}
		if err := s.supersededIn(key, e.entry, map[commitlog.ChangeID]bool{id: true}); err != nil {
			return err
		}
		e.join, e.foreign = true, true
	}
	return nil
}

// supersededIn moves those of a record's live changes that were superseded into
// its history.
func (s *state) supersededIn(key recordKey, e *entry, superseded map[commitlog.ChangeID]bool) error {
	if len(superseded) == 0 {
		return nil
	}
	for i := 0; i < len(e.live); {
		if !superseded[e.live[i]] {
			i++
			continue
		}
		delete(superseded, e.live[i])
		if err := s.version(key, e.live[i]); err != nil {
			return err
		}
		e.live = slices.Delete(e.live, i, i+1)
	}
	return nil
}

// endsMore reports whether this commit ends a live change of a record that a pending
// change, which is in it, does not name.
func (ix *indexer) endsMore(local uint64, live []commitlog.ChangeID) (bool, error) {
	ended := slices.DeleteFunc(slices.Clone(live), func(id commitlog.ChangeID) bool { return !ix.superseded[id] })
	if len(ended) == 0 {
		return false, nil
	}
	p, err := ix.s.pendingChange(local)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(ended, func(id commitlog.ChangeID) bool {
		return !slices.Contains(p.refs, pendingRef{id: id})
	}), nil
}

// sentOff takes an own change that is in the log now out of the outbox, and
// returns its bytes.
func (s *state) sentOff(e *entry, local uint64, id commitlog.ChangeID) (uint64, error) {
	e.pending = slices.DeleteFunc(e.pending, func(l uint64) bool { return l == local })
	for _, l := range e.pending {
		if err := s.follow(l, local, id); err != nil {
			return 0, err
		}
	}
	p, err := s.pendingChange(local)
	if err != nil {
		return 0, err
	}
	weight := p.weight()
	return weight, s.dropPending(p)
}
