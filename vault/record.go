package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

var be = binary.BigEndian

// recordKey is a record's key in the local indexes; see [keyring.recordKey].
type recordKey [32]byte

func (k recordKey) tag() keys.Tag { return keys.Tag(k[:16]) }

// An entry is what the local index knows of a record. live is a function of the
// verified log alone; pending lies over it, until its changes are in the log.
//
//	n u32 ‖ n × (commit ID u64 ‖ index u16)       live changes, the one shown first
//	n u32 ‖ n × local id u64                      pending changes, oldest first
//	revision u64
//	sealed: clock u64 ‖ expires u64 ‖ available u64 ‖ name
//
// The sealed part also authenticates the record's key and what stands before it.
type entry struct {
	key     recordKey // where it is stored
	live    []commitlog.ChangeID
	pending []uint64
	rev     Revision

	clock              clock  // the highest that this device knows for the record
	expires, available uint64 // Unix ms, of the change shown; 0: none
	name               string
}

func (k *keyring) appendEntry(dst []byte, key recordKey, e *entry) []byte {
	dst = be.AppendUint32(dst, uint32(len(e.live)))
	for _, id := range e.live {
		dst = be.AppendUint64(dst, uint64(id.Commit))
		dst = be.AppendUint16(dst, id.Index)
	}
	dst = be.AppendUint32(dst, uint32(len(e.pending)))
	for _, p := range e.pending {
		dst = be.AppendUint64(dst, p)
	}
	dst = be.AppendUint64(dst, uint64(e.rev))
	var scratch [24 + 64]byte
	plain := be.AppendUint64(scratch[:0], e.clock)
	plain = be.AppendUint64(plain, e.expires)
	plain = be.AppendUint64(plain, e.available)
	plain = append(plain, e.name...)
	var ad [64]byte
	return k.local.Seal(dst, plain, append(append(ad[:0], key[:]...), dst...))
}

func (k *keyring) parseEntry(key recordKey, b []byte) (*entry, error) {
	e, sealed, err := parseEntryHead(b)
	if err != nil {
		return nil, err
	}
	var scratch [256]byte
	var ad [64]byte
	plain, err := k.local.Open(scratch[:0], sealed, append(append(ad[:0], key[:]...), b[:len(b)-len(sealed)]...))
	if err != nil || len(plain) < 24 {
		return nil, fmt.Errorf("%w: index entry does not open", store.ErrDamaged)
	}
	e.clock = be.Uint64(plain)
	e.expires = be.Uint64(plain[8:])
	e.available = be.Uint64(plain[16:])
	e.name = string(plain[24:])
	e.key = key
	return e, nil
}

// parseEntryHead decodes what is not sealed and returns the sealed rest.
func parseEntryHead(b []byte) (*entry, []byte, error) {
	damaged := fmt.Errorf("%w: index entry", store.ErrDamaged)
	e := &entry{}
	if len(b) < 4 {
		return nil, nil, damaged
	}
	n := int(be.Uint32(b))
	if b = b[4:]; n > len(b)/10 || len(b) < 10*n+4 {
		return nil, nil, damaged
	}
	if n > 0 {
		e.live = make([]commitlog.ChangeID, n)
	}
	for i := range e.live {
		e.live[i] = commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(b)), Index: be.Uint16(b[8:])}
		b = b[10:]
	}
	n = int(be.Uint32(b))
	if b = b[4:]; n > len(b)/8 || len(b) < 8*n+8 {
		return nil, nil, damaged
	}
	if n > 0 {
		e.pending = make([]uint64, n)
	}
	for i := range e.pending {
		e.pending[i] = be.Uint64(b)
		b = b[8:]
	}
	e.rev = Revision(be.Uint64(b))
	return e, b[8:], nil
}

// record returns the entry of a record, nil if the index has none.
func (s *state) record(key recordKey) (*entry, error) {
	b := s.records.Get(key[:])
	if b == nil {
		return nil, nil
	}
	return s.v.keys.parseEntry(key, b)
}

// setRecord stores the entry of a record, and brings the indexes over it up to
// date.
func (s *state) setRecord(key recordKey, e *entry) error {
	return s.changeRecord(key, e, func() error {
		return s.records.Put(key[:], s.v.keys.appendEntry(nil, key, e))
	})
}

// dropRecord takes a record, of which nothing is left here, out of the index.
func (s *state) dropRecord(key recordKey, e *entry) error {
	e.live, e.pending, e.expires, e.available = nil, nil, 0, 0
	return s.changeRecord(key, e, func() error { return s.records.Delete(key[:]) })
}

// changeRecord stores an entry and then what depends on it. Where it is a
// namespace's own record and its strategy changes, the transaction ends with
// [state.rejoin].
func (s *state) changeRecord(key recordKey, e *entry, store func() error) error {
	if e.name != aboutName {
		return errors.Join(store(), s.setTimed(key, e), s.setConflict(key, e))
	}
	tag := key.tag()
	before, err := s.strategy(tag)
	if err != nil {
		return err
	}
	if err := store(); err != nil {
		return err
	}
	delete(s.strategies, tag)
	after, err := s.strategy(tag)
	if after != before {
		s.resettled = append(s.resettled, tag)
	}
	return err
}

