package vault

import (
	"errors"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
)

// MayPass reports whether the alarm may come to an end without its person: a reset by
// the vault's owner may explain it, or the secondary had gone back and may catch up.
// Each sync looks whether it has, and says nothing to the secondary but what it has
// verified; another alarm keeps a sync from dialling at all.
func (a *Alarm) MayPass() bool { return explainable(a.Kind) }

// caughtUp takes back an alarm that has passed, and has the session begin anew, as one
// that only looked for that.
func (e *engine) caughtUp() error {
	if err := e.v.goOn(true); err != nil {
		return err
	}
	e.v.conf.Logger.Warn("the secondary has caught up, and the sync goes on", "alarm", e.standing)
	e.standing, e.leave = nil, true
	return nil
}

// passed reports whether the alarm that stands was about the beginning of this device's
// own log, and no more: the secondary had said that it has fewer commits, and that is
// the only thing that was wrong with it. Called where the secondary has just named a
// log that goes on where this one ends. Nothing that it has ever said contradicts
// that, so a device that had not asked meanwhile would know no more than this one
// (SPEC.md, "What is checked").
func (s *state) passed() (bool, error) {
	a, err := s.alarm()
	if err != nil || a == nil || !errors.Is(a.Kind, commitlog.ErrRollback) || !a.Said.Bound || a.Said.Size >= a.Size {
		return false, err
	}
	for _, x := range []struct {
		size uint64
		root commitlog.Hash
	}{{a.Said.Size, a.Said.Root}, {a.Size, a.Root}} {
		root, err := s.log.RootAt(x.size)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil // below the base: nobody can tell
		}
		if err != nil || root != x.root {
			return false, err
		}
	}
	return true, nil
}
