//go:build !(linux || darwin || freebsd)

package secondary

import "errors"

// Free is not known here.
func (d *DataDir) Free() (uint64, error) { return 0, errors.ErrUnsupported }
