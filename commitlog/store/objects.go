package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/durable"
)

// Objects keeps sealed objects in a directory, one file each, named by the hash
// of its bytes. An object that is not whole yet is a file with the suffix .part
// whose length is how far it has come, so that a transfer goes on where it was
// cut. Calls for different objects may run at the same time; for one object,
// one at a time.
//
//	DIR/ab/ab34…(64 hex digits)        whole, verified, durable
//	DIR/ab/ab34….part                  as far as it came
type Objects struct {
	dir string

	begunMu sync.Mutex
	begun   map[commitlog.Hash]bool // parts that this process wrote from their first byte
}

// OpenObjects returns the objects in dir, which it makes if need be.
func OpenObjects(dir string) (*Objects, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Objects{dir: dir, begun: make(map[commitlog.Hash]bool)}, nil
}

func (o *Objects) path(hash commitlog.Hash) string { return ObjectFile(o.dir, hash) }

// ObjectFile returns the path of a whole object among the objects in dir.
func ObjectFile(dir string, hash commitlog.Hash) string {
	name := hex.EncodeToString(hash[:])
	return filepath.Join(dir, name[:2], name)
}

// Have returns how many bytes of an object are here, and whether that is all.
func (o *Objects) Have(hash commitlog.Hash) (offset int64, whole bool, err error) {
	if fi, err := os.Stat(o.path(hash)); err == nil {
		return fi.Size(), true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, false, err
	}
	fi, err := os.Stat(o.path(hash) + ".part")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return fi.Size(), false, nil
}

// Verify reports whether an object is here whole and its bytes are those that its
// hash names. It reads the file to the end, and not into memory; what the disk
// cannot read is not good.
func (o *Objects) Verify(hash commitlog.Hash) (good bool, err error) {
	f, err := os.Open(o.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if errors.Is(err, syscall.EIO) {
		return false, f.Close()
	}
	return commitlog.Hash(h.Sum(nil)) == hash, errors.Join(err, f.Close())
}

// Write adds bytes of an object of size bytes at offset and returns how many
// are here now. Bytes that do not continue what is here are not written; the
// answer says where to go on. With the last byte the object is checked: it is
// durable when Write returns size and no error. Where its hash is another it is
// forgotten: with [commitlog.ErrBlob] if all of it was written now, and with 0
// and no error if a part of it was found, which a crash may have spoilt.
//
// Write without data finishes a part that is here whole, after a crash between
// its last byte and its name.
func (o *Objects) Write(hash commitlog.Hash, size, offset int64, data []byte) (have int64, err error) {
	have, whole, err := o.Have(hash)
	switch {
	case err != nil || whole:
		return have, err
	case len(data) == 0 && have < size, len(data) > 0 && (offset != have || have+int64(len(data)) > size):
		return have, nil
	}
	path := o.path(hash)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path+".part", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if have == 0 {
		o.setBegun(hash, true)
	}
	if _, err := f.Write(data); err != nil {
		return have, err
	}
	if have += int64(len(data)); have < size {
		return have, nil
	}
	return o.finish(f, hash, path, size)
}

// setBegun notes that the part of an object is this process's own from its
// first byte on, or forgets it, and returns what was noted.
func (o *Objects) setBegun(hash commitlog.Hash, begun bool) (before bool) {
	o.begunMu.Lock()
	defer o.begunMu.Unlock()
	before = o.begun[hash]
	if begun {
		o.begun[hash] = true
	} else {
		delete(o.begun, hash)
	}
	return before
}

// finish makes a whole part the object, if it is.
func (o *Objects) finish(f *os.File, hash commitlog.Hash, path string, size int64) (have int64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	begun := o.setBegun(hash, false)
	if commitlog.Hash(h.Sum(nil)) != hash {
		err := os.Remove(path + ".part")
		if begun {
			err = errors.Join(fmt.Errorf("%w: object", commitlog.ErrBlob), err)
		}
		return 0, err
	}
	if err := f.Sync(); err != nil {
		// The next fsync of the same bytes may succeed though they are not on the
		// disk: they have to come again.
		return 0, errors.Join(err, os.Remove(path+".part"))
	}
	return size, o.adopt(path+".part", path)
}

// adopt renames a synced file to an object's name and makes that durable.
func (o *Objects) adopt(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	err := durable.SyncDir(filepath.Dir(to))
	if err == nil {
		err = durable.SyncDir(o.dir)
	}
	if err != nil { // nobody is to find it and take it for durable
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// Create stores an object that fill writes, and returns what fill returns: its
// hash. It is durable when Create returns. The bytes go to a file at once.
func (o *Objects) Create(fill func(w io.Writer) (commitlog.Hash, error)) (commitlog.Hash, error) {
	f, err := os.CreateTemp(o.dir, "new-*.part")
	if err != nil {
		return commitlog.Hash{}, err
	}
	hash, err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		path := o.path(hash)
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = o.adopt(f.Name(), path)
		}
	}
	if err != nil {
		return commitlog.Hash{}, errors.Join(err, remove(f.Name()))
	}
	return hash, nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// An Object is an open object, to be read and closed.
type Object struct {
	*os.File
	Size int64
}

// Open opens a whole object; [ErrNotFound] if it is not here.
func (o *Objects) Open(hash commitlog.Hash) (*Object, error) {
	f, err := os.Open(o.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("object: %w", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Object{File: f, Size: fi.Size()}, nil
}

// Remove deletes an object, whole or not; that there is none is no error.
func (o *Objects) Remove(hash commitlog.Hash) error {
	return errors.Join(remove(o.path(hash)), remove(o.path(hash)+".part"))
}