// touch gives the record a new revision and its place at the end of the feed,
// which lists every record once, in the order of their latest change here.
func (s *state) touch(key recordKey, e *entry) error {
	if e.rev != 0 {
		if err := s.feed.Delete(be.AppendUint64(nil, uint64(e.rev))); err != nil {
			return err
		}
	}
	n, err := s.feed.Next()
	if err != nil {
		return err
	}
	e.rev = Revision(n)
	return s.feed.Put(be.AppendUint64(nil, n), slices.Clone(key[:]))
}

// version keeps a change that is not live in the record's history.
func (s *state) version(key recordKey, id commitlog.ChangeID) error {
	return s.versions.Put(versionKey(key, id), present)
}

func versionKey(key recordKey, id commitlog.ChangeID) []byte {
	b := be.AppendUint64(append(make([]byte, 0, 42), key[:]...), uint64(id.Commit))
	return be.AppendUint16(b, id.Index)
}

// present is the value of keys that say all themselves.
var present = []byte{}

// A head is a change that no other change of its record supersedes, as this
// device sees it: live in the log and not overlaid by a pending change, or the
// newest pending one.
type head struct {
	id      commitlog.ChangeID // zero: pending
	local   uint64             // 0: in the log, or withdrawn
	epoch   uint32             // that it is sealed for; 0: as its commit says
	device  keys.DeviceID
	op      commitlog.Op
	payload *seal.Payload
	object  commitlog.Hash
	unread  commitlog.ChangeID // not zero: the live change that this is shown instead of; see unread
}

// heads returns the record's heads, the one to show first. Deletes are not
// heads. Instead of what cannot be used it has the version before it, if that can.
func (s *state) heads(e *entry) ([]head, error) {
	var covered map[commitlog.ChangeID]bool
	var out []head
	if len(e.pending) > 0 {
		p, over, err := s.overlay(e)
		if err != nil {
			return nil, err
		}
		covered = over
		if p != nil && p.op != commitlog.OpDelete {
			h, err := s.openPending(p)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
	}
	for _, id := range e.live {
		if covered[id] {
			continue
		}
		h, err := s.standing(id)
		if err == nil {
			err = s.listed(e, id, h)
		}
		if err != nil {
			return nil, err
		}
		if h != nil {
			out = append(out, *h)
		}
	}
	return out, s.sort(e, out)
}

// openChange opens a change of the log. It returns nil where the blob is absent
// or does not open; the change is in quarantine then, or missing.
func (s *state) openChange(id commitlog.ChangeID) (*head, error) {
	ch, blob, err := s.log.Entry(id)
	if errors.Is(err, store.ErrNotFound) && s.outside(id.Commit) {
		return nil, nil
	}
	if err != nil || blob == nil {
		return nil, absent(err)
	}
	header, err := s.log.Header(id.Commit)
	if err == nil {
		err = s.genuine(id.Commit, header)
	}
	if err != nil {
		return nil, absent(err)
	}
	h := &head{id: id, op: ch.Op, device: keys.DeviceID(header[22:38]), object: ch.ObjectHash}
	if key, err := s.v.keys.sealer(tagOf(header), be.Uint32(header[2:])); err == nil {
		h.payload, _ = key.Open(blob)
	}
	if !agree(&ch, blob, h.payload) {
		return nil, s.unaltered(id, &ch, blob)
	}
	if h.payload == nil {
		return nil, nil
	}
	return h, nil
}

// join works out what the record shows after its changes have changed: it puts
// the live change to show first and takes over the times of the head shown.
func (s *state) join(e *entry) error {
	heads, err := s.heads(e)
	if err != nil {
		return err
	}
	e.expires, e.available = 0, 0
	for i, h := range heads {
		if h.payload.HLC <= maxClock {
			e.clock = max(e.clock, h.payload.HLC)
		}
		if i == 0 && h.unread == (commitlog.ChangeID{}) { // a stand-in's were superseded
			e.expires, e.available = h.payload.Expires, h.payload.Available
		}
	}
	if len(e.live) > 1 && len(heads) > 0 {
		for _, h := range heads {
			if i := slices.Index(e.live, h.at()); i >= 0 {
				e.live[0], e.live[i] = e.live[i], e.live[0]
				break
			}
		}
	}
	return nil
}

// hidden reports whether a record is not to be seen at a time: it has expired,
// or is not available yet.
func (e *entry) hidden(nowMs uint64) bool {
	return e.expired(nowMs) || nowMs < e.available
}

// expired reports whether a record has come to its end by itself.
func (e *entry) expired(nowMs uint64) bool { return e.expires != 0 && nowMs >= e.expires }
