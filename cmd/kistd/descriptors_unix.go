//go:build unix

package main

import "syscall"

// descriptors returns how many files and connections this process may have open. The
// runtime has raised the limit at its start, as far as that is allowed.
func descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return maxDescriptors
	}
	return int(min(uint64(r.Cur), maxDescriptors))
}
