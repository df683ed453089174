package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
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
		refuse(w, err)
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
			return moving{w, http.NewResponseController(w)}, nil
		})
	}
	if err != nil && !begun {
		refuse(w, err)
	} // else the asker finds that there are fewer bytes than were announced
}

// stall is how long who takes a copy of the store may take nothing. While it is copied
// the store's file does not use again what is freed, and grows.
var stall = time.Minute

// moving is an answer that ends where nobody takes it.
type moving struct {
	io.Writer
	c *http.ResponseController
}

func (m moving) Write(p []byte) (int, error) {
	if err := m.c.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return m.Writer.Write(p)
}

// A BackupSummary says what a backup came to.
type BackupSummary struct {
	Store    int64           `json:"store"`        // bytes of the store
	Copied   int             `json:"copied"`       // objects that were not there yet
	Bytes    uint64          `json:"bytes_copied"` // of these
	Removed  int             `json:"removed"`      // objects that nothing names any more
	Verified engine.Verified `json:"verified"`
	Faults   []string        `json:"faults"` // what is wrong with what was copied

	// Kept is of when the backup before is, where that is good, and is still what the
	// directory holds: what was copied has faults, or lacks what that one has (Lost).
	Kept *time.Time `json:"kept,omitempty"`
	Lost int        `json:"lost,omitempty"` // vaults whose logs are longer in the backup before
}

// BackupOptions say how to write a backup. The zero value keeps a good one.
type BackupOptions struct {
	Replace bool // the backup before, however the new one is
}

// Backup brings the backup in dir up to date with the data directory at data, whose
// server the client asks. Objects that are in it already are not copied again, but for
// such as are spoilt. What is written is read back and verified, and only then takes the
// place of the backup before; see BackupSummary.Kept.
func (c *Client) Backup(ctx context.Context, data, dir string, o BackupOptions) (s *BackupSummary, err error) {
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
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	// 1. The store as it is now, beside the one of the backup before.
	s = new(BackupSummary)
	if s.Store, err = c.fetchStore(ctx, root, freshStore); err != nil {
		return nil, fmt.Errorf("copying the store: %w", err)
	}
	// 2. What it names and is not there yet; the second time, or is spoilt there.
	for _, look := range []bool{false, true} {
		w := &writing{s: s, data: data, dir: dir, root: root, look: look}
		if err := w.copyObjects(ctx); err != nil {
			return nil, fmt.Errorf("copying objects: %w", err)
		}
		if err := s.verify(ctx, dir); err != nil {
			return nil, err
		}
		if len(s.Faults) == 0 {
			break
		}
	}
	// 3. This is the backup from now on, unless the one before is better.
	at, good, err := to.Good()
	if err != nil {
		return nil, err
	}
	if good {
		err := s.compare(ctx, dir)
		if errors.Is(err, store.ErrDamaged) {
			good = false // it was
		} else if err != nil {
			return nil, err
		}
	}
	if good && (len(s.Faults) > 0 || s.Lost > 0) && !o.Replace {
		s.Kept = &at
		return s, root.Remove(freshStore)
	}
	if err := durable.Rename(filepath.Join(dir, freshStore), filepath.Join(dir, embedded.StoreFile)); err != nil {
		return nil, err
	}
	return s, to.Finish(time.Now(), len(s.Faults))
}

// freshStore is the store of a backup that is being written.
const freshStore = embedded.StoreFile + ".new"

// compare counts the vaults that have come back from a longer log to a shorter one since
// the backup before: as where a server begins anew after its disk was lost. One that is
// gone was deleted at once, unless all are.
func (s *BackupSummary) compare(ctx context.Context, dir string) error {
	before, err := sizes(ctx, dir, embedded.StoreFile, engine.StateDeleted)
	if err != nil {
		return err
	}
	now, err := sizes(ctx, dir, freshStore, engine.StateRemoved)
	if err != nil {
		return err
	}
	gone := 0
	for vault, n := range before {
		m, there := now[vault]
		if !there {
			gone++
		} else if m < n {
			s.Lost++
		}
	}
	if gone == len(before) {
		s.Lost = gone
	}
	return nil
}

// sizes returns how many commits the vaults of a store have, but for those in a state, or
// further.
func sizes(ctx context.Context, dir, file string, but engine.State) (map[keys.VaultID]uint64, error) {
	e, err := embedded.OpenFile(dir, file, embedded.Options{MustExist: true})
	if err != nil {
		return nil, err
	}
	all := make(map[keys.VaultID]uint64)
	err = e.EachTenant(ctx, func(t *engine.Tenant) error {
		if t.State < but {
			all[t.Vault] = t.Used.Commits
			return t.Fault
		}
		return nil
	})
	return all, errors.Join(err, e.Close())
}

// errCutOff: the server has not sent all of its store.
var errCutOff = errors.New("the server has stopped meanwhile, or opened its store again: try once more")

// fetchStore writes the server's store to a new file.
func (c *Client) fetchStore(ctx context.Context, root *os.Root, name string) (n int64, err error) {
	resp, err := c.request(ctx, http.MethodGet, "store", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	f, err := create(root, name)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && n != resp.ContentLength {
		err = errCutOff
	}
	if err == nil {
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// verify reads back what was written.
func (s *BackupSummary) verify(ctx context.Context, dir string) error {
	s.Faults = []string{}
	e, err := embedded.OpenFile(dir, freshStore, embedded.Options{MustExist: true})
	if errors.Is(err, store.ErrDamaged) {
		s.Faults = append(s.Faults, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	s.Verified, err = e.Verify(ctx, engine.VerifyOptions{Pages: true}, func(f engine.Fault) {
		s.Faults = append(s.Faults, f.String())
	})
	return errors.Join(err, e.Close())
}
