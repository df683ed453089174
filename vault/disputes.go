package vault

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// The bucket "conflicts" has the records of which several versions are to be
// shown, so that to list and count them is no walk through the vault. It is kept
// up to date in the transaction that stores a record's entry.
//
//	record key → differ u8 ‖ set 8 ‖ due u64
//
// differ is 0 where all versions say the same; these need no answer, and are here
// for the sake of a strategy that changes. set identifies the live changes. due
// is when this device's resolver answers, in Unix ms; 0: that is not decided yet.
type conflictState struct {
	differ bool
	set    [8]byte
	due    uint64
}

const conflictStateSize = 1 + 8 + 8

func (c *conflictState) encode() []byte {
	b := append(make([]byte, 0, conflictStateSize), 0)
	if c.differ {
		b[0] = 1
	}
	return be.AppendUint64(append(b, c.set[:]...), c.due)
}

func parseConflictState(b []byte) (*conflictState, error) {
	if len(b) != conflictStateSize {
		return nil, fmt.Errorf("%w: conflict index", store.ErrDamaged)
	}
	return &conflictState{differ: b[0] == 1, set: [8]byte(b[1:9]), due: be.Uint64(b[9:])}, nil
}

// setConflict brings the index of conflicts up to date with a record's entry.
func (s *state) setConflict(key recordKey, e *entry) error {
	old := s.conflicts.Get(key[:])
	var heads []head
	if n, err := s.countHeads(e); err != nil {
		return err
	} else if n > 1 {
		if heads, err = s.heads(e); err != nil {
			return err
		}
	}
	if len(heads) < 2 {
		if old == nil {
			return nil
		}
		return s.conflicts.Delete(key[:])
	}
	c := &conflictState{differ: len(distinct(heads)) > 1, set: liveSet(e.live)}
	if old != nil {
		before, err := parseConflictState(old)
		if err != nil {
			return err
		}
		if before.set == c.set {
			c.due = before.due
		}
	}
	b := c.encode()
	if bytes.Equal(old, b) {
		return nil
	}
	s.disputed = s.disputed || c.differ
	return s.conflicts.Put(slices.Clone(key[:]), b)
}

// liveSet identifies a set of live changes.
func liveSet(live []commitlog.ChangeID) (set [8]byte) {
	sorted := slices.SortedFunc(slices.Values(live), commitlog.ChangeID.Compare)
	h := sha256.New()
	for _, id := range sorted {
		h.Write(changeKey(id))
	}
	copy(set[:], h.Sum(nil))
	return set
}

// setTimed keeps the list of records that have times, for Watch.
func (s *state) setTimed(key recordKey, e *entry) error {
	has, want := s.timed.Get(key[:]) != nil, e.expires != 0 || e.available != 0
	switch {
	case want && !has:
		return s.timed.Put(slices.Clone(key[:]), present)
	case has && !want:
		return s.timed.Delete(key[:])
	}
	return nil
}

