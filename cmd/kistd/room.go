package main

// maxDescriptors is more than a server has a use for.
const maxDescriptors = 2 * maxSessions

// Sessions at a time: without a setting, and the most that can be set. Each takes some
// 20 KiB while it does nothing.
const (
	defaultSessions = 4096
	maxSessions     = 1_000_000
)

// room returns how many connections a server takes that may have so many files open:
// sessions, of which there are at most as many as wanted, and such as are none. What is left is for files, which nobody from outside is to use up.
func room(descriptors, wanted int) (sessions, waiting int) {
	left := descriptors - min(64, descriptors/4)
	waiting = max(1, min(1024, left/4))
	return max(1, min(wanted, left-waiting)), waiting
}
