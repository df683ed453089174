package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age/armor"

	"github.com/kistvault/kist/internal/durable"
)

// partSuffix is added to a key file's name while it is being made.
const partSuffix = ".part"

const fileMode = 0o600

// Create makes a new key file at path. When it returns nil, the file is on the
// disk under its name and was opened from there with what the lock says; verify
// is needed for recipients only, and must hold an identity of one of them.
//
// It returns an error wrapping [ErrExists] if path is taken, and one wrapping
// [ErrPart] if there is an unfinished file, for which [Recover] is to be called
// first. After any error there is no file at path that was not there before,
// with one exception: if the very last steps fail, the finished file may have
// its name already, and Recover says so.
func Create(path string, f *File, lock Lock, verify Unlock) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %q: choose another name, or use it with the passphrase that it has", ErrExists, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("creating key file: %w", err)
	}
	if len(lock.Passphrase) > 0 {
		verify = Unlock{Passphrase: func() ([]byte, error) { return lock.Passphrase, nil }}
	}
	part := path + partSuffix
	data, err := writePart(part, f, lock, verify)
	if err != nil {
		return fmt.Errorf("creating key file: %w", err)
	}
	if err := finish(part, path, data); err != nil {
		if errors.Is(err, ErrExists) { // somebody else made it meanwhile
			os.Remove(part)
		}
		return fmt.Errorf("creating key file: %w", err)
	}
	return nil
}

// writePart writes f to the new file part, reads it back and opens it. After an
// error the file is gone, if it was this call that made it.
func writePart(part string, f *File, lock Lock, verify Unlock) (data []byte, err error) {
	content, err := f.Marshal()
	if err != nil {
		return nil, err
	}
	if data, err = lock.encrypt(content); err != nil {
		return nil, err
	}
	if err := durable.CreateExclusive(part, data, fileMode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%w: %q", ErrPart, part)
		}
		return nil, err
	}
	if err := readBack(part, data, content, verify); err != nil {
		os.Remove(part)
		return nil, fmt.Errorf("reading back %q: %w", part, err)
	}
	return data, nil
}

// readBack checks that the file has these bytes and opens to this content.
func readBack(path string, data, content []byte, u Unlock) error {
	got, err := readFile(path, MaxFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%w: not what was written", ErrDamaged)
	}
	opened, err := Decrypt(got, u)
	if err != nil {
		return err
	}
	if !bytes.Equal(opened, content) {
		return fmt.Errorf("%w: not the content that was written", ErrDamaged)
	}
	return nil
}

