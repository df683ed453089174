package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/testonly"
)

// Two histories (SPEC.md, "Resets"): somebody has written to a secondary that was
// restored from a backup, and a device's log is no longer the one that goes on. The
// other log is taken into a room of the device's store, which is laid out like the
// store itself, while the own one stays in use:
//
//	other    the log that goes on, while it comes, and what belongs to it
//	lost     the log that was given up last
//
// The change of rooms is two transactions. The first carries over what would be lost
// (carry.go) and marks the other room as ready. The second makes that the store
// (bbolt moves no bucket that the same transaction has written to). Nobody writes
// between them; where they are cut apart, the second comes when the vault is opened.
const (
	roomOther = "other"
	roomLost  = "lost"
)

// beside returns the vault in the room for the other log, which is made if it is not
// there. It knows this device's keys and uses its objects; what it is caught at is
// this vault's alarm, and a session of its is one of this vault.
func (v *Vault) beside() (*Vault, error) {
	side := newVault(v.dir, v.conf, v.device, v.keys)
	side.conf.Conflict = nil
	side.db, side.objects, side.closed, side.slot = v.db, v.objects, v.closed, v.slot
	side.main, side.room, side.nudge = v, roomOther, v.nudge
	return side, v.update(func(s *state) error {
		if s.tx.Within(roomOther) != nil {
			return nil
		}
		if _, err := s.tx.CreateBucket(roomOther); err != nil {
			return err
		}
		name := s.deviceName(v.keys.device)
		if err := fillStore(s.tx.Within(roomOther), v.device, v.keys, name); err != nil {
			return err
		}
		other, err := side.open(s.tx)
		if err != nil {
			return err
		}
		for _, k := range [][]byte{metaSelection, metaRetention, metaSequence} {
			if b := s.meta.Get(k); b != nil {
				if err := other.meta.Put(k, append([]byte(nil), b...)); err != nil {
					return err
				}
			}
		}
		return errors.Join(
			other.meta.Put(metaRebuild, localKey(0)), // own commits are believed, and nothing is signed yet
			other.feed.SetSequence(s.feed.Sequence()+jump),
			other.outbox.SetSequence(s.outbox.Sequence()+jump),
		)
	})
}

// dropBeside forgets what has come of the other log, but for the sequence numbers that
// this device has signed with there.
func (v *Vault) dropBeside() error {
	return v.update(func(s *state) error {
		tx := s.tx.Within(roomOther)
		if tx == nil {
			return nil
		}
		for _, name := range []string{bucketSent, bucketRefused} {
			b := tx.Bucket(name)
			if b == nil {
				continue
			}
			if k, _ := b.Last(nil); len(k) == 8 && be.Uint64(k) > s.sequence() {
				if err := s.meta.Put(metaSequence, slices.Clone(k)); err != nil {
					return err
				}
			}
		}
		return s.tx.DeleteBucket(roomOther)
	})
}

// alone waits until nobody else takes another log beside this one.
func (v *Vault) alone(ctx context.Context) (release func(), err error) {
	select {
	case v.moving <- struct{}{}:
		return func() { <-v.moving }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-v.closed:
		return nil, ErrClosed
	}
}

// both runs fn in a write transaction with the state of this vault and that of the
// one beside it, durable when it returns.
func (v *Vault) both(side *Vault, fn func(own, other *state) error) error {
	return v.storeError(v.db.Update(func(tx *store.Tx) error {
		own, err := v.open(tx)
		if err != nil {
			return err
		}
		other, err := side.open(tx)
		if err != nil {
			return err
		}
		if err := fn(own, other); err != nil {
			return err
		}
		return other.rejoin()
	}))
}

