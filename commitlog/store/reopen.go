package store

import (
	"errors"
	"fmt"
	"os"
)

// Reopen makes a store that is read-only (see [ErrReadOnly]) writable again. It does
// what ending the program and starting it would do, and one thing more: the system
// is made to forget what it holds of the file, so that what is read from here on is
// what the disk has, be that before or after the transaction that failed. Where the
// file cannot be opened for writing, or not be brought to the disk, the store stays as
// it is and an error says why. Of a store that is in order nothing is changed.
//
// It waits for the Views under way, and others wait for it. A [Tx.WriteTo] ends for that.
func (d *DB) Reopen() (err error) {
	d.endMu.Lock()
	defer d.endMu.Unlock()
	if d.closed {
		return fmt.Errorf("opening store again: %w", os.ErrClosed)
	}
	if d.broken.Load() == nil {
		return nil
	}
	// Opened before the other is closed: with the last descriptor gone, or on a disk
	// that is read-only by now, reading has to go on.
	file, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening store again: %w", err)
	}
	handed := false
	defer func() {
		if !handed {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := file.Sync(); err != nil && !d.options.NoSync {
		return fmt.Errorf("opening store again: %w", err)
	}
	// No Update runs its fn any more, so no View can be held up by one.
	d.opening.Store(true)
	defer d.opening.Store(false)
	d.openMu.Lock()
	defer d.openMu.Unlock()
	if d.bolt != nil {
		// What it says at its end makes no difference: nothing is left to be written.
		_ = d.bolt.Close()
		d.bolt, d.file = nil, nil
	}
	dropCache(file)
	o := d.options
	o.file, handed = file, true
	fresh, moved, err := open(d.path, o)
	if err == nil && moved {
		err = fmt.Errorf("%w: another file has its name", ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("opening store again: %w", err)
	}
	d.bolt, d.file = fresh.bolt, fresh.file
	d.durable.Store(fresh.durable.Load())
	d.broken.Store(nil)
	return nil
}
