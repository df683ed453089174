//go:build !(linux || darwin || freebsd)

package main

import (
	"errors"
	"io/fs"
)

func diskSpace(string) (free, total uint64, err error) {
	return 0, 0, errors.New("this system does not say")
}

func sameOwner(a, b fs.FileInfo) bool { return true }

func rootElsewhere(string) bool { return false }
