//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// What a server is told while it runs, beside SIGINT and SIGTERM.
const (
	signalReload = syscall.SIGHUP
	signalDebug  = syscall.SIGUSR1
)

// subscribe returns the channel on which those come.
func subscribe() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 2) // for one of each at the same moment
	signal.Notify(c, signalReload, signalDebug)
	signal.Ignore(syscall.SIGXFSZ) // a limit on file sizes is an error of the write, as a full disk is
	return c, func() { signal.Stop(c) }
}
