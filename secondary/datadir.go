package secondary

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/bech32"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

// Errors of opening a data directory, beside store.ErrInUse and
// store.ErrDamaged.
var (
	// ErrNoDataDir: there is no data directory there.
	ErrNoDataDir = errors.New("not a data directory of kistd")
	// ErrNewerDataDir: a newer program has written it.
	ErrNewerDataDir = errors.New("the data directory belongs to a newer kistd")
	// ErrNoKey: the server's key is missing, without which it is another server. It
	// wraps store.ErrDamaged.
	ErrNoKey = fmt.Errorf("%w: server.key is missing", store.ErrDamaged)
	// ErrNoStore: the vaults are missing, or there is nothing of them, where a server has
	// run. It wraps store.ErrDamaged.
	ErrNoStore = fmt.Errorf("%w: kist.db is missing, or empty", store.ErrDamaged)
)

// serverKeyHRP begins the text of a server's key.
const serverKeyHRP = "KIST-SERVER-KEY-"

// DataDir is the directory in which a server with the embedded engine keeps all
// that it has. Whoever holds an open DataDir has it alone.
//
//	lock           held while a process uses the directory
//	version        of the layout; written last when the directory is made
//	server.key     the server's identity: an Ed25519 seed as text, mode 0600
//	tls.crt tls.key   a certificate of its own, for where none is given
//	address.json   how devices reach the server
//	acme/          account and certificate of a certificate authority
//	kist.db objects/  the vaults (package embedded)
//	clock.json     what the clock said once a day
//	admin.sock     for commands while the server runs
//	backup.json    only in a backup: of which server, and when
//	copying        a migration to here was cut off (see migrate.go)
//	before-*/      what an upgrade has put aside (see upgrade.go)
//
// The identity is what devices have pinned. A server that loses it is another.
type DataDir struct {
	path    string
	key     keys.SigningKey
	lock    *os.File
	remarks []string
}

// Address is how devices reach a server.
type Address struct {
	URL     string
	Binding wire.Binding
	Local   string // http:// or https:// and where it listens, as seen from this machine; may be empty
}

// InitDataDir opens a data directory, and makes it if there is nothing at path
// or an empty directory.
func InitDataDir(path string) (*DataDir, error) {
	if err := durable.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return openDataDir(path, true)
}

// OpenDataDir opens a data directory that is there; ErrNoDataDir if none is.
func OpenDataDir(path string) (*DataDir, error) {
	if _, err := os.Stat(filepath.Join(path, "version")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, ErrNoDataDir)
		}
		return nil, err
	}
	return openDataDir(path, false)
}

func openDataDir(path string, create bool) (*DataDir, error) {
	if create {
		if err := checkOurs(path); err != nil {
			return nil, err
		}
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &DataDir{path: path, lock: lock}
	opened := false
	defer func() {
		if !opened {
			lock.Close()
		}
	}()
	_, err = os.Stat(d.file("version"))
	if errors.Is(err, fs.ErrNotExist) && create {
		err = d.init()
	}
	if err == nil {
		err = d.closeModes()
	}
	if err == nil {
		err = d.upgrade()
	}
	if err == nil {
		if err = d.readKey(); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", path, ErrNoKey)
		}
	}
	if err == nil {
		err = d.checkStore()
	}
	if err != nil {
		return nil, err
	}
	opened = true
	return d, nil
}

// checkOurs refuses a directory that holds other things than a data directory,
// or one whose making was cut off, does.
func checkOurs(path string) error {
	if _, err := os.Stat(filepath.Join(path, "version")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !slices.Contains([]string{"lock", "server.key", "server.key.tmp", "version.tmp"}, name) {
			return fmt.Errorf("%s: %w: it is not empty, and holds %q", path, ErrNoDataDir, name)
		}
	}
	return nil
}