// change makes the other log the vault's, if it may be, with all that would be lost.
// There is no session meanwhile.
func (v *Vault) change(ctx context.Context, side *Vault, o *otherHistory) error {
	select {
	case v.slot <- struct{}{}:
		defer func() { <-v.slot }()
	case <-ctx.Done():
		return ctx.Err()
	case <-v.closed:
		return ErrClosed
	}
	if err := v.carryOver(side, o); err != nil {
		return err
	}
	v.held = heldBack{}
	if testonly.BetweenRooms != nil {
		if err := testonly.BetweenRooms(v.dir); err != nil {
			return err
		}
	}
	return v.endChange()
}

// carryOver is the first half of a change: from then on nothing is written before the
// second half is done.
func (v *Vault) carryOver(side *Vault, o *otherHistory) error {
	v.fence.Lock()
	defer v.fence.Unlock()
	var ids carriedIDs
	err := v.both(side, func(own, other *state) error {
		lost, all, err := own.mayChange(other, o)
		if err != nil {
			return err
		}
		c := &carrying{own: own, other: other, kept: lost.Kept, cut: min(lost.Size(), own.log.Size()), lost: all}
		for i := range all {
			in, err := own.beginsLike(&all[i])
			if err != nil {
				return err
			}
			c.cut = max(c.cut, in)
		}
		for _, f := range []func() error{c.log, c.outbox, c.settings, c.events} {
			if err := f(); err != nil {
				return err
			}
		}
		v.conf.Logger.Warn("the vault's history is another now, by its owner's word", "kept", lost.Kept, "was", own.log.Size(), "is", other.log.Size(), "left", c.left)
		ids = carriedIDs{own.outbox.Sequence(), other.outbox.Sequence()}
		return other.meta.Put(metaReady, present)
	})
	if err == nil || errors.Is(err, ErrReadOnly) && ids != (carriedIDs{}) {
		// In the second case perhaps; endChange will see.
		v.carried.Store(&ids)
		v.between.Store(true)
	}
	return err
}

// endChange is the second half of a change, if one is half done.
func (v *Vault) endChange() error {
	if !v.between.Load() {
		return nil
	}
	v.fence.Lock()
	defer v.fence.Unlock()
	if !v.between.Load() {
		return nil
	}
	if err := v.finishChange(); err != nil {
		return err
	}
	v.between.Store(false)
	v.kept.Store(nil)
	v.wakeAll()
	return nil
}

// carriedIDs says that what had local ids up to was has ids up to is by now.
type carriedIDs struct{ was, is uint64 }

// localNow returns the local id up to which the outbox has what it had up to one, which
// may be from before a change.
func (v *Vault) localNow(local uint64) uint64 {
	if c := v.carried.Load(); c != nil && local != 0 && local <= c.was {
		return c.is
	}
	return local
}

// finishChange makes the other room the store, if it is ready.
func (v *Vault) finishChange() error {
	return v.storeError(v.db.Update(func(tx *store.Tx) error {
		other := tx.Within(roomOther)
		if other == nil || other.Bucket(bucketMeta) == nil || other.Bucket(bucketMeta).Get(metaReady) == nil {
			return nil
		}
		if tx.Bucket(roomLost) != nil {
			if err := tx.DeleteBucket(roomLost); err != nil {
				return err
			}
		}
		if _, err := tx.CreateBucket(roomLost); err != nil {
			return err
		}
		if err := tx.Move(bucketLog, tx.Within(roomLost)); err != nil {
			return err
		}
		if err := tx.Within(roomOther).Move(bucketLog, tx); err != nil {
			return err
		}
		for _, b := range append(append([]string(nil), buckets...), laterBuckets...) {
			if b == bucketAlarms { // what a secondary was caught at stays
				continue
			}
			if err := tx.DeleteBucket(b); err != nil {
				return err
			}
			if err := tx.Within(roomOther).Move(b, tx); err != nil {
				return err
			}
		}
		return errors.Join(tx.Bucket(bucketMeta).Delete(metaReady), tx.DeleteBucket(roomOther))
	}))
}

