//go:build unix && !solaris && !aix && !android

package store

import (
	"os"
	"syscall"
)

// unlock lets go of bbolt's lock. Closing the file alone does not while a
// memory map of it is left.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
