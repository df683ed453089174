package vault

import (
	"errors"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// Compaction goes once over all that commits have ended, in the order of those
// commits, and drops the content of what the retention does not keep. Its place is
// kept under the key "compact" of the bucket meta, so that it goes on after an
// interruption. Whether a version is among the newest of its record depends on what
// came after it, so compaction begins from the front each time: a day after the
// last, or when the log has grown by compactCommits. What was dropped before is
// passed over without being opened.
//
// The version stays in the record's history, without content.

const (
	compactEvery   = 24 * time.Hour
	compactCommits = 1000
	compactLook    = 4096 // changes looked at in one transaction …
	compactTouch   = 512  // … and dropped
)

// compactDue reports whether compaction is under way, or has its turn.
func (s *state) compactDue() (bool, error) {
	r, err := s.retention()
	if err != nil || r.All() || s.v.main != nil { // the log in use may need it yet
		return false, err
	}
	if s.meta.Get(metaCompact) != nil {
		return true, nil
	}
	b := s.meta.Get(metaCompacted)
	if len(b) != 16 {
		return true, nil
	}
	at, size, ms := be.Uint64(b), be.Uint64(b[8:]), millis(s.v.conf.Now())
	grown := max(s.log.Size(), size) - size
	if grown == 0 && r.Days == 0 {
		return false, nil // nothing can have come to an end
	}
	day := uint64(compactEvery / time.Millisecond)
	return grown >= compactCommits || ms < at || ms-at >= day, nil
}

// beginCompaction has compaction begin from the front, if anything may be dropped,
// unless it is under way.
func (s *state) beginCompaction() error {
	r, err := s.retention()
	if err != nil || r.All() || s.meta.Get(metaCompact) != nil {
		return err
	}
	return s.meta.Put(metaCompact, present)
}

// compactStep does one transaction of compaction, and reports whether there is more.
func (v *Vault) compactStep(done *Compacted) (more bool, err error) {
	var step Compacted
	err = v.update(func(s *state) (err error) {
		step = Compacted{}
		more, err = s.compact(&step)
		return err
	})
	if err == nil {
		done.Versions += step.Versions
		done.Bytes += step.Bytes
	}
	return more, err
}

func (s *state) compact(step *Compacted) (more bool, err error) {
	if due, err := s.compactDue(); err != nil || !due {
		return false, err
	}
	r, err := s.retention()
	if err != nil {
		return false, err
	}
	now := millis(s.v.conf.Now())
	place := s.meta.Get(metaCompact)
	looked := 0
	var found []commitlog.ChangeID
	err = s.log.EachRetired(place, func(x store.Retirement) (bool, error) {
		if more = looked == compactLook || len(found) == compactTouch; more {
			return false, nil
		}
		looked++
		place = x.Place()
		if !r.over(x.At, now) {
			return true, nil
		}
		ch, blob, err := s.log.Entry(x.ID)
		if err == nil && blob != nil && ch.Op != commitlog.OpDelete {
			found = append(found, x.ID)
		}
		return true, err
	})
	if err != nil {
		return false, err
	}
	for _, id := range found {
		if err := s.compactVersion(r, id, step); err != nil {
			return false, err
		}
	}
	if more {
		return true, s.meta.Put(metaCompact, append([]byte(nil), place...))
	}
	last := be.AppendUint64(be.AppendUint64(nil, now), s.log.Size())
	return false, errors.Join(s.meta.Delete(metaCompact), s.meta.Put(metaCompacted, last))
}

// compactVersion drops the content of a change that is not live, unless its record,
// or the number of versions, needs it.
func (s *state) compactVersion(r Retention, id commitlog.ChangeID, step *Compacted) error {
	header, err := s.log.Header(id.Commit)
	if err != nil || s.log.Live(keys.Tag(header[6:22]), id) {
		return err
	}
	key, _, err := s.recordOf(id)
	if err != nil || key == (recordKey{}) {
		return err // nobody knows what it is a version of
	}
	e, err := s.record(key)
	if err != nil || e == nil || len(e.pending) > 0 || len(e.live) > 1 {
		return err
	}
	if keep, err := s.standsIn(e, id); keep || err != nil {
		return err
	}
	ch, blob, err := s.log.Entry(id)
	if err != nil {
		return err
	}
	versions, err := s.others(e, id)
	if err != nil {
		return err
	}
	newer, shared := 0, false
	for _, o := range versions {
		if id.Compare(o.id) < 0 {
			newer++
		}
		shared = shared || o.here && ch.HasObject() && o.object == ch.ObjectHash
	}
	if newer < r.Versions {
		return nil
	}
	step.Versions++
	step.Bytes += int64(len(blob))
	if ch.HasObject() && !shared {
		have, _, err := s.v.objects.Have(ch.ObjectHash)
		if err != nil {
			return err
		}
		if have > 0 {
			step.Bytes += have
			s.gone = append(s.gone, ch.ObjectHash)
		}
	}
	if s.unread.Get(changeKey(id)) != nil {
		if err := s.unread.Delete(changeKey(id)); err != nil {
			return err
		}
	}
	return s.log.DropBlob(id)
}

// otherVersion is what compaction asks of a record's other versions.
type otherVersion struct {
	id     commitlog.ChangeID
	here   bool // its blob is
	object commitlog.Hash
}

// others returns the versions of a record in the log, live or not, but for one of
// them and for removals.
func (s *state) others(e *entry, but commitlog.ChangeID) (out []otherVersion, err error) {
	add := func(id commitlog.ChangeID) error {
		ch, blob, err := s.log.Entry(id)
		if err == nil && id != but && ch.Op != commitlog.OpDelete {
			out = append(out, otherVersion{id, blob != nil, ch.ObjectHash})
		}
		return err
	}
	for _, id := range e.live {
		if err := add(id); err != nil {
			return nil, err
		}
	}
	return out, s.versions.ScanPrefix(e.key[:], nil, func(k, _ []byte) (bool, error) {
		return true, add(parseChangeKey(k[len(e.key):]))
	})
}