// otherHistory is the error that ends a session with a secondary whose log is not
// this device's, and has the owner's word for it.
type otherHistory struct {
	id   commitlog.CommitID // of the commit with the reset
	leaf commitlog.Hash
}

func (o *otherHistory) Error() string {
	return fmt.Sprintf("the secondary goes on with another history, reset in commit %d", o.id)
}

// mayChange returns the log that was lost and that this device's is of, and all that were
// lost by resets that it does not know, if the device may change over to the other log
// (SPEC.md, "Resets", 1 to 4).
func (s *state) mayChange(other *state, o *otherHistory) (own *commitlog.LostLog, all []commitlog.LostLog, err error) {
	refuse := func(err error, format string, args ...any) (*commitlog.LostLog, []commitlog.LostLog, error) {
		return nil, nil, &commitlog.CommitError{ID: o.id, Err: err, Reason: fmt.Sprintf(format, args...)}
	}
	header, err := other.log.Header(o.id)
	if errors.Is(err, store.ErrNotFound) || err == nil && commitlog.LeafHash(header) != o.leaf {
		return refuse(commitlog.ErrFork, "the reset that the secondary has shown is not in its log")
	}
	if err != nil {
		return nil, nil, err
	}
	news, has, err := s.news(other)
	if err != nil {
		return nil, nil, err
	}
	if !has || len(news) == 0 {
		return refuse(commitlog.ErrControlFork, "a reset that this device knows is not in the secondary's log")
	}
	if err := s.admittedIn(other, o); err != nil {
		return nil, nil, err
	}
	mine, err := s.endedBy(other, news)
	if err != nil {
		return nil, nil, err
	}
	if mine == nil {
		return refuse(commitlog.ErrControlFork, "no reset names the history that this device has")
	}
	for i := range news {
		all = append(all, news[i].lost)
	}
	return &mine.lost, all, nil
}

// news returns the resets of the other log that this one has not, and whether the other
// has all of this one's.
func (s *state) news(other *state) (news []reset, all bool, err error) {
	known, err := s.resets()
	if err != nil {
		return nil, false, err
	}
	theirs, err := other.resets()
	if err != nil {
		return nil, false, err
	}
	for _, r := range theirs {
		if i := indexOf(known, r); i >= 0 {
			known = append(known[:i:i], known[i+1:]...)
		} else {
			news = append(news, r)
		}
	}
	return news, len(known) == 0, nil
}

// endedBy returns which of the other log's resets has ended this one, nil if none has:
// the one that knew most of it.
func (s *state) endedBy(other *state, resets []reset) (mine *reset, err error) {
	for i := range resets {
		lost := &resets[i].lost
		size := min(s.log.Size(), lost.Size())
		if size <= lost.Kept || size < s.log.Base() || mine != nil && lost.Size() < mine.lost.Size() {
			continue
		}
		roots, err := lost.RootsAt(other.log, size)
		if err != nil {
			return nil, err
		}
		own, err := s.log.RootAt(size)
		if err != nil {
			return nil, err
		}
		if own == roots[0] {
			mine = &resets[i]
		}
	}
	return mine, nil
}

// admittedIn returns an error unless every device that this log admits, or has shut
// out, is so in the other log.
func (s *state) admittedIn(other *state, o *otherHistory) error {
	refuse := func(id fmt.Stringer, what string) error {
		return &commitlog.CommitError{ID: o.id, Err: commitlog.ErrControlFork, Reason: fmt.Sprintf("device %s %s", id, what)}
	}
	return s.log.Authors(func(id deviceID, a *commitlog.Author) error {
		b, err := other.log.Author(id)
		switch {
		case err != nil:
			return err
		case b == nil:
			return refuse(id, "is not admitted in the secondary's log")
		case !sameScope(a.Scope, b.Scope):
			return refuse(id, "may do something else in the secondary's log")
		case a.Revoked != 0 && b.Revoked == 0:
			return refuse(id, "was revoked, and is not in the secondary's log")
		}
		return nil
	})
}
