// Package onboarding makes vaults and brings devices into them: create a vault,
// connect it with a secondary, join it from another device with the same key
// file, restore a lost device. Each step is durable before the next begins, and
// running the same again goes on where it was cut, or starts clean.
//
//	Init        marker → key file (if there is none) → vault; nothing is sent
//	Onboard     marker → key file → vault → enrolment → marker removed
//	Restore     vault → enrolment; never creates anything at the secondary
//
// The marker, a file in the vault's directory that names the vault, says that
// this program has made its key file and no secondary has had it yet: Onboard
// and Init write it before the key file, and it goes when the device is
// admitted. Only then may an empty secondary be filled. In all other cases a
// secondary that does not know the vault is an error, since taking its word
// would turn a lost vault into an empty one.
//
// Enrolment is [vault.Vault.Enrol]: sign in as owner, pull and verify what is live,
// or the whole log, have the authority admit the device. The secondary is told nothing that
// names the vault before the key file has its name on the disk.
package onboarding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// Errors that callers branch on, beside those of the packages below.
var (
	// ErrNeedInvite: there is no vault yet, and no secondary was named.
	ErrNeedInvite = errors.New("an invite is needed")
	// ErrNeedSecondary: the key file names no secondary.
	ErrNeedSecondary = errors.New("the key file names no secondary")
	// ErrInviteExpired: the invite's time is over.
	ErrInviteExpired = errors.New("the invite has expired")
	// ErrNotThere: the secondary does not know this vault, or does not say so.
	ErrNotThere = errors.New("the secondary does not have this vault")
	// ErrUnfinished: it was cut short and can be gone on with.
	ErrUnfinished = errors.New("not finished")
)

// Config says what to bring into which vault, and where.
type Config struct {
	Dir     string       // of the vault
	KeyFile string       // its path
	Name    string       // of this device, for people
	Lock    keyfile.Lock // of a key file that is made
	Unlock  keyfile.Unlock

	// Invite is used by Onboard, and by Restore for the address alone. Nil: the
	// key file's secondary.
	Invite *wire.Invite
	// Server is the secondary to restore from, in place of the key file's. Nil:
	// the key file's, or the invite's.
	Server *keyfile.Server

	Vault vault.Config
	Sync  vault.SyncOptions
	Now   func() time.Time // nil: time.Now
}

func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// A Result says what was done.
type Result struct {
	Vault      keys.VaultID
	KeyCreated bool // the key file is new
	Created    bool // the vault is new at the secondary
	Joined     bool // the vault was there, and this device is in it now
	Already    bool // nothing was left to do
	Report     *vault.Report
	Floor      *keyfile.Checkpoint // what the log was checked against; nil: nothing
}

// markerFile is the name of the marker in the vault's directory.
const markerFile = "onboarding"

// mark writes the marker: this program is creating the vault.
func mark(dir string, id keys.VaultID) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, markerFile), []byte("creating "+id.String()+"\n"), 0o600)
}

// marked returns the vault that is being created in dir, zero if none is.
func marked(dir string) (keys.VaultID, error) {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return keys.VaultID{}, nil
	}
	if err != nil {
		return keys.VaultID{}, err
	}
	id, err := keys.ParseVaultID(strings.TrimSuffix(strings.TrimPrefix(string(b), "creating "), "\n"))
	if err != nil {
		return keys.VaultID{}, fmt.Errorf("%s is not what this program writes; move it away", filepath.Join(dir, markerFile))
	}
	return id, nil
}

