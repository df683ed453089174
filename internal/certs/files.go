// Package certs finds the TLS certificate for a handshake: in files that may change
// while the program runs, or from a certificate authority by ACME.
//
// Devices do not look at it: what they have pinned vouches for the connection. So
// nothing here keeps a device out. Where there is no good certificate, the one
// before is used, or one that nobody has signed.
package certs

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookTime is how often files are looked at, at most.
const lookTime = 10 * time.Second

// Files is a certificate in two PEM files, which is read again when they change.
type Files struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]fs.FileInfo // of what was read last, good or not
	looked  time.Time
	bad     bool // what was read last was not good
}

// OpenFiles reads a certificate chain and its private key. now is the clock; nil:
// time.Now.
func OpenFiles(cert, key string, log *slog.Logger, now func() time.Time) (*Files, error) {
	if now == nil {
		now = time.Now
	}
	f := &Files{cert: cert, key: key, log: log, now: now}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f, f.readLocked()
}

// GetCertificate is for [tls.Config]. It looks whether the files have changed, not
// more often than every ten seconds.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= lookTime {
		f.looked = now
		if changed := f.changedLocked(); changed || f.bad {
			f.reloadLocked(changed)
		}
	}
	return f.current, nil
}

// Reload reads the files now. Where they are not good, it says so in the log, and
// the certificate stays.
func (f *Files) Reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reloadLocked(true)
}

func (f *Files) reloadLocked(say bool) {
	switch err := f.readLocked(); {
	case err == nil:
		f.log.Info("certificate read again", "file", f.cert, "expires", f.current.Leaf.NotAfter.UTC().Format(time.DateOnly))
	case say:
		f.log.Warn("the new certificate is not good; the one before stays", "err", err)
	}
}

// changedLocked reports whether the files are others than those read last.
func (f *Files) changedLocked() bool {
	for i, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		before := f.seen[i]
		switch {
		case err != nil || before == nil:
			if (err == nil) != (before != nil) {
				return true
			}
		case !os.SameFile(info, before) || info.Size() != before.Size() || !info.ModTime().Equal(before.ModTime()):
			return true
		}
	}
	return false
}

func (f *Files) readLocked() error {
	for i, path := range []string{f.cert, f.key} { // before they are read: a change after that is seen next time
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		f.seen[i] = info
	}
	f.looked = f.now()
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if f.bad = err != nil; f.bad {
		return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	f.current = &pair
	if now := f.now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		f.log.Warn("the certificate is out of date; devices do not mind, browsers do",
			"file", f.cert, "from", pair.Leaf.NotBefore.UTC().Format(time.DateOnly), "to", pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}
