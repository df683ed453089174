package vault

import (
	"bytes"

	"github.com/kistvault/kist/secondary/wire"
)

// look sees what others have done to the store: a new selection, content that a
// reader asked for. Where the secondary was asked for other namespaces than are
// kept now, or a full sync was asked for, the session is bound anew.
func (e *engine) look() (out []wire.Message, err error) {
	err = e.v.view(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		e.wants(s)
		e.sweeping = s.meta.Get(metaSweep) != nil
		if e.compacting, err = s.compactDue(); err != nil {
			return err
		}
		if e.full && e.bottom == 0 || !bytes.Equal(k.raw, e.selection) {
			out = e.again()
		}
		return nil
	})
	return out, err
}

// wants notes whether anything is missing.
func (e *engine) wants(s *state) {
	if e.wanting = 0; !s.missing.Empty() {
		e.wanting = 1
	}
}

// filled reports whether all content is here that is to be.
func (e *engine) filled() bool { return e.wanting == 0 && !e.sweeping && !e.verifying && !e.compacting }

// fill asks for content that is to be here and is not: what is missing, and,
// when that has come, what the sweep finds, and a full sync.
func (e *engine) fill() (out []wire.Message, err error) {
	for !e.filled() {
		if e.wanting > 0 {
			if out, err = e.fetch(); err != nil || len(out) > 0 || e.wanting > 0 {
				return out, err
			}
		}
		switch {
		case e.sweeping:
			forgot := 0
			err := e.v.update(func(s *state) (err error) {
				forgot = 0
				e.sweeping, err = s.sweep(&forgot)
				e.wants(s)
				return err
			})
			if err != nil {
				return nil, err
			}
			e.report.Forgotten += forgot
			e.planned = false
		case e.compacting:
			var done Compacted
			if e.compacting, err = e.v.compactStep(&done); err != nil {
				return nil, err
			}
			e.report.Compacted += done.Versions
		case e.verifying:
			if err := e.verify(); err != nil || e.wanting == 0 {
				return nil, err // what is left has its turn in the next step
			}
		}
	}
	return nil, nil
}
