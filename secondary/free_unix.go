//go:build linux || darwin || freebsd

package secondary

import "golang.org/x/sys/unix"

// Free returns how many bytes can still be written where the directory is.
func (d *DataDir) Free() (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
