package main

import (
	"fmt"
	"io"
	"time"
)

// checks counts comparisons and prints those that fail.
type checks struct {
	out            io.Writer
	since          time.Time
	passed, failed int
}

// shownFailures is how many failures are printed; one cause makes many.
const shownFailures = 40

// that counts a comparison. It reports whether it holds.
func (c *checks) that(ok bool, format string, args ...any) bool {
	if ok {
		c.passed++
		return true
	}
	c.failed++
	if c.failed <= shownFailures {
		fmt.Fprintf(c.out, "FAILED after %v: %s\n", time.Since(c.since).Round(time.Millisecond), fmt.Sprintf(format, args...))
	}
	return false
}
