package store

import "errors"

// CloseFile takes the file away from under bbolt, so that the next write fails.
func CloseFile(d *DB) { d.file.Close() }

// Unsettle makes the newest transaction one whose fsync has failed.
func Unsettle(d *DB) {
	err := errors.New("fsync")
	d.durable.Add(^uint64(0))
	d.broken.Store(&err)
}
