package secondary

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// An upgrade brings a data directory from one version of its layout to the next. It
// can be cut off anywhere and is then run again, on what it has left: each step must
// come to the same result however often and from wherever it is begun.
type upgrade struct {
	what  string // in a few words, for the log
	apply func(dir string) error
}

// upgrades holds, at index n, what leads from version n+1 to n+2.
var upgrades = []upgrade{
	{"what vaults take, and may take", embedded.UpgradeTenants},
	{"each log in one place", embedded.UpgradeLogs},
}

// dataVersion is the version of a data directory's layout that this program reads
// and writes.
func dataVersion() int { return 1 + len(upgrades) }

// The file that says that an upgrade is under way, and that what was there before
// has been put aside. The directory that it was put into has the time in its name.
const (
	upgradingFile = "upgrading"
	beforePrefix  = "before-"
)

func (d *DataDir) setVersion(v int) error {
	return durable.WriteFile(d.file("version"), []byte(strconv.Itoa(v)+"\n"), 0o600)
}

// readVersion returns the version of a data directory's layout.
func readVersion(dir string) (int, error) {
	path := filepath.Join(dir, "version")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || v < 1 {
		return 0, fmt.Errorf("%w: %s holds %q", store.ErrDamaged, path, strings.TrimSpace(string(text)))
	}
	return v, nil
}

// upgrade brings the directory to this program's version, or refuses one that is
// newer. It puts a copy aside first.
func (d *DataDir) upgrade() error {
	have, err := readVersion(d.path)
	switch {
	case err != nil:
		return err
	case have > dataVersion():
		return newer(d.path, have)
	case have == dataVersion():
		// Left where the last upgrade was cut off at its very end, or where
		// somebody has put the copy back.
		return removeIfThere(d.file(upgradingFile))
	}
	aside, err := d.putAside(have)
	if err != nil {
		return fmt.Errorf("copying the data directory before an upgrade: %w", err)
	}
	for ; have < dataVersion(); have++ {
		if err := d.upgradeFrom(have); err != nil {
			return fmt.Errorf("%w; what was there before is in %s", err, aside)
		}
		d.remarks = append(d.remarks, fmt.Sprintf("upgraded to version %d: %s; what was there before is in %s, remove it when all is well", have+1, upgrades[have-1].what, aside))
	}
	return durable.Remove(d.file(upgradingFile))
}

// upgradeFrom brings the directory from one version to the next.
func (d *DataDir) upgradeFrom(have int) error {
	u := upgrades[have-1]
	if err := u.apply(d.path); err != nil {
		return fmt.Errorf("upgrading the data directory to version %d (%s): %w", have+1, u.what, err)
	}
	return d.setVersion(have + 1)
}

func newer(path string, version int) error {
	return fmt.Errorf("%s: %w: its layout has version %d, and this program knows up to %d", path, ErrNewerDataDir, version, dataVersion())
}

func removeIfThere(path string) error {
	if err := durable.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// putAside copies the directory into one within it, and returns its path. Where an
// upgrade that was cut off has done so, that is the one.
func (d *DataDir) putAside(version int) (string, error) {
	if name, err := os.ReadFile(d.file(upgradingFile)); err == nil {
		return d.file(strings.TrimSpace(string(name))), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	name := fmt.Sprintf("%sv%d-%s", beforePrefix, version, time.Now().UTC().Format("20060102-150405.000"))
	half := d.file(beforePrefix + "half")
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := copyDir(half, d.path); err != nil {
		return "", errors.Join(err, os.RemoveAll(half))
	}
	if err := durable.Rename(half, d.file(name)); err != nil {
		return "", err
	}
	return d.file(name), durable.WriteFile(d.file(upgradingFile), []byte(name+"\n"), 0o600)
}

// copyDir copies a data directory, but for what belongs to a running process and
// what other upgrades have put aside. Objects never change, so a second name is as
// good as a copy.
func copyDir(to, from string) error {
	var dirs []string
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rest)
		switch {
		case e.IsDir() && strings.HasPrefix(rest, beforePrefix):
			return fs.SkipDir
		case e.IsDir():
			dirs = append(dirs, target)
			return os.Mkdir(target, 0o700)
		case !e.Type().IsRegular() || rest == "lock" || strings.HasSuffix(rest, ".tmp"):
			return nil
		case strings.HasPrefix(rest, "objects"+string(filepath.Separator)) && filepath.Ext(rest) == "":
			if os.Link(path, target) == nil {
				return nil
			}
		}
		return copyFile(target, path)
	})
	for _, dir := range dirs {
		if err == nil {
			err = durable.SyncDir(dir)
		}
	}
	return err
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
