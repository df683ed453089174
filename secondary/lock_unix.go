//go:build unix

package secondary

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kistvault/kist/commitlog/store"
)

// lockFile opens a file and locks it until it is closed, or the process ends.
// It returns store.ErrInUse where another holds it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = store.ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
