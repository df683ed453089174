package vault

import (
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A sweep carries out a changed selection: it goes once over all changes of the
// log and puts those whose content is to come on the list of what is missing,
// and forgets the content of the others. Its place is kept under the key "sweep"
// of the bucket meta, so that it goes on after an interruption, and it waits
// whenever there is something on the list, so that the list stays short.
//
// Content comes back for live changes only: versions that were superseded before
// a namespace was selected are not in a record's history here.

// logStart is the first change of the log.
var logStart = commitlog.ChangeID{Commit: 1}

const (
	sweepLook  = 4096 // changes looked at in one transaction …
	sweepTouch = 512  // … and changed
)

// setSweep stores the change that the sweep looks at next.
func (s *state) setSweep(at commitlog.ChangeID) error {
	return s.meta.Put(metaSweep, changeKey(at))
}

// sweep goes on with the sweep, and reports whether there is more to do. It adds
// to forgot how many changes lost their content here.
func (s *state) sweep(forgot *int) (more bool, err error) {
	place := s.meta.Get(metaSweep)
	if place == nil {
		return false, nil
	}
	at := parseChangeKey(place)
	k, err := s.keeping()
	if err != nil {
		return false, err
	}
	looked, touched := 0, 0
	at, more, err = s.walk(at, func(tag keys.Tag, id commitlog.ChangeID) (bool, error) {
		var did bool
		var err error
		if k.has(tag) {
			did, err = s.keepContent(k, tag, id)
		} else if did, err = s.forgetContent(tag, id); did {
			*forgot++
		}
		if did {
			touched++
		}
		looked++
		return looked < sweepLook && touched < sweepTouch, err
	})
	switch {
	case err != nil:
		return false, err
	case !more:
		return false, s.meta.Delete(metaSweep)
	}
	return true, s.setSweep(at)
}

// walk calls fn with the changes of the log from a place on, those of control
// commits left out, until fn says that it is enough. It returns where to go on,
// and whether there is more.
func (s *state) walk(at commitlog.ChangeID, fn func(tag keys.Tag, id commitlog.ChangeID) (more bool, err error)) (next commitlog.ChangeID, more bool, err error) {
	for more = true; ; at.Index++ {
		var any bool
		if at, any = s.log.ChangeFrom(at); !any || !more { // fn may write, so that there is no scan to go on with
			return at, any, nil
		}
		header, err := s.log.Header(at.Commit)
		if err != nil {
			return at, false, err
		}
		if commitlog.Kind(header[1]) == commitlog.KindControl {
			at.Index = be.Uint16(header[118:]) - 1
			continue
		}
		if more, err = fn(keys.Tag(header[6:22]), at); err != nil {
			return at, false, err
		}
	}
}

// keepContent sees to it that what the selection keeps of a change comes, and
// that no more is here. It reports whether there was anything to do.
func (s *state) keepContent(k *keeping, tag keys.Tag, id commitlog.ChangeID) (did bool, err error) {
	ch, blob, err := s.log.Entry(id)
	if err != nil || blob != nil && !ch.HasObject() {
		return false, err
	}
	if blob != nil {
		keep, err := s.keepsObject(k, tag, id)
		if err != nil {
			return false, err
		}
		if !keep {
			return s.forgetObject(tag, id, &ch)
		}
	}
	if !s.log.Live(tag, id) {
		return false, nil
	}
	if err := s.want(id, &ch, blob != nil, 0); err != nil {
		return false, err
	}
	return s.missing.Get(changeKey(id)) != nil, nil
}

// keepsObject reports whether the selection keeps the object of a change, whose
// blob is here: the name is in it.
func (s *state) keepsObject(k *keeping, tag keys.Tag, id commitlog.ChangeID) (bool, error) {
	if !k.filtered(tag) {
		return true, nil
	}
	h, err := s.openChange(id)
	if err != nil || h == nil || h.payload.Object == nil {
		return false, err // it is in quarantine
	}
	return k.long(tag, h.payload.Name, h.payload.Object.Length), nil
}

// forgetContent forgets blob and object of a change, and takes it out of the
// index: the record goes with its last one. A live change whose record has a
// change in the outbox stays until that is in the log. It reports whether there
// was anything to do.
func (s *state) forgetContent(tag keys.Tag, id commitlog.ChangeID) (did bool, err error) {
	if err := s.settle(id); err != nil {
		return false, err
	}
	ch, blob, err := s.log.Entry(id)
	if err != nil || blob == nil {
		return false, err
	}
	key, _, err := s.recordOf(id)
	if err != nil {
		return false, err
	}
	if key != (recordKey{}) {
		kept, err := s.unindex(key, id)
		if err != nil || kept {
			return false, err
		}
	}
	if s.unread.Get(changeKey(id)) != nil {
		if err := s.unread.Delete(changeKey(id)); err != nil {
			return false, err
		}
	}
	if _, err := s.forgetObject(tag, id, &ch); err != nil {
		return false, err
	}
	return true, s.log.DropBlob(id)
}

// unindex takes a change out of its record's entry, and the entry out of the
// index when nothing is left in it; that is no event. It does not where the
// change is live and the record has a pending one, and reports so.
func (s *state) unindex(key recordKey, id commitlog.ChangeID) (kept bool, err error) {
	if err := s.versions.Delete(versionKey(key, id)); err != nil {
		return false, err
	}
	e, err := s.record(key)
	if err != nil || e == nil {
		return false, err
	}
	i := slices.Index(e.live, id)
	switch {
	case len(e.pending) > 0:
		return i >= 0, nil
	case i >= 0:
		e.live = slices.Delete(e.live, i, i+1)
	}
	if len(e.live) > 0 {
		if i < 0 {
			return false, nil
		}
		if err := s.join(e); err != nil {
			return false, err
		}
		return false, s.setRecord(key, e)
	}
	if err := s.feed.Delete(localKey(uint64(e.rev))); err != nil {
		return false, err
	}
	return false, s.dropRecord(key, e)
}

// forgetObject removes the object of a change, whole or not, once this is
// durable, unless a change in the outbox has it, too. It reports whether there
// was one.
func (s *state) forgetObject(tag keys.Tag, id commitlog.ChangeID, ch *commitlog.Change) (did bool, err error) {
	if !ch.HasObject() {
		return false, nil
	}
	if s.missing.Get(changeKey(id)) != nil {
		if err := s.missing.Delete(changeKey(id)); err != nil {
			return false, err
		}
	}
	have, whole, err := s.v.objects.Have(ch.ObjectHash)
	if err != nil || have == 0 && !whole {
		return false, err
	}
	h, err := s.openChange(id)
	if err != nil {
		return false, err
	}
	if h != nil {
		e, err := s.record(s.v.keys.recordKey(tag, h.payload.Name))
		if err != nil {
			return false, err
		}
		for i := 0; e != nil && i < len(e.pending); i++ {
			if p, err := s.pendingChange(e.pending[i]); err == nil && p.object == ch.ObjectHash {
				return false, nil
			}
		}
	}
	s.gone = append(s.gone, ch.ObjectHash)
	return true, nil
}

// leaveOut takes out of a commit of a namespace that is not kept what this
// device did not write itself. Its own changes stay, since the next ones of
// the record have to supersede them, until others supersede them.
func (in *incoming) leaveOut() {
	for i := range in.opened {
		if in.locals == nil || in.locals[i] == 0 {
			in.bundle.Blobs[i], in.opened[i] = nil, opened{}
		}
	}
}

// forgetDead forgets, in a namespace that is not kept, the changes that a commit
// ended, and its own that end something. Where it was the last that the outbox had
// of a record, others' versions, which had to stay for it, go too.
func (s *state) forgetDead(in *incoming, eff *commitlog.Effects) error {
	c := in.bundle.Commit
	dead := slices.Clone(eff.Superseded)
	for i := range c.Changes {
		if c.Changes[i].Op == commitlog.OpDelete || eff.IsVoid(i) {
			dead = append(dead, commitlog.ChangeID{Commit: eff.ID, Index: uint16(i)})
		}
		if i >= len(in.locals) || in.locals[i] == 0 {
			continue
		}
		e, err := s.record(in.opened[i].key)
		if err != nil {
			return err
		}
		if e == nil || len(e.pending) > 0 {
			continue
		}
		for _, id := range e.live {
			header, err := s.log.Header(id.Commit)
			if err != nil {
				return err
			}
			if keys.DeviceID(header[22:38]) != s.v.keys.device {
				dead = append(dead, id)
			}
		}
	}
	for _, id := range dead {
		if _, err := s.forgetContent(c.Header.Tag, id); err != nil {
			return err
		}
	}
	return nil
}