// init makes the directory's files, the version last. A key that an interrupted
// call has left is kept.
func (d *DataDir) init() error {
	if err := os.Chmod(d.path, 0o700); err != nil {
		return err
	}
	if err := d.readKey(); errors.Is(err, fs.ErrNotExist) {
		d.key = keys.GenerateSigningKey()
		seed := d.key.Seed()
		text, err := bech32.Encode(serverKeyHRP, seed[:])
		if err != nil {
			return err
		}
		if err := durable.WriteFile(d.file("server.key"), []byte(text+"\n"), 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return d.setVersion(dataVersion())
}

// checkStore refuses a directory that has lost its vaults. The address is written after
// the store is made: without one, making the directory may have been cut off.
func (d *DataDir) checkStore() error {
	if _, err := os.Stat(d.file("address.json")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info, err := os.Stat(d.file(embedded.StoreFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		err = fmt.Errorf("%s: %w", d.path, ErrNoStore)
	}
	return err
}

func (d *DataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *DataDir) readKey() error {
	text, err := os.ReadFile(d.file("server.key"))
	if err != nil {
		return err
	}
	hrp, seed, err := bech32.Decode(strings.TrimSpace(string(text)))
	if err != nil || hrp != serverKeyHRP || len(seed) != 32 {
		return fmt.Errorf("%w: %s is not a server key", store.ErrDamaged, d.file("server.key"))
	}
	d.key = keys.NewSigningKey([32]byte(seed))
	return nil
}

// Remarks returns what the operator should know of how the directory was found.
func (d *DataDir) Remarks() []string { return d.remarks }

// Path returns where the directory is.
func (d *DataDir) Path() string { return d.path }

// Key returns the server's identity.
func (d *DataDir) Key() keys.SigningKey { return d.key }

// ClockFile returns where a server keeps what its clock said; see Config.ClockFile.
func (d *DataDir) ClockFile() string { return d.file("clock.json") }

// AdminSocket returns the path of the socket for commands.
func (d *DataDir) AdminSocket() string { return AdminSocket(d.path) }

// AdminSocket returns the path of the socket for commands of the data directory
// at path.
func AdminSocket(path string) string { return filepath.Join(path, "admin.sock") }

// OpenEngine opens the engine in the directory.
func (d *DataDir) OpenEngine() (*embedded.Engine, error) {
	return embedded.Open(d.path, embedded.Options{})
}

// Rewrite gives the space that is free in the engine's file back to the system; see
// store.Rewrite. The engine must not be open.
func (d *DataDir) Rewrite() (before, after int64, err error) {
	return embedded.Rewrite(d.path)
}

// Close lets others have the directory.
func (d *DataDir) Close() error { return d.lock.Close() }

// addressJSON is the form of address.json.
type addressJSON struct {
	URL     string `json:"url"`
	Binding string `json:"binding"`
	Local   string `json:"local,omitempty"`
}

// SetAddress keeps how devices reach the server, for invites. It writes nothing where
// that is known: a server starts on a full disk, too.
func (d *DataDir) SetAddress(a Address) error {
	if known, err := d.Address(); err == nil && known == a {
		return nil
	}
	b, err := json.MarshalIndent(addressJSON{a.URL, a.Binding.String(), a.Local}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(d.file("address.json"), append(b, '\n'), 0o600)
}

// Address returns how devices reach the server; fs.ErrNotExist where it has
// never run.
func (d *DataDir) Address() (Address, error) { return ReadAddress(d.path) }

// ReadAddress is [DataDir.Address] of the data directory at path, which a server
// may have open.
func ReadAddress(path string) (Address, error) {
	b, err := os.ReadFile(filepath.Join(path, "address.json"))
	if err != nil {
		return Address{}, err
	}
	var j addressJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Address{}, fmt.Errorf("%w: address.json: %v", store.ErrDamaged, err)
	}
	binding, err := wire.ParseBinding(j.Binding)
	if err != nil {
		return Address{}, fmt.Errorf("%w: address.json: %v", store.ErrDamaged, err)
	}
	return Address{j.URL, binding, j.Local}, nil
}

// Certificate returns the directory's own certificate, and makes it if it is not
// there, or if what is there is none, which is a remark then. It says nothing about who
// the server is: devices pin the server's key, which vouches for the connection.
func (d *DataDir) Certificate() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(d.file("tls.crt"), d.file("tls.key"))
	var unread *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil, errors.As(err, &unread):
		return cert, err
	default:
		d.remarks = append(d.remarks, fmt.Sprintf("tls.crt and tls.key are made anew: %v", err))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return cert, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "kist secondary"},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.AddDate(30, 0, 0),    // nobody looks; it only must not be in the way
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return cert, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return cert, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := durable.WriteFile(d.file("tls.key"), keyPEM, 0o600); err != nil {
		return cert, err
	}
	if err := durable.WriteFile(d.file("tls.crt"), certPEM, 0o600); err != nil {
		return cert, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}
