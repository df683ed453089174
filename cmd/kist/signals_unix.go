//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// A limit on file sizes is an error of the write, as a full disk is.
func ignoreSignals() { signal.Ignore(syscall.SIGXFSZ) }