// addBuckets makes the buckets that a store of an earlier program lacks, and
// fills those of them that are indexes.
func (v *Vault) addBuckets() error {
	var lacking []string
	err := v.db.View(func(tx *store.Tx) error {
		for _, b := range laterBuckets {
			if tx.Bucket(b) == nil {
				lacking = append(lacking, b)
			}
		}
		return nil
	})
	if err != nil || len(lacking) == 0 {
		return v.storeError(err)
	}
	return v.storeError(v.db.Update(func(tx *store.Tx) error {
		for _, b := range lacking {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		s, err := v.open(tx)
		if err != nil {
			return err
		}
		return s.records.Scan(nil, func(k, b []byte) (bool, error) {
			key := recordKey(k)
			e, err := v.keys.parseEntry(key, b)
			if err != nil {
				return false, err
			}
			if err := s.setTimed(key, e); err != nil {
				return false, err
			}
			return true, s.setConflict(key, e)
		})
	}))
}

// What the listener is told of a record, as bits.
const (
	raisedVersions = 1 // it has several versions, or a removal beside an edit
	raisedResolver = 2 // its resolver failed
)

// raise notes that the listener is to be told of a record.
func (s *state) raise(key recordKey, why byte) error {
	if s.v.conf.Conflict == nil {
		return nil
	}
	if b := s.raised.Get(key[:]); len(b) == 1 {
		why |= b[0]
	}
	s.told = true
	return s.raised.Put(slices.Clone(key[:]), []byte{why})
}

// meet notes whether a change of another device and what this one knows of its
// record were written without knowledge of each other.
func (ix *indexer) meet(o *opened, ch *commitlog.Change, named []commitlog.ChangeID, ended map[commitlog.ChangeID]bool) {
	e := ix.entries[o.key]
	if e == nil || ch.Op == commitlog.OpRestate {
		return
	}
	e.met = e.met || len(e.pending) > 0
	for _, id := range named {
		e.met = e.met || !ended[id] // it names what was no longer live
	}
}

// dispute raises the conflict that a commit of another device has brought to a
// record, if it has. It returns whether.
func (s *state) dispute(key recordKey, e *indexed) (bool, error) {
	if !e.foreign || !e.added && !e.met || len(e.name) > 0 && e.name[0] == 0 {
		return false, nil
	}
	heads, err := s.heads(e.entry)
	if err != nil {
		return false, err
	}
	is := e.added && len(distinct(heads)) > 1
	if !is && e.met {
		rivals, err := s.rivals(key, e.entry, heads)
		if err != nil {
			return false, err
		}
		is = len(rivals) > 0
	}
	if !is {
		return false, nil
	}
	return true, s.raise(key, raisedVersions)
}

// rivals returns the deletes of a record that met an edit, each not knowing of
// the other, and that no version shown has seen since.
//
// A delete and a put met if they come from different authors and name the same
// change: the second of them in the log names what the first had ended. A put
// has seen a delete if its author had it in the verified log, and the put names
// nothing that the delete names.
func (s *state) rivals(key recordKey, e *entry, heads []head) ([]head, error) {
	if len(heads) == 0 {
		return nil, nil
	}
	type edge struct {
		head
		named []commitlog.ChangeID
	}
	var deletes []edge
	each := func(fn func(id commitlog.ChangeID, op commitlog.Op, author keys.DeviceID) error) error {
		return s.versions.ScanPrefix(key[:], nil, func(k, _ []byte) (bool, error) {
			id := parseChangeKey(k[len(key):])
			ch, _, err := s.log.Entry(id)
			if err != nil {
				return false, err
			}
			header, err := s.log.Header(id.Commit)
			if err != nil {
				return false, err
			}
			return true, fn(id, ch.Op, keys.DeviceID(header[22:38]))
		})
	}
	err := each(func(id commitlog.ChangeID, op commitlog.Op, author keys.DeviceID) error {
		if op != commitlog.OpDelete {
			return nil
		}
		named, err := s.log.Named(id)
		deletes = append(deletes, edge{head{id: id, op: op, device: author}, named})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, local := range e.pending {
		if p, err := s.pendingChange(local); err == nil && p.op == commitlog.OpDelete {
			h, err := s.openPending(p)
			if err != nil {
				return nil, err
			}
			deletes = append(deletes, edge{h, logged(p.refs)})
		}
	}
	if len(deletes) == 0 {
		return nil, nil
	}
	common := func(a, b []commitlog.ChangeID) bool {
		return slices.ContainsFunc(a, func(id commitlog.ChangeID) bool { return slices.Contains(b, id) })
	}
	met := make([]bool, len(deletes))
	meets := func(author keys.DeviceID, named []commitlog.ChangeID) {
		for i, d := range deletes {
			met[i] = met[i] || author != d.device && common(named, d.named)
		}
	}
	err = each(func(id commitlog.ChangeID, op commitlog.Op, author keys.DeviceID) error {
		if op != commitlog.OpPut {
			return nil
		}
		named, err := s.log.Named(id)
		meets(author, named)
		return err
	})
	if err != nil {
		return nil, err
	}
	named := make([][]commitlog.ChangeID, len(heads))
	for i, h := range heads {
		if named[i], err = s.named(&h); err != nil {
			return nil, err
		}
		meets(h.device, named[i])
	}
	var out []head
	for i, d := range deletes {
		seen := func(j int, h *head) (bool, error) {
			if h.device == d.device {
				return true, nil
			}
			if h.local != 0 || d.local != 0 || common(named[j], d.named) {
				return false, nil
			}
			header, err := s.log.Header(h.id.Commit)
			return err == nil && be.Uint64(header[78:]) >= uint64(d.id.Commit), err
		}
		all := true
		for j := range heads {
			ok, err := seen(j, &heads[j])
			if err != nil {
				return nil, err
			}
			all = all && ok
		}
		if !met[i] || all {
			continue
		}
		if d.local == 0 {
			h, err := s.openChange(d.id)
			if err != nil {
				return nil, err
			}
			if h == nil {
				continue
			}
			d.head = *h
		}
		out = append(out, d.head)
	}
	return out, nil
}

// named returns the changes in the log that a head names.
func (s *state) named(h *head) ([]commitlog.ChangeID, error) {
	if h.local == 0 {
		return s.log.Named(h.id)
	}
	p, err := s.pendingChange(h.local)
	if err != nil {
		return nil, err
	}
	return logged(p.refs), nil
}

// logged returns the refs that are in the log.
func logged(refs []pendingRef) (out []commitlog.ChangeID) {
	for _, r := range refs {
		if r.local == 0 {
			out = append(out, r.id)
		}
	}
	return out
}
