// Package keyfile reads and writes the two files that hold a person's keys.
//
// A key file, NAME.kistkey, holds a vault's root. It is an armored age file,
// locked with a passphrase or for recipients, so any age program opens it. Its
// content is text:
//
//	kist-key-file v1
//	vault: NHX5VH17Q14KE52EQGQTWC2Z2W
//	created: 2026-11-20T16:59:00Z
//	root: KIST-ROOT-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SMN47TK
//	server: wss://vault.example.net/
//	server-key: 6AVhOZ5mztDUUDT8bmbprlpaxG1me9XE84uUGuMf4NI
//	server-binding: exporter
//	checkpoint: 1234 pZ0lT9dIzmqSlTOwJqrnM0Ly8dJbKXnxZWzcYnKvYW4= 0 7
//	end
//
// A device file, device.key in the vault directory, holds what daily work
// needs: the device's seed, the tag secret and the epoch secrets, never the
// root. It is text of the same kind and so far protected by its mode alone.
//
// Both have one form: fixed order, LF at the end of each line, nothing behind
// the end. What parses marshals to the same bytes.
//
// # Creating a key file
//
// A vault exists once its key file does, so a key file is never half there. It
// is written to NAME.kistkey.part, synced, read back and opened; then it gets
// its name, without replacing a file of that name; then the directory is synced
// and the .part removed. Before [Create] has returned, nobody may be told of
// the vault. After a crash at any point, [Recover] finishes or removes what is
// there.
//
// Content is not wiped from memory after use: strings and buffers of the
// libraries below would keep it anyway.
//
// # Who can do what
//
// Who has the key file and can open it has the whole vault. A file locked with
// a passphrase can only have been made by someone who knows the passphrase; one
// locked for recipients can be made by anybody who knows their public keys. So
// the content proves itself: the vault id in it must be the one that its root
// gives, and a caller that knows which vault it wants compares the id.
package keyfile

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/kistvault/kist/keys"
)

// Errors of opening a key file or device file.
var (
	// ErrPassphrase: the file is locked with another passphrase.
	ErrPassphrase = errors.New("wrong passphrase")

	// ErrNoMatch: what was given to open the file with is of the wrong kind
	// or for other files.
	ErrNoMatch = errors.New("nothing given opens this file")

	// ErrWorkFactor: opening would cost too much, or the file protects its
	// passphrase too little. Found before any work is done.
	ErrWorkFactor = errors.New("unacceptable scrypt work factor")

	// ErrDamaged: the file is not one of ours, or not whole. Wrapped with
	// what is wrong, never with what the file says.
	ErrDamaged = errors.New("damaged or foreign file")

	// ErrVersion: the file has the form of a later version.
	ErrVersion = errors.New("file of a later version: use a newer kist")

	// ErrVaultIDMismatch: the file opens and lies about its vault.
	ErrVaultIDMismatch = errors.New("vault id and root do not belong together")

	// ErrMode: a device file that other users of the machine can read.
	ErrMode = errors.New("readable by other users")
)

// Errors of writing a key file.
var (
	// ErrExists: the name is taken. Key files are not replaced.
	ErrExists = errors.New("key file exists")

	// ErrPart: there is a .part file that cannot be finished or removed
	// without a person looking at it. Wrapped with its name.
	ErrPart = errors.New("unfinished key file")

	// ErrLock: the lock is not a passphrase, and not recipients that are
	// supported.
	ErrLock = errors.New("unusable lock")

	// ErrContent: a value cannot stand in a key file or device file.
	ErrContent = errors.New("value that the file cannot hold")
)

// Binding says how a session at a secondary is tied to its TLS connection.
type Binding string

// The bindings.
const (
	BindingExporter Binding = "exporter" // to the TLS exporter: TLS ends at the secondary
	BindingNone     Binding = "none"     // to nothing: TLS ends at a proxy, or there is none
)

// Server is a secondary with its pinned key.
type Server struct {
	URL     string // ws:// or wss://, at most MaxURL bytes
	Key     keys.VerifyKey
	Binding Binding
}

// Checkpoint is a floor for restoring: a log that is shorter, or has another
// root at this size, is refused.
type Checkpoint struct {
	Size   uint64 // commits, below 2⁴⁰
	Root   [32]byte
	Resets uint64 // number of resets before it
	Stated uint64 // number of control statements before it
}

