package secondary

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// A ModeError is a file of the data directory that others than its owner can read,
// and whose mode cannot be changed.
type ModeError struct {
	Path string
	Mode fs.FileMode // as it is
	Want fs.FileMode
	Err  error
}

func (e *ModeError) Error() string {
	return fmt.Sprintf("others can read %s (mode %04o), and that cannot be changed: %v", e.Path, e.Mode, e.Err)
}

func (e *ModeError) Unwrap() error { return e.Err }

// closeModes takes from others what they could read of the directory, and remarks
// on it: whoever copied a backup back may have lost the modes, and some systems
// that mount volumes set their own.
func (d *DataDir) closeModes() error {
	if runtime.GOOS == "windows" { // no modes
		return nil
	}
	for _, f := range []struct {
		path   string
		want   fs.FileMode
		remark string
	}{
		{d.path, 0o700, ""},
		{d.file("server.key"), 0o600, "; whoever has read it can pose as this server"},
		{d.file("tls.key"), 0o600, ""},
	} {
		info, err := os.Stat(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()
		if mode&0o077 == 0 {
			continue
		}
		if err := os.Chmod(f.path, f.want); err != nil {
			return &ModeError{f.path, mode, f.want, err}
		}
		d.remarks = append(d.remarks, fmt.Sprintf("others could read %s (mode %04o); its mode is %04o now%s", f.path, mode, f.want, f.remark))
	}
	return nil
}
