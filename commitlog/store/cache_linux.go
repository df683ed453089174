package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropCache makes the system forget what it holds of a file that nobody has mapped,
// but for what is not on the disk yet. After a failed fsync it may hold, as if they
// were on the disk, pages that are not (see fsync(2)). A file system that keeps
// nothing elsewhere, as tmpfs, does not care.
func dropCache(f *os.File) {
	// It has no errors but for arguments that make no sense.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
