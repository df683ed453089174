package vault

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
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
// fills those of them that are indexes. Where one is absent that every program
// makes, it returns ErrDamaged.
func (v *Vault) addBuckets() error {
	var lacking []string
	err := v.db.View(func(tx *store.Tx) error {
		for _, b := range buckets {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("%w: no bucket %q", ErrDamaged, b)
			}
		}
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
		if slices.Contains(lacking, bucketUnread) {
			if err := s.fillUnread(); err != nil {
				return err
			}
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
	if is, _ := s.rebuilding(); is {
		return false, nil // most of what comes was there before
	}
	if !e.foreign || !e.added && !e.met || len(e.name) > 0 && e.name[0] == 0 {
		return false, nil
	}
	if len(e.live)+len(e.pending) < 2 && !e.met {
		return false, nil // most are: nothing has to be opened
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
