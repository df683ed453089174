package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A salvage is what could be read of a damaged store: all that the secondary does
// not have. Nothing is believed that does not prove itself: an entry of the
// outbox by its checksum and because it opens, a signed commit by this device's
// signature, names and the selection by their seal. So it does not matter from
// which page something came.
type salvage struct {
	keys    *keyring
	objects *store.Objects

	pending    map[uint64]*saved // by local id
	sent       map[uint64]*sentCommit
	refused    map[uint64]*sentCommit
	acked      map[uint64]uint64 // commit ID → sequence number
	aside      map[uint64][]byte // reasons, by local id
	namespaces map[keys.Tag][]byte
	alarms     map[uint64][]byte
	meta       map[string][]byte

	sequence    uint64   // the highest own sequence number seen
	local, feed uint64   // the highest local id and revision seen
	headers     [][]byte // of the log's newest commits that were seen, by their place
	signers     []keys.VerifyKey
	newest      floor

	lost   int // entries of the outbox that are there and cannot be saved
	faults []error
}

// saved is a change of the outbox that was read.
type saved struct {
	*pendingChange
	payload *seal.Payload
	old     bool // it may be of a page that was free
}

// A floor is a commit that the log is known to hold. The zero value is none.
type floor struct {
	id     commitlog.CommitID
	header []byte
}

// maxFloor is how many of the newest headers are looked at for a floor.
const maxFloor = 16

