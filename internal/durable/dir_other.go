//go:build !unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
)

// syncDir does nothing: see the package comment.
func syncDir(string) error { return nil }

// unsupported takes every error but a name that is taken or missing for one of
// a file system without links.
func unsupported(err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
}
