//go:build unix && !solaris && !aix && !android

package store

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// locks says whether lock does anything.
const locks = true

// lock takes the lock that bbolt takes, which is the same one for it: it belongs
// to the open file. It waits for timeout, and returns ErrInUse then.
func lock(f *os.File, timeout time.Duration) error {
	for end := time.Now().Add(timeout); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return ErrInUse
		}
	}
}

// unlock lets go of bbolt's lock. Closing the file alone does not while a
// memory map of it is left.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
