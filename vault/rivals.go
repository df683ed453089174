package vault

import (
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

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
			header, err := s.log.Header(h.at().Commit)
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
		return s.log.Named(h.at())
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
