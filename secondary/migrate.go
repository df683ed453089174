package secondary

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// ErrNotEmpty: a directory that a data directory is to be copied to holds something.
var ErrNotEmpty = errors.New("it is not empty")

// Migrated says what [DataDir.Migrate] has copied.
type Migrated struct {
	Vaults   int             `json:"vaults"`
	Invites  int             `json:"invites"`
	Before   int64           `json:"bytes_before"` // of the store's file
	After    int64           `json:"bytes_after"`
	Missing  uint64          `json:"missing"` // what should be in the source and is not; see engine.Exported
	Verified engine.Verified `json:"verified"`
	Faults   []string        `json:"faults"` // of the copy, and of the source before
}

// Migrate copies all of the data directory to another one, through the engine: as if
// every vault had just come in. The copy is the same server: key, certificates,
// address, invites, and of each vault state, quota and times are what they were. dir
// must be empty or not there (ErrNotEmpty); it is a data directory when everything in
// it was read back and compared, and where that fails it is empty again. A crash leaves
// a directory that is none, and that the next call begins with. This one stays as it is.
func (d *DataDir) Migrate(ctx context.Context, dir string) (m *Migrated, err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := mayCopyTo(dir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := mayCopyTo(dir); err != nil { // somebody had it meanwhile
		return nil, err
	}
	if err := clearCopy(dir); err != nil {
		return nil, err
	}
	mark := filepath.Join(dir, copyingFile)
	if err := durable.WriteFile(mark, nil, 0o600); err != nil {
		return nil, err
	}
	m = &Migrated{Faults: []string{}}
	if err := d.migrate(ctx, dir, m); err != nil {
		return nil, errors.Join(err, clearCopy(dir), os.Remove(filepath.Join(dir, "lock")))
	}
	return m, durable.Remove(mark)
}

// copyingFile says that all that is in a directory has come by a migration, which is
// under way or was cut off. It comes first, and goes when the version is there.
const copyingFile = "copying"

// copied are the names that a migration makes in a directory, for a time with .tmp or
// .new behind them.
var copied = []string{"lock", copyingFile, embedded.StoreFile, "objects", "acme", "server.key", "tls.crt", "tls.key", "address.json", backupFile, "version"}

// mayCopyTo returns ErrNotEmpty where a directory holds what no migration that was cut
// off has left there.
func mayCopyTo(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	there := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	cutOff := there(copyingFile) && !there("version")
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".tmp"), ".new")
		if name == "lock" || e.Name() == copyingFile+".tmp" || cutOff && slices.Contains(copied, name) {
			continue
		}
		return fmt.Errorf("%s: %w, and holds %q", dir, ErrNotEmpty, e.Name())
	}
	return nil
}

// clearCopy removes what a migration has made in a directory, but for the lock: its
// version first, so that it is no data directory any more, and last what says where the
// rest has come from.
func clearCopy(dir string) error {
	errs := []error{removeIfThere(filepath.Join(dir, "version"))}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != copyingFile {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	return removeIfThere(filepath.Join(dir, copyingFile))
}

func (d *DataDir) migrate(ctx context.Context, dir string, m *Migrated) (err error) {
	from, err := d.OpenEngine()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	to, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(carryAll(ctx, from, to, m), to.Close()); err != nil {
		return err
	}
	// What came in many transactions has left pages free between them.
	if _, m.After, err = embedded.Rewrite(dir); err != nil {
		return err
	}
	if to, err = embedded.Open(dir, embedded.Options{MustExist: true}); err != nil {
		return err
	}
	if err := errors.Join(m.compare(ctx, from, to), to.Close()); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(d.path, embedded.StoreFile))
	if err != nil {
		return err
	}
	m.Before = info.Size()
	acme := filepath.Join(d.path, "acme")
	if _, err := os.Stat(acme); err == nil {
		if err := copyDir(filepath.Join(dir, "acme"), acme); err != nil {
			return err
		}
	}
	return copyIdentity(dir, d.path, backupFile) // a copy of a backup is one
}

// carryAll copies all vaults and invites from one engine to another.
func carryAll(ctx context.Context, from, to engine.Engine, m *Migrated) error {
	err := from.EachTenant(ctx, func(t *engine.Tenant) error {
		if t.State == engine.StateRemoved {
			return nil
		}
		done, err := from.Export(ctx, t.Vault, to.Import(engine.ImportOptions{}))
		var refused *commitlog.CommitError
		if errors.As(err, &refused) {
			return fmt.Errorf("%w: vault %s: %w", store.ErrDamaged, t.Vault, err)
		}
		if err != nil { // what has come of it goes with the directory
			return fmt.Errorf("vault %s: %w", t.Vault, err)
		}
		m.Vaults++
		m.Missing += done.Missing
		return nil
	})
	if err != nil {
		return err
	}
	return from.EachInvite(ctx, func(i *engine.StoredInvite) error {
		m.Invites++
		return to.PutInvite(ctx, i)
	})
}

// compare reads the copy back, as if it came in once more, and compares.
func (m *Migrated) compare(ctx context.Context, from, to *embedded.Engine) (err error) {
	m.Verified, err = to.Verify(ctx, engine.VerifyOptions{Pages: true}, func(f engine.Fault) {
		m.Faults = append(m.Faults, f.String())
	})
	if err != nil {
		return err
	}
	differs := func(t *engine.Tenant, what string) error {
		return fmt.Errorf("%w: the copy of vault %s differs in %s", store.ErrDamaged, t.Vault, what)
	}
	n := 0
	err = from.EachTenant(ctx, func(t *engine.Tenant) error {
		if t.State == engine.StateRemoved {
			return nil
		}
		n++
		copied, err := to.Tenant(ctx, t.Vault)
		if err != nil {
			return fmt.Errorf("the copy of vault %s: %w", t.Vault, err)
		}
		a, err := from.Head(ctx, t.Vault, t.Used.Commits)
		if err != nil {
			return err
		}
		b, err := to.Head(ctx, t.Vault, t.Used.Commits)
		switch {
		case err != nil:
			return err
		case a != b:
			return differs(t, "its log")
		case t.Used.Devices != copied.Used.Devices:
			return differs(t, "its devices")
		case m.Missing == 0 && t.Used.Log != copied.Used.Log:
			return differs(t, "its size")
		case t.State != copied.State || t.Since != copied.Since || t.Created != copied.Created || t.Seen != copied.Seen,
			t.Own != copied.Own || t.Quota != copied.Quota:
			return differs(t, "its state")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if have, err := to.Vaults(ctx); err != nil || have != n {
		return errors.Join(err, fmt.Errorf("%w: the copy has %d vaults, not %d", store.ErrDamaged, have, n))
	}
	if len(m.Faults) > 0 && m.Missing == 0 {
		return fmt.Errorf("%w: the copy, which came from what is sound: %s", store.ErrDamaged, m.Faults[0])
	}
	return nil
}

// copyIdentity copies what makes a data directory the server that it is, and more files
// that need not be there, its version last. It follows no link out of the directory: who
// can write there is not to have root copy something else for him.
func copyIdentity(to, from string, more ...string) (err error) {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	names := append([]string{"server.key", "tls.crt", "tls.key", "address.json"}, more...)
	for _, name := range append(names, "version") {
		text, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && name != "server.key" && name != "version" {
			continue
		}
		if err == nil {
			err = durable.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
