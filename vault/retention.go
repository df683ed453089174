package vault

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/commitlog/store"
)

// A Retention says which versions of records this device keeps the content of,
// beside those that are live. The zero value keeps all. Where both numbers are set a
// version stays that either keeps: the newest Versions of each record, and all that
// were superseded in the last Days days.
//
// Whatever it says, these stay: what is live; every version of a record of which
// changes wait to be sent, or that has several versions (the one that they come from
// among them); what is shown in place of a version that cannot be used; removals,
// which hold no value. So does that there was a version, when, and by whom: the log
// is verified as ever. It concerns this device alone: other devices have their own,
// and the secondary keeps superseded values for some days, see SPEC.md, "Content".
type Retention struct {
	// Versions is how many versions of a record are kept, the present one counted
	// and removals not: with 1, a record that is removed can be brought back, and
	// nothing older. 0: their number does not count.
	Versions int
	// Days is for how many days after it was superseded, as far as this device knew, a
	// version is kept. 0: its age does not count.
	Days int
}

// All reports whether everything is kept.
func (r Retention) All() bool { return r == Retention{} }

// Compacted says what was dropped on this device.
type Compacted struct {
	Versions int   // whose content is here no more
	Bytes    int64 // of that
}

// SetRetention changes which versions this device keeps. It is durable when
// SetRetention returns, and carried out by [Vault.Compact] or by the next sync;
// later by itself, a while after there is more to drop. What is dropped does not
// come back when more is to be kept again. Numbers below zero are [ErrInvalid].
func (v *Vault) SetRetention(ctx context.Context, r Retention) error {
	if r.Versions < 0 || r.Versions > math.MaxInt32 || r.Days < 0 || r.Days > maxDays {
		return opError("retention", "", "", fmt.Errorf("%w: %d versions, %d days", ErrInvalid, r.Versions, r.Days))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.update(func(s *state) error {
		before, err := s.retention()
		if err != nil || before == r {
			return err
		}
		for _, k := range [][]byte{metaRetention, metaCompact, metaCompacted} {
			if err := s.meta.Delete(k); err != nil {
				return err
			}
		}
		if r.All() {
			return nil
		}
		s.queued = true // wakes a session
		b := be.AppendUint32(nil, uint32(r.Versions))
		return s.meta.Put(metaRetention, be.AppendUint32(b, uint32(r.Days)))
	})
}

// maxDays is a hundred years.
const maxDays = 36500

// Retention returns which versions this device keeps.
func (v *Vault) Retention(ctx context.Context) (r Retention, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	err = v.view(func(s *state) (err error) {
		r, err = s.retention()
		return err
	})
	return r, err
}

// retention returns what is stored, as versions u32 ‖ days u32, under the key
// "retention" of the bucket meta; nothing is for the zero value.
func (s *state) retention() (Retention, error) {
	b := s.meta.Get(metaRetention)
	if b == nil {
		return Retention{}, nil
	}
	if len(b) != 8 {
		return Retention{}, fmt.Errorf("%w: retention", ErrDamaged)
	}
	return Retention{Versions: int(be.Uint32(b)), Days: int(be.Uint32(b[4:]))}, nil
}

// Compact drops what [Vault.SetRetention] does not keep, now and to the end. Another
// call, or a sync, goes on where this one is cut off. The store keeps its size and
// uses the space again; see [Shrink].
func (v *Vault) Compact(ctx context.Context) (done Compacted, err error) {
	if err := v.update(func(s *state) error { return s.beginCompaction() }); err != nil {
		return done, err
	}
	for more := true; more && err == nil; {
		if err = ctx.Err(); err == nil {
			more, err = v.compactStep(&done)
		}
	}
	return done, err
}

// Shrink gives the space that is free in the store of the vault in dir back to the
// system: it writes the store anew beside the old one, and puts it in its place. It
// can be cut off at any time. It returns the store's size before and after;
// [ErrInUse] where the vault is open.
func Shrink(ctx context.Context, dir string) (before, after int64, err error) {
	v, err := Open(ctx, dir, Config{}) // says what else may be wrong here
	if err == nil {
		err = v.Close()
	}
	if err != nil {
		return 0, 0, err
	}
	before, after, err = store.Rewrite(filepath.Join(dir, storeFile), store.Options{})
	return before, after, v.storeError(err)
}

// over reports whether a version that was superseded at a time, in Unix ms, is no
// longer kept for its age.
func (r Retention) over(at, now uint64) bool {
	return now >= at && now-at >= uint64(r.Days)*uint64(24*time.Hour/time.Millisecond)
}
