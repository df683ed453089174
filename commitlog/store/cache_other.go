//go:build !linux

package store

import "os"

// dropCache is for systems that keep, as if they were on the disk, pages that could
// not be written.
func dropCache(*os.File) {}