// salvageStore reads what can be read of the store in dir. A store that is not
// there has nothing to be saved; the error is about reading the file at all.
func salvageStore(dir string, k *keyring, o *store.Objects) (*salvage, error) {
	s := &salvage{
		keys: k, objects: o,
		pending: make(map[uint64]*saved), sent: make(map[uint64]*sentCommit), refused: make(map[uint64]*sentCommit),
		acked: make(map[uint64]uint64), aside: make(map[uint64][]byte), namespaces: make(map[keys.Tag][]byte), alarms: make(map[uint64][]byte), meta: make(map[string][]byte),
		headers: make([][]byte, 0, maxFloor),
	}
	type lostElement struct{ key, value []byte }
	var lost []lostElement
	var ids []uint64 // of headers
	read, err := store.Read(filepath.Join(dir, storeFile), func(path []string, sequence uint64) {
		if len(path) != 1 {
			return
		}
		switch path[0] {
		case bucketOutbox:
			s.local = max(s.local, sequence)
		case bucketFeed:
			s.feed = max(s.feed, sequence)
		}
	}, func(path []string, key, value []byte) {
		if len(path) == 0 {
			return
		}
		if path[0] != bucketLog {
			if len(path) == 1 {
				s.element(path[0], key, value)
			}
		} else if id, header, ok := store.HeaderIn(path[1:], key, value); ok {
			if len(ids) == maxFloor {
				ids, s.headers = ids[1:], s.headers[1:]
			}
			ids, s.headers = append(ids, uint64(id)), append(s.headers, header)
		} else if signer, ok := store.SignerIn(path[1:], key, value); ok {
			s.signers = append(s.signers, signer)
		}
	}, func(key, value []byte) {
		// It may be anything. What is old is told from what is not when all else is read.
		if s.mayBeOurs(key, value) {
			lost = append(lost, lostElement{slices.Clone(key), slices.Clone(value)})
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		s.faults = append(s.faults, fmt.Errorf("%w: %s is gone", ErrDamaged, storeFile))
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.faults = read.Faults
	for _, e := range lost {
		s.orphan(e.key, e.value, read.Old)
	}
	s.dropOld()
	s.findFloor(ids)
	return s, nil
}

// element takes an element of a bucket of the vault's own.
func (s *salvage) element(bucket string, key, value []byte) {
	switch bucket {
	case bucketOutbox:
		if len(key) != 8 || !s.change(be.Uint64(key), value, false) {
			s.lost++
		}
	case bucketSent, bucketRefused:
		c := s.signed(key, value)
		if c == nil {
			s.faults = append(s.faults, fmt.Errorf("%w: a signed commit", store.ErrDamaged))
		} else if bucket == bucketSent {
			s.sent[c.commit.Header.Seq] = c
		} else {
			s.refused[c.commit.Header.Seq] = c
		}
	case bucketAcked:
		if len(key) == 8 && len(value) == 8 {
			s.acked[be.Uint64(key)] = be.Uint64(value)
		}
	case bucketAside:
		if len(key) == 8 {
			s.aside[be.Uint64(key)] = slices.Clone(value)
		}
	case bucketNamespaces:
		s.namespace(key, value)
	case bucketAlarms:
		if _, err := parseAlarm(value); err == nil && len(key) == 8 {
			s.alarms[be.Uint64(key)] = slices.Clone(value)
		}
	case bucketMeta:
		s.meta[string(key)] = slices.Clone(value)
		if string(key) == string(metaSequence) && len(value) == 8 && be.Uint64(value) < 1<<62 {
			s.sequence = max(s.sequence, be.Uint64(value))
		}
	}
}

// change takes an entry of the outbox, and reports whether it is one.
func (s *salvage) change(local uint64, value []byte, old bool) bool {
	p, err := parsePending(local, slices.Clone(value))
	if err != nil {
		return false
	}
	sealer, err := s.keys.sealer(p.key.tag(), p.epoch)
	if err != nil {
		return false
	}
	x := &saved{pendingChange: p, old: old}
	if x.payload, err = sealer.Open(p.blob); err != nil || s.keys.recordKey(p.key.tag(), x.payload.Name) != p.key {
		return false
	}
	if p.objSize > 0 {
		if good, err := s.objects.Verify(p.object); err != nil || !good {
			return false
		}
	}
	s.local = max(s.local, local)
	if have := s.pending[local]; have == nil || !old {
		s.pending[local] = x
	}
	return true
}

// signed returns a commit that this device has signed, nil if it is none.
func (s *salvage) signed(key, value []byte) *sentCommit {
	c, err := parseSent(slices.Clone(value))
	if err != nil || len(key) != 8 || len(c.locals) != len(c.commit.Changes) {
		return nil
	}
	h := &c.commit.Header
	if h.Device != s.keys.device || h.Seq != be.Uint64(key) ||
		!s.keys.own.Sign.Public().Verify(keys.PurposeCommit, s.keys.vault, c.commit.Raw[:commitlog.SignedSize], h.Signature[:]) {
		return nil
	}
	s.sequence = max(s.sequence, h.Seq)
	return c
}

func (s *salvage) namespace(key, value []byte) bool {
	if len(key) != len(keys.Tag{}) {
		return false
	}
	tag := keys.Tag(key)
	name, err := s.keys.local.Open(nil, value, tag[:])
	if err != nil || s.keys.tag(string(name)) != tag {
		return false
	}
	s.namespaces[tag] = slices.Clone(value)
	return true
}

// mayBeOurs reports whether an element that nothing points to may be worth a look.
func (s *salvage) mayBeOurs(key, value []byte) bool {
	switch len(key) {
	case 8:
		if _, err := parsePending(0, value); err == nil {
			return true
		}
		return s.signed(key, value) != nil
	case len(keys.Tag{}):
		return len(value) > 0 && len(value) < 1024
	}
	return false
}

// orphan takes an element of a page that nothing points to. old says that the
// page may have been free.
func (s *salvage) orphan(key, value []byte, old bool) {
	if len(key) != 8 {
		s.namespace(key, value)
		return
	}
	if s.change(be.Uint64(key), value, old) {
		return
	}
	// Whether it was under way is not known. It is not sent again, and should it be
	// in the log, it is known.
	if c := s.signed(key, value); c != nil && s.sent[c.commit.Header.Seq] == nil {
		s.refused[c.commit.Header.Seq] = c
	}
}

// dropOld drops what a later change of the same record stands for, among those
// that may be of free pages.
func (s *salvage) dropOld() {
	newest := make(map[recordKey]uint64)
	for local, p := range s.pending {
		newest[p.key] = max(newest[p.key], local)
	}
	maps.DeleteFunc(s.pending, func(local uint64, p *saved) bool { return p.old && newest[p.key] != local })
}

// findFloor picks the newest header that one of the log's authors has signed.
func (s *salvage) findFloor(ids []uint64) {
	for i := len(s.headers) - 1; i >= 0; i-- {
		h, err := commitlog.ParseHeader(s.headers[i])
		if err != nil {
			continue
		}
		purpose := keys.PurposeCommit
		if h.Kind == commitlog.KindControl {
			purpose = keys.PurposeControl
		}
		for _, k := range s.signers {
			if k.Verify(purpose, s.keys.vault, s.headers[i][:commitlog.SignedSize], h.Signature[:]) {
				s.newest = floor{commitlog.CommitID(ids[i]), s.headers[i]}
				return
			}
		}
	}
}

// locals returns the local ids of what can be saved, in order.
func (s *salvage) locals() []uint64 { return slices.Sorted(maps.Keys(s.pending)) }
