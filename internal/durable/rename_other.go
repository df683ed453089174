//go:build !linux && !darwin

package durable

import "errors"

func renameNoReplace(oldpath, newpath string) error { return errors.ErrUnsupported }
