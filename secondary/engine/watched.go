package engine

import "time"

// A Watched engine says how it gets on with its disk.
type Watched interface {
	// Observe has fn told of each transaction that has become durable, and how long
	// that took; nil: nobody is told. Writers wait for fn, which may not use the
	// engine.
	Observe(fn func(commit time.Duration))
	// Waiting returns how many calls wait to write.
	Waiting() int
}
