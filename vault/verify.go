package vault

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// After a full sync has compared the log it looks at the objects: their files may
// be lost or spoilt where the log is not. It goes through the live changes in the
// order of the log, a part in each step of the engine, and reads the files outside
// of any transaction. What is found is put on the list of what is missing and
// fetched before the search goes on, so that the list stays short. Its place is
// the session's: what is interrupted begins anew with the log.
//
// A file that is here and spoilt is to be here, whatever the selection says:
// somebody asked for it. One that is not here is missing if the selection keeps it.

const (
	verifyLook  = 4096     // changes looked at in a step …
	verifyBytes = 16 << 20 // … and bytes of their objects read; the last may go beyond
)

// A kept object is one whose file is here.
type keptObject struct {
	id   commitlog.ChangeID
	hash commitlog.Hash
}

// verifies reports whether the search has its turn.
func (e *engine) verifies() bool {
	behind := e.size < e.first || e.parts.Partial()
	return e.verifying && e.phase == phaseBound && !behind && e.wanting == 0 && !e.sweeping
}

// verify goes on with the search, by one part.
func (e *engine) verify() error {
	var kept []keptObject
	lost := make(map[commitlog.ChangeID]byte) // what is to be noted with it, see want
	var next commitlog.ChangeID
	var more bool
	err := e.v.view(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		looked, bytes := 0, uint64(0)
		next, more, err = s.walk(e.verified, func(tag keys.Tag, id commitlog.ChangeID) (bool, error) {
			looked++
			again := looked < verifyLook
			if !k.has(tag) || !s.log.Live(tag, id) {
				return again, nil
			}
			ch, blob, err := s.log.Entry(id)
			if err != nil || !ch.HasObject() {
				return again, err
			}
			what, err := s.lacks(id, &ch, blob != nil, 0)
			if err != nil {
				return false, err
			}
			if what != 0 {
				lost[id] = 0
			}
			if _, whole, err := s.v.objects.Have(ch.ObjectHash); err != nil || !whole {
				return again, err
			}
			kept = append(kept, keptObject{id, ch.ObjectHash})
			bytes += ch.ObjectSize
			return again && bytes < verifyBytes, nil
		})
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range kept {
		good, err := e.v.objects.Verify(o.hash)
		if err == nil && !good {
			// It goes first: on the list it would be found to be here. If there is
			// no more than this, it is missing to whoever reads it, or looks again.
			err = e.v.objects.Remove(o.hash)
			lost[o.id] = wantAsked
		}
		if err != nil {
			return err
		}
	}
	e.verified, e.verifying = next, more
	if len(lost) == 0 {
		return nil
	}
	e.planned = false
	return e.v.update(func(s *state) error {
		for id, asked := range lost {
			header, err := s.log.Header(id.Commit)
			if err != nil {
				return err
			}
			if !s.log.Live(keys.Tag(header[6:22]), id) {
				continue
			}
			ch, blob, err := s.log.Entry(id)
			if err != nil {
				return err
			}
			if err := s.want(id, &ch, blob != nil, asked); err != nil {
				return err
			}
		}
		e.wants(s)
		return nil
	})
}
