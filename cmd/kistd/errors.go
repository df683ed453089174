package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/wire"
)

// Exit codes, as in cmd/kist.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitIntegrity = 9  // the data directory is damaged
	exitNone      = 10 // no data directory there
	exitInUse     = 11 // the data directory, or the address
)

// usageError is an error in how kistd was called.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hinted is an error with something to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// hintOf says what can be done about an error of a command, "" if that is not known.
func hintOf(err error, ran *cobra.Command) string {
	var h hinted
	var u usageError
	var mode *secondary.ModeError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &u):
		return ran.CommandPath() + " --help"
	case errors.As(err, &mode):
		return fmt.Sprintf("chmod %o %s, as its owner", mode.Want, mode.Path)
	case errors.Is(err, secondary.ErrNewerDataDir):
		return "the newer kistd that has used it; what an upgrade has put aside is in its directory before-…"
	case errors.Is(err, secondary.ErrNoDataDir):
		if ran.Name() == "serve" {
			return "--data with the directory of before, or with one that is empty or not there yet"
		}
		return "--data with the directory that kistd serve has"
	case errors.Is(err, secondary.ErrNoKey):
		return "server.key from a backup, with its mode 600: devices know the server by it. Without one, see A lost disk in docs/OPERATING.md"
	case errors.Is(err, secondary.ErrNoStore):
		return "kist.db and objects from a backup. Without one, begin with a directory in which there is server.key alone: see A lost disk in docs/OPERATING.md"
	case errors.Is(err, secondary.ErrNotBackup):
		return "a directory that is empty or not there yet, or that of the backup before"
	case errors.Is(err, admin.ErrPath):
		return "a data directory with a shorter path"
	case errors.Is(err, admin.ErrSilent), errors.Is(err, store.ErrInUse):
		return "once more when the other kistd has started or ended; systemctl status kistd, or fuser on the file lock in the directory, tells what has it"
	case errors.Is(err, store.ErrReadOnly):
		return "room on its disk, or a disk that works (dmesg): it goes on by itself then. Where there is no other room to make, stop kistd and try the same: see A full disk in docs/OPERATING.md"
	case errors.Is(err, wire.ErrNotFound):
		return "kistd vaults, which lists those that are here"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "room on that disk first: see A full disk in docs/OPERATING.md"
	case errors.Is(err, syscall.EROFS):
		return "a disk that can be written; for the server's own, dmesg and mount say why it cannot"
	case errors.Is(err, fs.ErrPermission):
		return "the same as the user that the data directory belongs to, such as sudo -u kistd kistd …, or as root"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return "another path: " + pathOf(err)
	case errors.Is(err, store.ErrDamaged):
		return "docs/OPERATING.md says under Verify what to do about damage"
	}
	return ""
}

// pathOf says what is wrong with the path that an error of the file system names.
func pathOf(err error) string {
	name := "what was given"
	var p *fs.PathError
	if errors.As(err, &p) {
		name = p.Path
	}
	switch {
	case errors.Is(err, syscall.EISDIR):
		return name + " is a directory"
	case errors.Is(err, fs.ErrNotExist):
		return name + " is not there, or cannot be made there"
	}
	return name + " is a file, or within one"
}

// exitCode is the one place that decides the exit code.
func exitCode(err error) int {
	var u usageError
	switch {
	case errors.As(err, &u), errors.Is(err, admin.ErrPath):
		return exitUsage
	case errors.Is(err, store.ErrInUse), errors.Is(err, syscall.EADDRINUSE):
		return exitInUse
	case errors.Is(err, secondary.ErrNoDataDir):
		return exitNone
	case errors.Is(err, store.ErrDamaged), errors.Is(err, archive.ErrDamaged):
		return exitIntegrity
	}
	return exitFailed
}
