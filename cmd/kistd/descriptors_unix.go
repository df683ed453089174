//go:build unix

package main

import "syscall"

// descriptors returns how many files and connections this process may have open.
func descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return manyDescriptors
	}
	return int(min(uint64(r.Cur), manyDescriptors))
}