// finish gives the file part, which has been opened and holds data, its name,
// and never replaces one. Create and Recover end alike.
func finish(part, path string, data []byte) error {
	err := durable.Link(part, path)
	switch {
	case errors.Is(err, fs.ErrExist) && sameFile(part, path):
		// The link was made and the answer lost, as NFS may do.
		err = durable.SyncDir(filepath.Dir(path))
	case errors.Is(err, errors.ErrUnsupported):
		err = durable.RenameNoReplace(part, path)
		if err == nil {
			return nil
		}
		if errors.Is(err, errors.ErrUnsupported) {
			// The last resort writes the bytes a second time. A crash in
			// between leaves a beginning of them, which Recover knows.
			if err = durable.CreateExclusive(path, data, fileMode); err == nil {
				var got []byte
				if got, err = readFile(path, MaxFile); err == nil && !bytes.Equal(got, data) {
					err = fmt.Errorf("%w: %q is not what was written", ErrDamaged, path)
				}
			}
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %q", ErrExists, path)
	}
	if err != nil {
		return err
	}
	return durable.Remove(part)
}

func sameFile(a, b string) bool {
	ia, err := os.Lstat(a)
	if err != nil {
		return false
	}
	ib, err := os.Lstat(b)
	return err == nil && os.SameFile(ia, ib)
}

// Recover looks for what an interrupted [Create] or [Rewrite] left behind, and
// settles it. A program calls it before it creates or opens a key file. It
// returns the file if it finished one, or had to open the one at path; nil if
// nothing had to be opened, and then path is as it was.
//
// What can be there, and what is done:
//
//   - nothing: nothing.
//   - a .part that was cut short while it was written: it is removed. Nobody can
//     open it, and nobody was told of it.
//   - a whole .part, and path is free: it is opened and finished.
//   - a .part and the same file at path: the .part is removed.
//   - a .part, and at path a beginning of it: path was being copied. It is
//     removed, and the .part is opened and finished.
//   - a .part, and at path a file with the same root: path was being rewritten.
//     The .part is removed.
//   - anything else: an error that wraps [ErrPart], names the file and wraps the
//     reason, such as [ErrPassphrase]. Nothing is changed.
func Recover(path string, u Unlock) (*File, error) {
	path = resolve(path)
	part := path + partSuffix
	data, err := readFile(part, MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, partError(part, err)
	}
	named, err := readFile(path, MaxFile)
	free := errors.Is(err, fs.ErrNotExist)
	if err != nil && !free {
		return nil, partError(part, err)
	}
	u = u.once()

	switch {
	case !free && bytes.Equal(named, data):
		return nil, remove(part)

	case torn(data):
		return nil, remove(part)

	case !free && torn(named) && bytes.HasPrefix(data, named):
		f, err := open(data, u)
		if err != nil {
			return nil, partError(part, err)
		}
		if err := remove(path); err != nil {
			return nil, err
		}
		return finished(part, path, data, f)

	case !free:
		f, err := open(named, u)
		if err != nil {
			return nil, partError(part, err)
		}
		g, err := open(data, u)
		if err != nil {
			return nil, partError(part, err)
		}
		if !f.Root.Equal(g.Root) {
			return nil, partError(part, errors.New("it is of another vault than the key file beside it"))
		}
		return f, remove(part)

	default:
		f, err := open(data, u)
		if err != nil {
			return nil, partError(part, err)
		}
		return finished(part, path, data, f)
	}
}

func finished(part, path string, data []byte, f *File) (*File, error) {
	if err := os.Chmod(part, 0o600); err != nil {
		return nil, fmt.Errorf("finishing key file: %w", err)
	}
	if err := finish(part, path, data); err != nil {
		return nil, fmt.Errorf("finishing key file: %w", err)
	}
	return f, nil
}

func remove(path string) error {
	if err := durable.Remove(path); err != nil {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	return nil
}

func partError(part string, err error) error {
	return fmt.Errorf("%w: %q: %w (open it as it was locked, or move it away)", ErrPart, part, err)
}

// torn reports whether b is the beginning of an armored age file and no more.
func torn(b []byte) bool {
	s := string(b)
	if len(s) < len(armor.Header) {
		return strings.HasPrefix(armor.Header, s)
	}
	return strings.HasPrefix(s, armor.Header) && !strings.Contains(s, armor.Footer)
}

// once makes the passphrase be asked for once for several files.
func (u Unlock) once() Unlock {
	if u.Passphrase == nil {
		return u
	}
	ask := u.Passphrase
	asked := false
	var passphrase []byte
	var err error
	u.Passphrase = func() ([]byte, error) {
		if !asked {
			asked = true
			passphrase, err = ask()
		}
		return passphrase, err
	}
	return u
}

// Open opens the key file at path. Besides what [Decrypt] and [Parse] return,
// the error may be that of reading the file.
func Open(path string, u Unlock) (*File, error) {
	data, err := readFile(path, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("opening key file: %w", err)
	}
	f, err := open(data, u)
	if err != nil {
		return nil, fmt.Errorf("opening key file %q: %w", path, err)
	}
	return f, nil
}

func open(data []byte, u Unlock) (*File, error) {
	content, err := Decrypt(data, u)
	if err != nil {
		return nil, err
	}
	return Parse(content)
}

// Rewrite replaces the content of the key file at path, which is locked with
// this passphrase, and stays so. The root must be the same. The old file is
// there until the new one has been read back and opened.
//
// For a file that is locked for recipients the error wraps [ErrNoMatch]: age
// does not tell who they are, so they cannot be kept.
func Rewrite(path string, f *File, passphrase []byte) error {
	path = resolve(path)
	unlock := Unlock{Passphrase: func() ([]byte, error) { return passphrase, nil }}
	old, err := Open(path, unlock)
	if err != nil {
		return fmt.Errorf("rewriting: %w", err)
	}
	if f.Root.IsZero() || !old.Root.Equal(f.Root) {
		return fmt.Errorf("rewriting key file %q: %w", path, ErrVaultIDMismatch)
	}
	part := path + partSuffix
	if _, err := writePart(part, f, Lock{Passphrase: passphrase}, unlock); err != nil {
		return fmt.Errorf("rewriting key file: %w", err)
	}
	if err := durable.Rename(part, path); err != nil {
		return fmt.Errorf("rewriting key file: %w", err)
	}
	return nil
}

// resolve follows a symbolic link at path, so that what is written next to the
// file and renamed over it is next to the file itself.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// readFile reads a file of at most limit bytes; a longer one is an error
// wrapping [ErrDamaged].
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %q is no file", ErrDamaged, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %q has more than %d bytes", ErrDamaged, path, limit)
	}
	return b, nil
}
