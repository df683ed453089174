package vault

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

type deviceID = keys.DeviceID

// A reset is one that stands in the log.
type reset struct {
	at     commitlog.CommitID
	stated uint64 // control statements up to and with it
	lost   commitlog.LostLog
}

// resets returns the resets in the log, in order.
func (s *state) resets() (out []reset, err error) {
	var open *reset
	err = s.statements(0, func(id commitlog.ChangeID, st *commitlog.Statement) error {
		if st.Reset == nil {
			return nil
		}
		if open == nil {
			open = &reset{at: id.Commit}
		}
		if err := open.lost.Add(st.Reset); err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		if !st.Reset.More {
			open.stated = st.Number
			out, open = append(out, *open), nil
		}
		return nil
	})
	return out, err
}

// statements calls fn with each control statement after a commit, in order.
func (s *state) statements(after commitlog.CommitID, fn func(id commitlog.ChangeID, st *commitlog.Statement) error) error {
	return s.log.EachLive(s.v.keys.control, func(id commitlog.ChangeID) error {
		if id.Commit <= after {
			return nil
		}
		h, err := s.openChange(id)
		if err != nil {
			return err
		}
		if h == nil {
			return fmt.Errorf("%w: a control statement does not open", ErrDamaged)
		}
		st, err := commitlog.ParseStatement(h.payload.Value)
		if err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		return fn(id, st)
	})
}

// indexOf returns where the reset is among others, -1 if it is not: that of the same
// lost log, from wherever that is told. A leaf says all that came before it.
func indexOf(all []reset, r reset) int {
	return slices.IndexFunc(all, func(o reset) bool {
		return o.lost.Size() == r.lost.Size() && o.lost.Leaves[len(o.lost.Leaves)-1] == r.lost.Leaves[len(r.lost.Leaves)-1]
	})
}

func sameScope(a, b []keys.ScopeEntry) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

// meets reports whether one of the log's resets has ended the log that a floor is of
// (SPEC.md, "Resets"); [ErrNoBase] if the log's base keeps that from being told.
func (s *state) meets(size uint64, root commitlog.Hash, stated uint64) (bool, error) {
	all, err := s.resets()
	if err != nil {
		return false, err
	}
	unknown := false
	for i := range all {
		r := &all[i]
		if size <= r.lost.Kept || size > r.lost.Size() || r.stated <= stated {
			continue
		}
		if r.lost.Kept < s.log.Base() {
			unknown = true
			continue
		}
		roots, err := r.lost.RootsAt(s.log, size)
		if err != nil {
			return false, err
		}
		if roots[0] == root {
			return true, nil
		}
	}
	if unknown {
		return false, errFloorReset
	}
	return false, nil
}

// fork returns up to which size both logs are the same. It returns ErrNoMerge where
// one continues the other, and ErrNotAll where this log's headers do not go down to it.
func fork(own, other *state) (uint64, error) {
	size := min(own.log.Size(), other.log.Size())
	same := func(n uint64) (bool, error) {
		a, err := own.log.RootAt(n)
		if err != nil {
			return false, err
		}
		b, err := other.log.RootAt(n)
		return a == b, err
	}
	if is, err := same(size); err != nil || is {
		return 0, errors.Join(err, noMerge(is))
	}
	low, high := max(own.log.Base(), 1), size // same at low, not at high
	if high < low {
		return 0, fmt.Errorf("%w: its history is not verified from the first commit on", ErrNotAll)
	}
	if is, err := same(low); err != nil {
		return 0, err
	} else if !is {
		if own.log.Base() > 0 {
			return 0, fmt.Errorf("%w: its history is not verified from the first commit on", ErrNotAll)
		}
		return 0, &commitlog.CommitError{ID: 1, Err: commitlog.ErrFork, Reason: "the secondary has another first commit"}
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		is, err := same(mid)
		if err != nil {
			return 0, err
		}
		if is {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}

func noMerge(is bool) error {
	if is {
		return ErrNoMerge
	}
	return nil
}
