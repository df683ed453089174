// Package ballast lets a program with a small heap collect its garbage less often.
//
// Go collects when the heap has doubled. A server whose own heap is a few megabytes does
// so many times a second under load, and each time the stacks of all its goroutines are
// looked through and shrunk. Memory that is reserved and never touched counts for that
// rule and costs nothing itself: the system has no pages for it. So the heap may have that
// much more garbage, however large it is; GOGC would be a share of what is alive, and with
// many connections a large one.
package ballast

import (
	"os"
	"runtime"
)

// Server is what suits a secondary, in bytes.
const Server = 12 << 20

// Hold reserves n bytes until release is called. Where the environment says how Go is to
// collect (GOGC, GOMEMLIMIT), it does nothing.
func Hold(n int) (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	b := make([]byte, n)
	return func() { runtime.KeepAlive(b) }
}
