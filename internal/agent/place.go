package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSocketPath is safe on every system: Linux takes 107 bytes, others 103.
const maxSocketPath = 100

// A place is what the file in the served directory says.
type place struct {
	Socket string `json:"socket"`
	PID    int    `json:"pid"`
}

// readPlace returns nil where there is no such file, or none that says anything.
func readPlace(dir string) *place {
	f, err := os.Open(filepath.Join(dir, FileName))
	if err != nil {
		return nil
	}
	defer f.Close()
	var p place
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil || json.Unmarshal(b, &p) != nil || !filepath.IsAbs(p.Socket) {
		return nil
	}
	return &p
}

// write puts the file there, whole or not at all.
func (p *place) write(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, FileName)
	if err := os.WriteFile(name+".tmp", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// remove takes the file away, if it is still ours.
func (p *place) remove(dir string) error {
	if now := readPlace(dir); now == nil || *now != *p {
		return nil
	}
	return os.Remove(filepath.Join(dir, FileName))
}

// prefix is what the names of a directory's sockets begin with.
func prefix(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:8]) + "-", nil
}

// newSocketPath returns where the agent of dir may listen: in a directory that
// is the user's own. What agents of dir have left there is taken away: the caller
// holds what only one process can hold, so they are dead.
func newSocketPath(dir string) (string, error) {
	begin, err := prefix(dir)
	if err != nil {
		return "", err
	}
	if old := readPlace(dir); old != nil && strings.HasPrefix(filepath.Base(old.Socket), begin) && checkDir(filepath.Dir(old.Socket)) == nil {
		if err := os.Remove(old.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	var bad error
	for _, parent := range socketDirs() {
		path := filepath.Join(parent, fmt.Sprintf("%s%d", begin, os.Getpid()))
		if len(path) > maxSocketPath {
			bad = errors.Join(bad, fmt.Errorf("%s: too long for a socket's name", parent))
			continue
		}
		if err := makeDir(parent); err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		left, err := filepath.Glob(filepath.Join(parent, begin+"*"))
		for _, name := range left {
			err = errors.Join(err, os.Remove(name))
		}
		return path, err
	}
	return "", fmt.Errorf("no directory for the agent's socket: %w", bad)
}

// socketDirs returns where a socket may be, the best first.
func socketDirs() (list []string) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		list = append(list, filepath.Join(dir, "kist"))
	}
	own := fmt.Sprintf("kist-%d", os.Getuid())
	list = append(list, filepath.Join(os.TempDir(), own))
	if fallback := filepath.Join("/tmp", own); fallback != list[len(list)-1] && filepath.Separator == '/' {
		list = append(list, fallback)
	}
	return list
}

// makeDir makes a directory of the user's own, or finds that it is one.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkDir(dir)
}

// checkDir returns ErrUnsafe unless dir is a directory, and no link to one, that
// belongs to the user and that nobody else can enter.
func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: %s is none", ErrUnsafe, dir)
	case !owned(info):
		return fmt.Errorf("%w: %s belongs to another", ErrUnsafe, dir)
	case !private(info):
		return fmt.Errorf("%w: others may enter %s: chmod 700 it", ErrUnsafe, dir)
	}
	return nil
}
