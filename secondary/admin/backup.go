package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// A backup is written by whoever asks for it, with his rights and to where he can
// write: the server may be confined to its data directory. It streams its store, as
// it is at one moment, and leaves the files of objects alone meanwhile.

var errNoKeeper = errors.New("this server's storage has no files of its own to care for")

func (o *Operator) keeper() (engine.Keeper, error) {
	if k, ok := o.Engine.(engine.Keeper); ok {
		return k, nil
	}
	return nil, errNoKeeper
}

// hold answers GET /hold: files of objects are held until the asker hangs up.
func (o *Operator) hold(w http.ResponseWriter, r *http.Request) {
	k, err := o.keeper()
	if err != nil {
		reply(w, http.StatusUnprocessableEntity, refusal{Error: err.Error()})
		return
	}
	defer k.Hold()()
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() == nil {
		<-r.Context().Done()
	}
}

// store answers GET /store.
func (o *Operator) store(w http.ResponseWriter, r *http.Request) {
	k, err := o.keeper()
	begun := false
	if err == nil {
		err = k.Snapshot(r.Context(), func(size int64) (io.Writer, error) {
			begun = true
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			w.Header().Set("Content-Type", "application/octet-stream")
			return w, nil
		})
	}
	if err != nil && !begun {
		reply(w, http.StatusUnprocessableEntity, refusal{Error: err.Error()})
	} // else the asker finds that there are fewer bytes than were announced
}

// A BackupSummary says what a backup came to.
type BackupSummary struct {
	Store    int64           `json:"store"`        // bytes of the store
	Copied   int             `json:"copied"`       // objects that were not there yet
	Bytes    uint64          `json:"bytes_copied"` // of these
	Removed  int             `json:"removed"`      // objects that nothing names any more
	Verified engine.Verified `json:"verified"`
	Faults   []string        `json:"faults"` // what is wrong with the backup, and was before
}

// Backup brings the backup in dir up to date with the data directory at data, whose
// server the client asks. Objects that are in it already are not copied again. Until
// the last step dir holds the backup before. What was written is read back and
// verified: faults are in the summary.
func (c *Client) Backup(ctx context.Context, data, dir string) (s *BackupSummary, err error) {
	to, err := secondary.OpenBackup(dir, data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	held, err := c.request(ctx, http.MethodGet, "hold", nil)
	if err != nil {
		return nil, err
	}
	defer held.Body.Close()

	// 1. The store as it is now, beside the one of the backup before.
	s = &BackupSummary{Faults: []string{}}
	fresh := filepath.Join(dir, embedded.StoreFile+".new")
	if s.Store, err = c.fetchStore(ctx, fresh); err != nil {
		return nil, fmt.Errorf("copying the store: %w", err)
	}
	// 2. What it names and is not there yet.
	if err := s.copyObjects(ctx, data, dir); err != nil {
		return nil, fmt.Errorf("copying objects: %w", err)
	}
	// 3. This is the backup from now on.
	if err := durable.Rename(fresh, filepath.Join(dir, embedded.StoreFile)); err != nil {
		return nil, err
	}
	if err := to.Finish(time.Now()); err != nil {
		return nil, err
	}
	return s, s.verify(ctx, dir)
}

// fetchStore writes the server's store to a new file.
func (c *Client) fetchStore(ctx context.Context, path string) (n int64, err error) {
	resp, err := c.request(ctx, http.MethodGet, "store", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, resp.Body)
	if err == nil && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// copyObjects copies the objects that the new store names.
func (s *BackupSummary) copyObjects(ctx context.Context, data, dir string) (err error) {
	e, err := embedded.OpenFile(dir, embedded.StoreFile+".new", embedded.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	needed := make(map[string]bool)
	err = e.EachNamed(ctx, func(x embedded.NamedObject) error {
		from, to := embedded.ObjectFile(data, x.Vault, x.Hash), embedded.ObjectFile(dir, x.Vault, x.Hash)
		if needed[to] {
			return ctx.Err()
		}
		needed[to] = true
		if info, serr := os.Stat(to); serr == nil && uint64(info.Size()) == x.Size {
			return ctx.Err()
		}
		err := copyObject(ctx, from, to, x.Hash)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, commitlog.ErrBlob):
			return nil // verify says so
		case err != nil:
			return err
		}
		s.Copied++
		s.Bytes += x.Size
		return nil
	})
	if err != nil {
		return err
	}
	return s.removeOthers(ctx, dir, needed)
}

// copyObject copies an object's file, which is durable when it has its name.
func copyObject(ctx context.Context, from, to string, hash commitlog.Hash) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := durable.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	part := to + ".part"
	dst, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(dst, h), reader{ctx, src})
	if err == nil && commitlog.Hash(h.Sum(nil)) != hash {
		err = commitlog.ErrBlob
	}
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return durable.Rename(part, to)
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
		if err = errors.Join(err, e.Close()); err != nil {
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

// verify reads the backup back.
func (s *BackupSummary) verify(ctx context.Context, dir string) error {
	e, err := embedded.Open(dir, embedded.Options{MustExist: true})
	if err != nil {
		return err
	}
	s.Verified, err = e.Verify(ctx, engine.VerifyOptions{Pages: true}, func(f engine.Fault) {
		s.Faults = append(s.Faults, f.String())
	})
	return errors.Join(err, e.Close())
}
