package vault

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// What is missing of a change, as bits.
const (
	wantBlob   = 1
	wantObject = 2
	wantAsked  = 4 // a reader asked for the object, whatever the selection says
)

// want notes what of a live change is to be here and is not, so that it is
// fetched. asked is wantAsked or 0.
func (s *state) want(id commitlog.ChangeID, ch *commitlog.Change, here bool, asked byte) error {
	what, err := s.lacks(id, ch, here, asked)
	if err != nil || what == 0 {
		return err
	}
	return s.missing.Put(changeKey(id), []byte{what | asked})
}

// lacks returns what of a live change is to be here and is not.
func (s *state) lacks(id commitlog.ChangeID, ch *commitlog.Change, here bool, asked byte) (what byte, err error) {
	if here && !ch.HasObject() {
		return 0, nil
	}
	header, err := s.log.Header(id.Commit)
	if err != nil {
		return 0, err
	}
	tag := keys.Tag(header[6:22])
	k, err := s.keeping()
	if err != nil || !k.has(tag) {
		return 0, err
	}
	if !here {
		what |= wantBlob
	}
	if !ch.HasObject() || !here && k.filtered(tag) { // the name is in the blob
		return what, nil
	}
	_, whole, err := s.v.objects.Have(ch.ObjectHash)
	if err != nil || whole {
		return what, err
	}
	keep := asked != 0
	if !keep {
		if keep, err = s.keepsObject(k, tag, id); err != nil {
			return 0, err
		}
	}
	if keep {
		what |= wantObject
	}
	return what, nil
}

// found takes a change off the list of what is missing, if all of it is here,
// or none of it is to be here any more.
func (s *state) found(id commitlog.ChangeID) error {
	noted := s.missing.Get(changeKey(id))
	if noted == nil {
		return nil
	}
	asked := noted[0] & wantAsked
	if err := s.missing.Delete(changeKey(id)); err != nil {
		return err
	}
	header, err := s.log.Header(id.Commit)
	if err != nil || !s.log.Live(keys.Tag(header[6:22]), id) {
		return err
	}
	ch, blob, err := s.log.Entry(id)
	if err != nil {
		return err
	}
	return s.want(id, &ch, blob != nil, asked)
}

// await has a record go on showing the version before a live change whose content
// has not come: it is fetched, or, where the secondary has dropped it, a commit
// ends it that is still to come. Otherwise the record would seem to be removed until
// then, and what is written meanwhile would not supersede it.
func (s *state) await(id commitlog.ChangeID, o *opened) error {
	if noted := s.missing.Get(changeKey(id)); noted == nil || noted[0]&wantBlob == 0 {
		return nil // it is not to be here
	}
	if err := s.setUnread(id, o); err != nil || o.known {
		return err
	}
	return s.unread.Delete(changeKey(id))
}

// awaited ends that for a change that was superseded.
func (s *state) awaited(id commitlog.ChangeID) error {
	if s.unread.Get(changeKey(id)) == nil {
		return nil
	}
	if _, blob, err := s.log.Entry(id); err != nil || blob != nil {
		return err
	}
	return s.unread.Delete(changeKey(id))
}