// File is the content of a key file.
type File struct {
	Vault      keys.VaultID
	Created    time.Time // whole seconds, UTC; a finer time is cut
	Root       keys.Root
	Servers    []Server
	Checkpoint *Checkpoint // nil: none
}

const (
	filePrefix = "kist-key-file v"
	lastLine   = "end"

	createdLayout = "2006-01-02T15:04:05Z"
)

// Marshal returns the text of the key file. The error wraps
// [ErrVaultIDMismatch] or [ErrContent].
func (f *File) Marshal() ([]byte, error) {
	if f.Root.IsZero() || f.Root.VaultID() != f.Vault {
		return nil, ErrVaultIDMismatch
	}
	created := f.Created.UTC()
	if y := created.Year(); y < 1970 || y > 9999 {
		return nil, fmt.Errorf("%w: year %d", ErrContent, y)
	}
	var b strings.Builder
	fmt.Fprintln(&b, filePrefix+"1")
	fmt.Fprintln(&b, "vault:", f.Vault)
	fmt.Fprintln(&b, "created:", created.Format(createdLayout))
	fmt.Fprintln(&b, "root:", f.Root.Text())
	if err := appendServers(&b, f.Servers); err != nil {
		return nil, err
	}
	if c := f.Checkpoint; c != nil {
		if c.Size > maxLogSize || c.Resets > maxLogSize || c.Stated > maxLogSize {
			return nil, fmt.Errorf("%w: checkpoint of size %d", ErrContent, c.Size)
		}
		fmt.Fprintln(&b, "checkpoint:", c.Size, hashText.EncodeToString(c.Root[:]), c.Resets, c.Stated)
	}
	fmt.Fprintln(&b, lastLine)
	if b.Len() > MaxContent {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrContent, b.Len(), MaxContent)
	}
	return []byte(b.String()), nil
}

// Parse parses the text of a key file. The error wraps [ErrDamaged],
// [ErrVersion] or [ErrVaultIDMismatch].
func Parse(text []byte) (*File, error) {
	if len(text) > MaxContent {
		return nil, fmt.Errorf("%w: content of %d bytes, at most %d", ErrDamaged, len(text), MaxContent)
	}
	l := newLines(text)
	l.first(filePrefix)
	f := &File{
		Vault:   l.vault("vault"),
		Created: l.time("created"),
		Root:    l.root("root"),
		Servers: l.servers(),
	}
	if l.next("checkpoint") {
		f.Checkpoint = l.checkpoint("checkpoint")
	}
	l.last()
	if l.err != nil {
		return nil, l.err
	}
	if f.Root.VaultID() != f.Vault {
		return nil, ErrVaultIDMismatch
	}
	if err := l.sameAs(f.Marshal()); err != nil {
		return nil, err
	}
	return f, nil
}

func appendServers(b *strings.Builder, servers []Server) error {
	if len(servers) > maxServers {
		return fmt.Errorf("%w: %d servers, at most %d", ErrContent, len(servers), maxServers)
	}
	for _, s := range servers {
		if err := s.check(); err != nil {
			return err
		}
		fmt.Fprintln(b, "server:", s.URL)
		fmt.Fprintln(b, "server-key:", s.Key)
		fmt.Fprintln(b, "server-binding:", string(s.Binding))
	}
	return nil
}

// check says whether s can stand in a file. Every s that parses passes: what
// was written once must be readable for ever, so this asks nothing that depends
// on how a library reads addresses.
func (s Server) check() error {
	if !validURL(s.URL) {
		return fmt.Errorf("%w: server address %q", ErrContent, s.URL)
	}
	if !s.Key.Valid() {
		return fmt.Errorf("%w: server key", ErrContent)
	}
	if s.Binding != BindingExporter && s.Binding != BindingNone {
		return fmt.Errorf("%w: server binding %q", ErrContent, string(s.Binding))
	}
	return nil
}

func validURL(s string) bool {
	rest, ok := strings.CutPrefix(s, "wss://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "ws://")
	}
	if !ok || rest == "" || rest[0] == '/' || len(s) > MaxURL {
		return false
	}
	for i := range len(rest) {
		if rest[i] <= ' ' || rest[i] > '~' {
			return false
		}
	}
	return true
}

// CheckURL returns an error wrapping [ErrContent] if s is not the address of a
// secondary: ws or wss, a host, no user name or password, no fragment. A
// program calls it for an address that a person typed.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || !validURL(s) || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%w: server address %q: want wss://HOST/ or ws://HOST:PORT/", ErrContent, s)
	}
	return nil
}
