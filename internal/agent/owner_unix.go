//go:build unix

package agent

import (
	"io/fs"
	"os"
	"syscall"
)

// owned reports whether a file belongs to the user.
func owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// private reports whether only the owner has rights.
func private(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }
