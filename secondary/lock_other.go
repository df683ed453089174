//go:build !unix

package secondary

import "os"

// lockFile opens a file. Here the lock on the store alone keeps a second process
// out.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
