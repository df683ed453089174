package admin

import "time"

// SetStall changes how long who takes a copy of the store may take nothing, and returns
// what changes it back.
func SetStall(d time.Duration) (back func()) {
	before := stall
	stall = d
	return func() { stall = before }
}
