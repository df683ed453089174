package store

import (
	"errors"
	"os"
)

// ReadOnly returns [ErrReadOnly] and why where an Update has failed so that no other is
// taken before [DB.Mend] or [DB.Reopen].
func (d *DB) ReadOnly() error {
	if why := d.broken.Load(); why != nil {
		return readOnly(*why)
	}
	return nil
}

// Mend is [DB.Reopen] of a store that is read-only, if its disk takes room bytes: opening
// it again holds readers up, and with less room the next few transactions would fail
// again. Of a store that is in order nothing is changed, and the disk is not asked.
func (d *DB) Mend(room int64) error {
	if d.broken.Load() == nil {
		return nil
	}
	if err := tryDisk(d.path+".try", room); err != nil {
		return err
	}
	return d.Reopen()
}

// tryDisk writes a file and brings it to the disk. One that is left by a process that
// was killed is written over by the next try, and is of no account until then.
func tryDisk(path string, room int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for at := int64(0); at < room && err == nil; at += int64(len(buf)) {
		_, err = f.WriteAt(buf, at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}
