package vault

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// What is read is checked for damage as it is read. Most of it authenticates
// itself: the entry of a record is sealed with its key and what it lists, a blob
// with its place, and a header is in the tree. What remains is what is not there,
// and what is there in another's place.

// find is record for those who tell somebody what they have found, or that there is
// nothing.
func (s *state) find(key recordKey) (*entry, error) {
	if err := s.begun(); err != nil {
		return nil, err
	}
	e, err := s.record(key)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, s.beside(key[:])
	}
	for _, local := range e.pending {
		if s.spoilt(local) {
			return nil, fmt.Errorf("%w: outbox entry %d", store.ErrDamaged, local)
		}
	}
	return e, nil
}

// spoilt reports whether the disk has spoilt a change of the outbox, and nobody
// has been told: what is set aside is a [Problem], and the record shows what it
// shows without it.
func (s *state) spoilt(local uint64) bool {
	_, err := s.pendingChange(local)
	return err != nil && s.aside.Get(localKey(local)) == nil
}

// besideVersions returns [store.ErrDamaged] unless the elements on both sides of a
// record's in the bucket versions are of the records that they should be of.
func (s *state) besideVersions(key recordKey) error {
	below, above, err := s.versions.Beside(key[:])
	for _, x := range []store.Element{below, above} {
		if err == nil && x.Key != nil {
			err = s.placed(x.Key)
		}
	}
	return err
}

// placed returns [store.ErrDamaged] unless an element of the bucket versions is
// under the record that its change is about, as far as that can be told.
func (s *state) placed(k []byte) error {
	id := parseChangeKey(k[len(recordKey{}):])
	h, err := s.openChange(id)
	if err != nil || h == nil {
		return err
	}
	if key := recordKey(k[:len(recordKey{})]); s.v.keys.recordKey(key.tag(), h.payload.Name) != key {
		return fmt.Errorf("%w: version %v is of another record", store.ErrDamaged, id)
	}
	return nil
}

// beside returns [store.ErrDamaged] unless the entries on both sides of those
// whose keys begin with prefix are intact: an entry whose key was spoilt stands
// there, if it is still in order.
func (s *state) beside(prefix []byte) error {
	below, above, err := s.records.Beside(prefix)
	if err != nil {
		return err
	}
	for _, x := range []store.Element{below, above} {
		if x.Key == nil {
			continue
		}
		if len(x.Key) != len(recordKey{}) {
			return fmt.Errorf("%w: index entry", store.ErrDamaged)
		}
		if _, err := s.v.keys.parseEntry(recordKey(x.Key), x.Value); err != nil {
			return err
		}
	}
	return nil
}

// listed returns [store.ErrDamaged] unless a change that the entry of its record
// lists as live is what it should be. head is what was read of it; nil: nothing,
// which has to have a reason.
func (s *state) listed(e *entry, id commitlog.ChangeID, h *head) error {
	switch k := changeKey(id); {
	case h != nil && h.payload.Name == e.name:
		return nil
	case h != nil:
		return fmt.Errorf("%w: change %v is of another record", store.ErrDamaged, id)
	case s.missing.Get(k) == nil && s.quarantine.Get(k) == nil && s.unread.Get(k) == nil:
		if h, err := s.openChange(id); h != nil || err != nil {
			return err // a newer program has used this store
		}
		return fmt.Errorf("%w: the content of change %v is gone", store.ErrDamaged, id)
	}
	return nil
}

// outside reports whether a commit is not within the log from its base on: what
// came with a checkpoint is here, before the log begins and below where it began.
func (s *state) outside(id commitlog.CommitID) bool {
	return uint64(id) <= s.log.Base() || uint64(id) > s.log.Size()
}

// genuine returns [store.ErrDamaged] unless the header is the one that was
// verified when it came in.
func (s *state) genuine(id commitlog.CommitID, header []byte) error {
	stored, err := s.log.ReadHash(commitlog.TreeIndex(uint64(id) - 1))
	if err != nil {
		return err
	}
	if stored != commitlog.LeafHash(header) {
		return fmt.Errorf("%w: commit %d is not what was verified", store.ErrDamaged, id)
	}
	return nil
}

