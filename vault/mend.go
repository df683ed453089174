package vault

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

const (
	// mendRoom is how much must be free for writing to begin again after a write
	// that has failed.
	mendRoom = 1 << 20
	// mendTime is how long a Run waits that could not write.
	mendTime = 3 * time.Second
)

// mend has a store write again that is read-only after a failed write, as on a full
// disk, if it can; in one that is in order it changes nothing. There is nobody who tries
// meanwhile: who has to write or read does, and a Run now and then.
//
// The store is then as it would be after a restart. Whether the transaction that failed
// is in it was not known to anybody, so all that wait for something look again. What the
// vault holds in memory is either no more than a restart would find, or belongs to a
// session, which the failure has ended; between is looked at by the next update.
func (v *Vault) mend() error {
	if v.db.ReadOnly() == nil {
		return nil
	}
	if v.main != nil {
		v = v.main
	}
	v.mendMu.Lock()
	defer v.mendMu.Unlock()
	if v.db.ReadOnly() == nil {
		return nil // somebody else was faster
	}
	if err := v.db.Mend(mendRoom); err != nil {
		return v.storeError(fmt.Errorf("%w: %w", ErrReadOnly, err))
	}
	v.conf.Logger.Info("the store takes writes again")
	v.wakeAll()
	return nil
}

// wakeAll has everybody look again who waits for something in the store.
func (v *Vault) wakeAll() {
	v.listener.wake()
	v.resolvers.disputed.Store(true)
	v.changedMu.Lock()
	defer v.changedMu.Unlock()
	close(v.changed)
	v.changed = make(chan struct{})
	close(v.unsent)
	v.unsent = make(chan struct{})
}

// noRoom reports whether an error is of this device's disk, and may pass.
func noRoom(err error) bool {
	for _, e := range []error{ErrReadOnly, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
