package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// create makes a new file, in the place of what has its name. Whoever else can write
// there leads root nowhere by links.
func create(root *os.Root, name string) (*os.File, error) {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// writing is a backup that is being written.
type writing struct {
	s    *BackupSummary
	data string // the directory that it is of
	dir  string // where it goes, …
	root *os.Root
	look bool // … into the objects that are there
}

// copyObjects copies the objects that the new store names.
func (w *writing) copyObjects(ctx context.Context) (err error) {
	e, err := embedded.OpenFile(w.dir, freshStore, embedded.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	needed := make(map[string]bool)
	err = e.EachNamed(ctx, func(x embedded.NamedObject) error {
		from, to := embedded.ObjectFile(w.data, x.Vault, x.Hash), embedded.ObjectFile(w.dir, x.Vault, x.Hash)
		if needed[to] {
			return ctx.Err()
		}
		needed[to] = true
		if there, err := w.has(ctx, x); there || err != nil {
			return err
		}
		err := w.copyObject(ctx, from, x)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, commitlog.ErrBlob):
			return nil // verify says so
		case err != nil:
			return err
		}
		w.s.Copied++
		w.s.Bytes += x.Size
		return nil
	})
	if err != nil {
		return err
	}
	return w.s.removeOthers(ctx, w.dir, needed)
}

// has reports whether an object is in the backup already.
func (w *writing) has(ctx context.Context, x embedded.NamedObject) (bool, error) {
	f, err := w.root.Open(embedded.ObjectFile("", x.Vault, x.Hash))
	if errors.Is(err, fs.ErrNotExist) {
		return false, ctx.Err()
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || uint64(info.Size()) != x.Size || !w.look {
		return err == nil && uint64(info.Size()) == x.Size, errors.Join(err, ctx.Err())
	}
	h := sha256.New()
	_, err = io.Copy(h, reader{ctx, f})
	if errors.Is(err, syscall.EIO) {
		return false, nil // it does not read
	}
	return commitlog.Hash(h.Sum(nil)) == x.Hash, err
}

// copyObject copies an object's file, which is durable when it has its name.
func (w *writing) copyObject(ctx context.Context, from string, x embedded.NamedObject) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	to := embedded.ObjectFile("", x.Vault, x.Hash)
	if err := w.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	part := to + ".part"
	dst, err := create(w.root, part)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(dst, h), reader{ctx, src})
	if err == nil && commitlog.Hash(h.Sum(nil)) != x.Hash {
		err = commitlog.ErrBlob
	}
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, w.root.Remove(part))
	}
	if err := w.root.Rename(part, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Join(w.dir, filepath.Dir(to)))
}

// mkdir makes a directory of the backup, with those above it, durably.
func (w *writing) mkdir(dir string) error {
	if _, err := w.root.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for dir != "." {
		dir = filepath.Dir(dir)
		if err := durable.SyncDir(filepath.Join(w.dir, dir)); err != nil {
			return err
		}
	}
	return nil
}

// reader is a reader that ends with a context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// removeOthers removes the objects that neither the new store nor, while it is there,
// the one before names.
func (s *BackupSummary) removeOthers(ctx context.Context, dir string, needed map[string]bool) error {
	if _, err := os.Stat(filepath.Join(dir, embedded.StoreFile)); err == nil {
		e, err := embedded.OpenFile(dir, embedded.StoreFile, embedded.Options{MustExist: true})
		if err != nil {
			return err
		}
		err = e.EachNamed(ctx, func(x embedded.NamedObject) error {
			needed[embedded.ObjectFile(dir, x.Vault, x.Hash)] = true
			return ctx.Err()
		})
		err = errors.Join(err, e.Close())
		if errors.Is(err, store.ErrDamaged) {
			return nil // it cannot say what it needs
		}
		if err != nil {
			return err
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || needed[path] {
			return err
		}
		s.Removed++
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
