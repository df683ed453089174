package store

import "time"

// Observe has fn told of each transaction that has become durable, and how long that
// took: from its last write to the end of its fsync. One in which nothing was written
// is none. Writers wait for fn, which may not use the store. Nil: nobody is told, as at
// first.
func (d *DB) Observe(fn func(commit time.Duration)) { d.observer.Store(&fn) }

// committed tells the observer of a transaction whose last write was at a time.
func (d *DB) committed(since time.Time) {
	if fn := d.observer.Load(); fn != nil && *fn != nil {
		(*fn)(time.Since(since))
	}
}

// Waiting returns how many Updates wait behind the transaction under way.
func (d *DB) Waiting() int {
	d.queueMu.Lock()
	defer d.queueMu.Unlock()
	return len(d.queue)
}
