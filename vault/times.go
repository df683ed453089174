package vault

import (
	"cmp"
	"slices"
	"time"
)

// A moment is when a record expires or becomes available.
type moment struct {
	at  uint64 // Unix ms
	key recordKey
}

// moments are those that a subscription has still to tell of, in their order:
// all of them, or, so that memory stays bounded, the nearest ones. They say
// nothing that the records do not, so what is told is looked up then.
type moments struct {
	prefix []byte // of record keys
	told   uint64 // moments up to this one were told, or are not to be
	list   []moment
	far    uint64 // moments from here on are not in the list; 0: all are
}

// maxMoments bounds the moments that are held.
const maxMoments = 1024

// momentWait bounds how long a subscription waits for a moment without looking
// at the clock: a device may sleep, and its clock may be set.
const momentWait = time.Minute

func newMoments(v *Vault, namespace string) *moments {
	m := &moments{told: millis(v.conf.Now()), far: 1} // 1: nothing was looked up yet
	if namespace != "" {
		tag := v.keys.tag(namespace)
		m.prefix = tag[:]
	}
	return m
}

// note takes the moments of a record that are still to come at now. Those before
// have been told with the record.
func (m *moments) note(s *state, key recordKey, now uint64) error {
	m.list = slices.DeleteFunc(m.list, func(x moment) bool { return x.key == key && x.at <= now })
	if s.timed.Get(key[:]) == nil {
		return nil
	}
	e, err := s.record(key)
	if err == nil && e != nil {
		m.add(e, now)
	}
	return err
}

func (m *moments) add(e *entry, after uint64) {
	for _, at := range []uint64{e.expires, e.available} {
		if at <= after || m.far != 0 && at >= m.far {
			continue
		}
		x := moment{at, e.key}
		i, known := slices.BinarySearchFunc(m.list, x, func(a, b moment) int {
			return cmp.Or(cmp.Compare(a.at, b.at), slices.Compare(a.key[:], b.key[:]))
		})
		if !known {
			m.list = slices.Insert(m.list, i, x)
		}
	}
	// What happens at one time stays together.
	if n := maxMoments; len(m.list) > 2*n {
		for n < len(m.list) && m.list[n].at == m.list[n-1].at {
			n++
		}
		if n < len(m.list) {
			m.far = m.list[n].at
			m.list = m.list[:n]
		}
	}
}

// next returns when the next moment is, 0 if there is none.
func (m *moments) next(v *Vault) (uint64, error) {
	if len(m.list) == 0 && m.far != 0 {
		m.far = 0
		err := v.view(func(s *state) error {
			m.list = nil
			return s.timed.ScanPrefix(m.prefix, nil, func(k, _ []byte) (bool, error) {
				e, err := s.record(recordKey(k))
				if err == nil && e != nil {
					m.add(e, m.told)
				}
				return true, err
			})
		})
		if err != nil {
			return 0, err
		}
	}
	if len(m.list) == 0 {
		return 0, nil
	}
	return m.list[0].at, nil
}

// due returns the records that have expired or become available by now, as they
// are then.
func (m *moments) due(v *Vault, prefix string) (out []*Record, err error) {
	now := millis(v.conf.Now())
	n := 0
	for n < len(m.list) && n < watchBatch && m.list[n].at <= now {
		n++
	}
	if n == 0 {
		return nil, nil
	}
	err = v.view(func(s *state) error {
		out = nil
		for _, x := range m.list[:n] {
			e, err := s.record(x.key)
			if err != nil {
				return err
			}
			if e == nil || e.expires != x.at && e.available != x.at {
				continue // it was written anew
			}
			rec, err := s.event(x.key, prefix, now)
			if err != nil {
				return err
			}
			if rec != nil {
				out = append(out, rec)
			}
		}
		return nil
	})
	m.told = max(m.told, m.list[n-1].at)
	m.list = m.list[n:]
	return out, err
}

// wait returns a channel that gets a value when it is time to look again for
// moments, and what releases it.
func (m *moments) wait(v *Vault) (<-chan time.Time, func(), error) {
	at, err := m.next(v)
	if err != nil || at == 0 {
		return nil, func() {}, err
	}
	t := time.NewTimer(max(min(fromMillis(at).Sub(v.conf.Now()), momentWait), 0))
	return t.C, func() { t.Stop() }, nil
}
