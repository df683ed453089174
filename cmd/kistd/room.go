package main

// manyDescriptors is more than a server has a use for.
const manyDescriptors = 1 << 16

// room returns how many connections a server takes that may have so many files open:
// sessions, and such as have not asked for one yet. What is left is for files, which
// nobody from outside is to use up.
func room(descriptors int) (sessions, waiting int) {
	left := descriptors - min(64, descriptors/4)
	waiting = max(1, min(1024, left/4))
	return max(1, min(4096, left-waiting)), waiting
}