func unmark(dir string) error {
	if err := os.Remove(filepath.Join(dir, markerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// openKey opens the key file, after it has finished what an interrupted run
// left. It returns nil if there is none.
func (c *Config) openKey() (*keyfile.File, error) {
	if f, err := keyfile.Recover(c.KeyFile, c.Unlock); f != nil || err != nil {
		return f, err
	}
	if _, err := os.Lstat(c.KeyFile); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return keyfile.Open(c.KeyFile, c.Unlock)
}

// deviceOf makes a new device of the vault of a key file.
func deviceOf(f *keyfile.File, servers []keyfile.Server) (*keyfile.Device, error) {
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	if err != nil {
		return nil, err
	}
	return &keyfile.Device{
		Vault: f.Vault, ID: k.ID(), Seed: seed, Authority: f.Root.Authority().Public(),
		TagSecret: f.Root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: f.Root.Epoch(1)}}, Servers: servers,
	}, nil
}

// newKey makes the content of a key file for a new vault.
func (c *Config) newKey(servers []keyfile.Server) *keyfile.File {
	root := keys.GenerateRoot()
	return &keyfile.File{Vault: root.VaultID(), Created: c.now().UTC().Truncate(time.Second), Root: root, Servers: servers}
}

// Init makes a vault on this device alone. Where the key file exists, the vault
// is the one it opens; otherwise the key file is made. Nothing is sent.
func Init(ctx context.Context, c Config) (*Result, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	f, err := c.openKey()
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if f != nil && len(f.Servers) > 0 {
		return nil, fmt.Errorf("%w: the vault of %s is at %s: join it from there, or restore it", vault.ErrExists, c.KeyFile, f.Servers[0].URL)
	}
	if f == nil {
		f = c.newKey(nil)
		if err := c.createKey(f); err != nil {
			return nil, err
		}
		r.KeyCreated = true
	}
	r.Vault = f.Vault
	d, err := deviceOf(f, nil)
	if err != nil {
		return nil, err
	}
	if err := vault.Create(c.Dir, d, c.Name); err != nil {
		return nil, err
	}
	return r, nil
}

// begin checks what can be before anything is made.
func (c *Config) begin() error {
	if err := keys.ValidDeviceName(c.Name); err != nil {
		return fmt.Errorf("%w: device name: %v", vault.ErrInvalid, err)
	}
	return vault.Vacant(c.Dir)
}

// createKey marks the directory and makes the key file. If that fails, both are
// as they were.
func (c *Config) createKey(f *keyfile.File) error {
	if err := mark(c.Dir, f.Vault); err != nil {
		return err
	}
	err := keyfile.Create(c.KeyFile, f, c.Lock, c.Unlock)
	if err == nil {
		return nil
	}
	for _, path := range []string{c.KeyFile, c.KeyFile + ".part"} {
		if _, serr := os.Lstat(path); !errors.Is(serr, fs.ErrNotExist) {
			return err // it may be this vault's: the marker stays with it
		}
	}
	return errors.Join(err, c.leave())
}

// leave removes the marker, and the directory if that leaves it empty.
func (c *Config) leave() error {
	err := unmark(c.Dir)
	if entries, rerr := os.ReadDir(c.Dir); rerr == nil && len(entries) == 0 {
		err = errors.Join(err, os.Remove(c.Dir))
	}
	return err
}

// fromInvite returns the secondary that an invite names.
func fromInvite(i *wire.Invite) keyfile.Server {
	return keyfile.Server{URL: i.URL, Key: i.Server, Binding: keyfile.Binding(i.Binding.String())}
}

// probe asks whoever answers at the secondary's address to prove its key.
func (c *Config) probe(ctx context.Context, s keyfile.Server) error {
	if c.Sync.Dial != nil {
		return nil // not a network that could be probed
	}
	b, err := wire.ParseBinding(string(s.Binding))
	if err != nil {
		return err
	}
	return client.Probe(ctx, client.Server{URL: s.URL, Key: s.Key, Binding: b})
}

// Onboard creates a vault, or brings this device into the one whose key file is
// there. Without a key file the invite makes a new vault; with one, it joins
// that vault, and the invite, if any, says where it is. A vault that Init made
// here is connected, and created at the secondary if that does not have it.
func Onboard(ctx context.Context, c Config) (*Result, error) {
	making, err := marked(c.Dir)
	if err != nil {
		return nil, err
	}
	here, err := vault.Exists(c.Dir)
	if err != nil {
		return nil, err
	}
	f, err := c.openKey()
	if err != nil {
		return nil, err
	}
	if f == nil {
		return c.create(ctx)
	}

	servers := f.Servers
	if c.Invite != nil {
		servers = []keyfile.Server{fromInvite(c.Invite)}
	}
	if len(servers) == 0 {
		return nil, ErrNeedInvite
	}
	if making != f.Vault && !making.IsZero() && !here {
		// What was begun here is another vault, which has no key any more: it
		// never was one.
		if err := unmark(c.Dir); err != nil {
			return nil, err
		}
		making = keys.VaultID{}
	}
	if !here {
		if err := c.begin(); err != nil {
			return nil, err
		}
		if err := c.probe(ctx, servers[0]); err != nil {
			return nil, err
		}
	}
	// A key file that names secondaries has a vault at one of them: it is not
	// begun anew at another.
	known := len(f.Servers) == 0
	for _, s := range f.Servers {
		known = known || s.Key == servers[0].Key
	}
	r, err := c.enter(ctx, f, servers, making == f.Vault && known)
	if err == nil && !making.IsZero() {
		err = unmark(c.Dir)
	}
	return r, err
}

// errRefused: the secondary, which has proved itself, has refused to make the
// vault.
var errRefused = errors.New("the secondary has refused")

// create makes a new vault with the invite. What an earlier run left in the
// directory came to no key file, or its key file is elsewhere: then there is a
// vault, which stays.
func (c *Config) create(ctx context.Context) (*Result, error) {
	if err := c.begin(); errors.Is(err, vault.ErrExists) {
		return nil, fmt.Errorf("%w, and its key file is not %s", err, c.KeyFile)
	} else if err != nil {
		return nil, err
	}
	switch {
	case c.Invite == nil:
		return nil, ErrNeedInvite
	case !c.Invite.Expires.IsZero() && !c.now().Before(c.Invite.Expires):
		return nil, fmt.Errorf("%w, on %s", ErrInviteExpired, c.Invite.Expires.Format(time.RFC1123))
	}
	s := fromInvite(c.Invite)
	if err := c.probe(ctx, s); err != nil {
		return nil, err
	}
	f := c.newKey([]keyfile.Server{s})
	if err := c.createKey(f); err != nil {
		return nil, err
	}
	r, err := c.enter(ctx, f, f.Servers, true)
	switch {
	case err == nil:
		r.KeyCreated = true
		return r, unmark(c.Dir)
	case errors.Is(err, errRefused):
		// There is no vault, and the key file would be the key to nothing.
		return nil, errors.Join(err, vault.Remove(c.Dir), os.Remove(c.KeyFile), c.leave())
	}
	return nil, fmt.Errorf("%w: run the same again: %w", ErrUnfinished, err)
}

// enter makes the device's vault if need be and has it admitted.
func (c *Config) enter(ctx context.Context, f *keyfile.File, servers []keyfile.Server, mayCreate bool) (r *Result, err error) {
	r = &Result{Vault: f.Vault, Floor: f.Checkpoint}
	here, err := vault.Exists(c.Dir)
	if err != nil {
		return nil, err
	}
	if !here {
		d, err := deviceOf(f, servers)
		if err != nil {
			return nil, err
		}
		if err := vault.Create(c.Dir, d, c.Name); err != nil {
			return nil, err
		}
	}
	v, err := vault.Open(ctx, c.Dir, c.Vault)
	if err != nil {
		return nil, err
	}
	before := v.Servers()
	defer func() {
		var empty, begun bool // nothing of the log is here; … or nothing that is used, and nothing else
		if st, serr := v.Status(context.WithoutCancel(ctx)); serr == nil {
			empty = st.Commits == 0
			begun = st.Beginning && st.Pending == 0
		}
		if err != nil && here && empty {
			// Nothing came of it: the vault goes on as it was, with the secondary
			// that it had or without one.
			err = errors.Join(err, v.SetServers(before))
		}
		err = errors.Join(err, v.Close())
		switch useless := errors.Is(err, vault.ErrNoBase); {
		case err == nil:
		case begun && (useless || vault.IsAlarm(err)):
			// What has come is not to be gone on with, and nothing else is here.
			if err = errors.Join(err, vault.Remove(c.Dir)); useless {
				whole := *c
				whole.Sync.Whole = true
				r, err = whole.enter(ctx, f, servers, mayCreate)
			}
		case !here && !mayCreate && empty && !begun:
			// Nothing came, so nothing is kept: the directory is as it was.
			err = errors.Join(err, vault.Remove(c.Dir))
		}
	}()
	if v.ID() != f.Vault {
		return nil, fmt.Errorf("%w: the key file opens vault %s, and %s holds vault %s", commitlog.ErrVaultIDMismatch, f.Vault.Short(), c.Dir, v.ID().Short())
	}
	st, err := v.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Enrolled {
		r.Already = true
		if r.Report, err = v.Sync(ctx, c.Sync); err != nil {
			return nil, err
		}
		return r, c.remember(ctx, v, f, v.Servers()) // which an earlier run may not have come to
	}
	if err := v.SetServers(servers); err != nil {
		return nil, err
	}
	authority := f.Root.Authority()
	o := c.Sync
	o.Floor = f.Checkpoint
	r.Report, err = v.Enrol(ctx, authority, nil, o)
	r.Joined = err == nil
	unknown := errors.Is(err, wire.ErrDenied) || errors.Is(err, commitlog.ErrNoGenesis)
	switch {
	case unknown && mayCreate && c.Invite != nil:
		r.Report, err = v.Enrol(ctx, authority, &c.Invite.Token, o)
		r.Created = err == nil
		if errors.Is(err, wire.ErrInvite) {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
	case unknown:
		err = fmt.Errorf("%w: %s says: %w", ErrNotThere, servers[0].URL, err)
	}
	if err != nil {
		return nil, err
	}
	if r.Report, err = c.both(ctx, v, r.Report); err != nil {
		return nil, err
	}
	return r, c.remember(ctx, v, f, v.Servers()) // which has moved, perhaps
}

// both syncs as the device, which sends what was written before it was admitted
// and shows that it can sign in. It adds the reports up.
func (c *Config) both(ctx context.Context, v *vault.Vault, first *vault.Report) (*vault.Report, error) {
	r, err := v.Sync(ctx, c.Sync)
	r.Pulled += first.Pulled
	r.BytesIn += first.BytesIn
	r.BytesOut += first.BytesOut
	return r, err
}

// remember writes into a key file, where its passphrase is at hand, the secondary
// that it does not name first yet, and how far the log had come: the floor of the next
// restore. A failure is no failure of the onboarding.
func (c *Config) remember(ctx context.Context, v *vault.Vault, f *keyfile.File, servers []keyfile.Server) error {
	g := *f
	g.Servers = first(servers[0], f.Servers)
	floor, err := v.Floor(ctx)
	if err != nil {
		return err
	}
	if floor != nil && (f.Checkpoint == nil || floor.Size > f.Checkpoint.Size) {
		g.Checkpoint = floor
	}
	same := slices.Equal(g.Servers, f.Servers)
	if same && g.Checkpoint == f.Checkpoint {
		return nil
	}
	if c.Unlock.Passphrase == nil {
		if !same && c.Unlock.Warn != nil {
			c.Unlock.Warn(fmt.Sprintf("the key file is locked for recipients, so it does not say that the vault is at %s; what it says is followed for as long as the secondary that it names is there", servers[0].URL))
		}
		return nil
	}
	pass, err := c.Unlock.Passphrase()
	if err != nil || len(pass) == 0 {
		return nil
	}
	if err := keyfile.Rewrite(c.KeyFile, &g, pass); err != nil && c.Unlock.Warn != nil {
		c.Unlock.Warn(fmt.Sprintf("the key file does not say yet where the vault is, and how far it has come: %v", err))
	}
	return nil
}

// Restore rebuilds this device from the secondary with the key file alone. It
// begins with a checkpoint, and the syncs that follow verify the history below;
// with Sync.Whole it pulls and verifies the whole log. It never creates a vault: a
// secondary that has nothing of it is [ErrNotThere].
func Restore(ctx context.Context, c Config) (*Result, error) {
	f, err := c.openKey()
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("key file %s: %w", c.KeyFile, fs.ErrNotExist)
	}
	servers := f.Servers
	switch {
	case c.Server != nil:
		s := *c.Server
		if s.Key == (keys.VerifyKey{}) {
			// An address alone: the secondary there is the one that the key file
			// knows by its key.
			if len(servers) == 0 {
				return nil, fmt.Errorf("%w: give the secondary as an invite, which has its key", ErrNeedSecondary)
			}
			s.Key, s.Binding = servers[0].Key, servers[0].Binding
		}
		servers = []keyfile.Server{s}
	case c.Invite != nil:
		servers = []keyfile.Server{fromInvite(c.Invite)}
	}
	if len(servers) == 0 {
		return nil, ErrNeedSecondary
	}
	here, err := vault.Exists(c.Dir)
	if err != nil {
		return nil, err
	}
	if !here {
		if err := c.begin(); err != nil {
			return nil, err
		}
		if err := c.probe(ctx, servers[0]); err != nil {
			return nil, err
		}
	}
	return c.enter(ctx, f, servers, false)
}