// absent makes ErrDamaged of the error that the log lacks what an index names.
func absent(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %v", store.ErrDamaged, err)
	}
	return err
}

// agree reports whether change and blob belong together, as far as the blob tells.
// p is nil where the blob did not open: then it has to be the one that came in.
func agree(ch *commitlog.Change, blob []byte, p *seal.Payload) bool {
	if p == nil {
		return commitlog.CheckBlob(ch, blob) == nil
	}
	return (ch.Op == commitlog.OpDelete) == (p.Form == seal.FormDelete) &&
		(p.Object != nil) == ch.HasObject() && (p.Object == nil || commitlog.Hash(p.Object.Hash) == ch.ObjectHash)
}

// unaltered returns [store.ErrDamaged] unless a change and its blob are those that
// came in. What its author made so is in quarantine.
func (s *state) unaltered(id commitlog.ChangeID, ch *commitlog.Change, blob []byte) error {
	err := commitlog.CheckBlob(ch, blob)
	if err == nil && !s.outside(id.Commit) { // otherwise not all of the commit is here
		_, err = s.log.Commit(id.Commit)
	}
	if err != nil {
		err = fmt.Errorf("%w: change %v is not what was verified", store.ErrDamaged, id)
	}
	return err
}

// tagOf returns the namespace of a commit by its header.
func tagOf(header []byte) keys.Tag { return keys.Tag(header[6:22]) }

// plausible looks, as the vault is opened, at what the device file and the store
// say of each other, and at the numbers that nothing else would show to be wrong
// before harm is done: with other keys the device would write what nobody can
// read, and with a lower sequence number it would sign twice in one place.
func (s *state) plausible() error {
	if s.log.Vault() != s.v.device.Vault {
		return fmt.Errorf("%w: store and device file are of different vaults", ErrDamaged)
	}
	notOurs := fmt.Errorf("%w: the keys in %s are not those of the store", ErrDamaged, deviceFile)
	if err := s.plausibleLog(notOurs); err != nil {
		return err
	}
	err := s.namespaces.Scan(nil, func(k, _ []byte) (bool, error) {
		switch name := s.namespaceName(keys.Tag(k)); {
		case name == "":
			return false, fmt.Errorf("%w: the name of a namespace", store.ErrDamaged)
		case s.v.keys.tag(name) != keys.Tag(k):
			return false, notOurs
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return s.plausibleSequence()
}

// plausibleLog looks at the log's two ends.
func (s *state) plausibleLog(notOurs error) error {
	size := s.log.Size()
	if size == 0 {
		return nil
	}
	tag, err := s.log.ControlTag()
	if err != nil {
		return err
	}
	if tag != s.v.keys.control {
		return notOurs
	}
	if size > s.log.Base() { // otherwise its last commit need not be here
		header, err := s.log.Header(commitlog.CommitID(size))
		if err == nil {
			err = s.genuine(commitlog.CommitID(size), header)
		}
		if err != nil {
			return absent(err)
		}
	}
	genesis := commitlog.ChangeID{Commit: 1}
	if _, blob, err := s.log.Entry(genesis); err != nil || blob == nil {
		return absent(err)
	}
	first, err := s.openChange(genesis)
	if err == nil && first == nil {
		err = notOurs
	}
	return err
}

// plausibleSequence returns ErrDamaged where the device is known to have signed
// with a higher sequence number than the store says.
func (s *state) plausibleSequence() error {
	seq := s.sequence()
	author, err := s.log.Author(s.v.keys.device)
	if err != nil {
		return err
	}
	used := uint64(0)
	if author != nil {
		used = author.LastSeq
	}
	for _, b := range []*store.Bucket{s.sent, s.refused} {
		if k, _ := b.Last(nil); len(k) == 8 {
			used = max(used, be.Uint64(k))
		}
	}
	if is, _ := s.rebuilding(); seq < used && !is {
		return fmt.Errorf("%w: its sequence number is %d, and it has used %d", ErrDamaged, seq, used)
	}
	return nil
}
