// Package durable changes files and directories so that a change is on the disk
// when the call returns.
//
// The order is always the same: a file's bytes are synced before its name
// appears, and the directory is synced after the name has changed. When a call
// returns nil, the change survives a crash of the machine. When it returns an
// error, the change may have happened or not, and the caller looks again.
//
// A failed sync is never tried again: the kernel may have dropped the pages
// that it could not write, and a second sync would report success for them.
//
// BUG(durable): On Windows a directory cannot be synced; there a name is as durable as
// the file system's journal makes it.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Op is a step that can fail or be the last one before a crash.
type Op string

// The steps, as the hook sees them.
const (
	OpMkdir   Op = "mkdir"
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpLink    Op = "link"
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpSyncDir Op = "sync-dir"
)

// Hook is for tests: nil in every program. It is called before each step with
// done false, and after it, if it succeeded, with done true. path is the file
// that the step makes, changes or removes.
//
// If Hook returns an error, the step fails with it: not persisted when done is
// false, persisted but unanswered when done is true. If Hook panics, the caller
// is gone as in a crash, and nothing is cleaned up.
var Hook func(op Op, done bool, path string) error

func step(op Op, path string, do func() error) error {
	if Hook == nil {
		return do()
	}
	if err := Hook(op, false, path); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return Hook(op, true, path)
}

// CreateExclusive writes a new file with these bytes and this mode. If the name
// is taken, the error wraps [fs.ErrExist] and nothing is changed. After any
// other error it removes what it made.
func CreateExclusive(path string, data []byte, mode fs.FileMode) error {
	if err := writeNew(path, data, mode); err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// WriteFile writes a file with these bytes and this mode, in place of the one
// at path if there is one. A reader sees the old file or the new one. Only one
// WriteFile to the same path may run at a time.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	// One that an interrupted call left behind has never been the file.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeNew(tmp, data, mode); err != nil {
		return err
	}
	if err := step(OpRename, path, func() error { return os.Rename(tmp, path) }); err != nil {
		os.Remove(tmp)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// writeNew writes a new file and syncs its bytes, but not its name.
func writeNew(path string, data []byte, mode fs.FileMode) (err error) {
	var f *os.File
	made := false
	err = step(OpCreate, path, func() error {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		made = err == nil
		return err
	})
	if err == nil {
		err = step(OpWrite, path, func() error {
			_, err := f.Write(data)
			return err
		})
	}
	if err == nil {
		err = step(OpSync, path, f.Sync)
	}
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	if err != nil && made {
		os.Remove(path)
	}
	return err
}

// Link gives the file at oldpath a second name. If that is taken, the error
// wraps [fs.ErrExist]; where the file system has no links, it wraps
// [errors.ErrUnsupported].
func Link(oldpath, newpath string) error {
	if err := step(OpLink, newpath, func() error { return os.Link(oldpath, newpath) }); err != nil {
		return unsupported(err)
	}
	return SyncDir(filepath.Dir(newpath))
}

// RenameNoReplace renames a file. If the new name is taken, the error wraps
// [fs.ErrExist]; where the system cannot rename without replacing, it wraps
// [errors.ErrUnsupported].
func RenameNoReplace(oldpath, newpath string) error {
	if err := step(OpRename, newpath, func() error { return renameNoReplace(oldpath, newpath) }); err != nil {
		return unsupported(err)
	}
	return syncDirs(oldpath, newpath)
}

// Rename renames a file, in place of the one at newpath if there is one.
func Rename(oldpath, newpath string) error {
	if err := step(OpRename, newpath, func() error { return os.Rename(oldpath, newpath) }); err != nil {
		return err
	}
	return syncDirs(oldpath, newpath)
}

// Remove removes a file or an empty directory.
func Remove(path string) error {
	if err := step(OpRemove, path, func() error { return os.Remove(path) }); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes a directory and those above it that do not exist.
func MkdirAll(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	err := step(OpMkdir, path, func() error { return os.Mkdir(path, mode) })
	if errors.Is(err, fs.ErrExist) { // made by somebody else meanwhile, or not a directory
		if info, serr := os.Stat(path); serr == nil && info.IsDir() {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	return step(OpSyncDir, dir, func() error { return syncDir(dir) })
}

func syncDirs(oldpath, newpath string) error {
	from, to := filepath.Dir(oldpath), filepath.Dir(newpath)
	if err := SyncDir(to); err != nil || from == to {
		return err
	}
	return SyncDir(from)
}
