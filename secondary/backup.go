package secondary

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
)

var (
	// ErrNotBackup: a directory holds something else than backups of this server.
	ErrNotBackup = errors.New("not a backup of this server")
	// ErrOtherProgram: what a running server stores, this program lays out otherwise.
	ErrOtherProgram = errors.New("the server that runs there is of another version of kistd than this program")
)

// A BackupDir is a directory with a backup of a data directory. It is a data directory
// itself, but for the file that says so; see [DataDir.Restored]. Whoever holds an open
// one has it alone.
type BackupDir struct {
	path, from string
	lock       *os.File
}

// backupFile says that a data directory is a backup.
const backupFile = "backup.json"

type backupMark struct {
	Server string     `json:"server"`           // its key
	Time   *time.Time `json:"time,omitempty"`   // of the backup; none: there is none yet
	Faults int        `json:"faults,omitempty"` // that were found in it
}

// OpenBackup opens the directory at path for a backup of the data directory at from,
// and makes it if there is nothing, or an empty directory. It returns ErrNotBackup
// where something else is there, store.ErrInUse where another process has it, and
// ErrOtherProgram where the data directory has another layout than this program's.
func OpenBackup(path, from string) (_ *BackupDir, err error) {
	key, err := (&DataDir{path: from}).server()
	if err != nil {
		return nil, err
	}
	if v, err := readVersion(from); err != nil {
		return nil, err
	} else if v != dataVersion() {
		return nil, fmt.Errorf("%s: %w", from, ErrOtherProgram)
	}
	if err := durable.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	mark, err := readMark(path)
	if err != nil {
		return nil, err
	}
	if mark == nil {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Name() != "lock" && e.Name() != backupFile+".tmp" {
				return nil, fmt.Errorf("%s: %w: it holds %q", path, ErrNotBackup, e.Name())
			}
		}
	} else if mark.Server != key {
		return nil, fmt.Errorf("%s: %w, but of another", path, ErrNotBackup)
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b := &BackupDir{path: path, from: from, lock: lock}
	if mark == nil {
		err = b.mark(backupMark{Server: key})
	} else {
		err = b.upgrade()
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// upgrade brings a backup that an earlier program has written to this one's layout: what
// it holds, the next one is compared with. One that is damaged is left as it is, and
// replaced. There is no copy of what was before: the server has one.
func (b *BackupDir) upgrade() error {
	have, err := readVersion(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there is no whole one
	}
	if err == nil && have > dataVersion() {
		err = newer(b.path, have)
	}
	for d := (&DataDir{path: b.path}); err == nil && have < dataVersion(); have++ {
		err = d.upgradeFrom(have)
	}
	if errors.Is(err, store.ErrDamaged) {
		return nil
	}
	return err
}

// server returns the text of the server's public key.
func (d *DataDir) server() (string, error) {
	if err := d.readKey(); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", d.path, ErrNoDataDir)
	} else if err != nil {
		return "", err
	}
	return d.key.Public().String(), nil
}

func readMark(path string) (*backupMark, error) {
	b, err := os.ReadFile(filepath.Join(path, backupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m backupMark
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", store.ErrDamaged, backupFile, err)
	}
	return &m, nil
}

func (b *BackupDir) mark(m backupMark) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(b.path, backupFile), append(text, '\n'), 0o600)
}

// Path returns where the directory is.
func (b *BackupDir) Path() string { return b.path }

// Good returns of when the backup is that the directory holds: false where there is none,
// or one in which there were faults.
func (b *BackupDir) Good() (at time.Time, good bool, err error) {
	mark, err := readMark(b.path)
	if err != nil || mark == nil || mark.Time == nil {
		return at, false, err
	}
	return *mark.Time, mark.Faults == 0, nil
}

// Finish makes it a data directory, with the identity of the one it was made of, after
// all else is there. So many faults were found in it.
func (b *BackupDir) Finish(now time.Time, faults int) error {
	if err := copyIdentity(b.path, b.from); err != nil {
		return err
	}
	mark, err := readMark(b.path)
	if err != nil || mark == nil {
		return errors.Join(err, ErrNotBackup)
	}
	now = now.UTC().Truncate(time.Second)
	mark.Time, mark.Faults = &now, faults
	return b.mark(*mark)
}

// Close lets others have the directory.
func (b *BackupDir) Close() error { return b.lock.Close() }

// Restored reports whether the directory is a backup that is about to be used, and of
// when it is. From then on it is one no more: no backup is written over it.
func (d *DataDir) Restored() (at time.Time, restored bool, err error) {
	mark, err := readMark(d.path)
	if err != nil || mark == nil {
		return at, false, err
	}
	if mark.Time != nil {
		at = *mark.Time
	}
	return at, true, durable.Remove(d.file(backupFile))
}
