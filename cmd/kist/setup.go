package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/vault"
)

// setup is what init, onboard and restore have in common.
type setup struct {
	*app
	key    string // path of the key file
	name   string // of this device
	making bool   // there is no key file yet
}

func (s *setup) flags(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&s.key, "key", "", "the key file (`FILE`)")
	cmd.Flags().StringVar(&s.name, "name", "", "what to call this device (`DEVICE`; default: the host's name)")
}

// config checks the flags and returns the configuration. The passphrase is
// asked for here where it is needed for sure, and else when a key file is found
// that it opens.
func (s *setup) config(ctx context.Context) (c onboarding.Config, err error) {
	if s.key == "" {
		return c, usageError{errors.New("the key file is needed: --key FILE")}
	}
	if s.name == "" {
		s.name = hostName()
	}
	if err := keys.ValidDeviceName(s.name); err != nil {
		return c, usageError{fmt.Errorf("--name: %w", err)}
	}
	if err := s.checkPlace(); err != nil {
		return c, err
	}
	var kept []byte
	passphrase := func() ([]byte, error) {
		if kept != nil {
			return kept, nil
		}
		p, err := s.passphrase(ctx, s.key, s.making)
		for n := 1; err == nil && n < mostTries && s.mistyped(p); n++ {
			fmt.Fprintln(s.stderr, "That is not its passphrase: check the keyboard layout. Once more.")
			p, err = s.passphrase(ctx, s.key, false)
		}
		kept = p
		return p, err
	}
	c = onboarding.Config{
		Dir: s.vaultDir, KeyFile: s.key, Name: s.name,
		Unlock: keyfile.Unlock{Passphrase: passphrase, Warn: func(text string) { s.warn("%s", text) }},
		Vault:  s.vaultConfig(),
	}
	return c, nil
}

// mostTries is how often a person may type a passphrase.
const mostTries = 3

// mistyped reports whether a person has typed a passphrase that does not open the key
// file. What a program gave is not tried again: it would give the same.
func (s *setup) mistyped(p []byte) bool {
	if s.making || s.passFile != "" || s.passCmd != "" || s.passFD >= 0 {
		return false
	}
	_, err := keyfile.Open(s.key, keyfile.Unlock{Passphrase: func() ([]byte, error) { return p, nil }})
	return errors.Is(err, keyfile.ErrPassphrase)
}

// lock asks for the passphrase of a key file that will be made.
func (s *setup) lock(c *onboarding.Config) error {
	p, err := c.Unlock.Passphrase()
	c.Lock.Passphrase = p
	return err
}

// checkPlace looks where the key file is, or will be.
func (s *setup) checkPlace() error {
	info, err := os.Stat(s.key)
	s.making = errors.Is(err, fs.ErrNotExist)
	switch {
	case err == nil && info.IsDir():
		return usageError{fmt.Errorf("--key %s is a directory: name a file in it", quote(s.key))}
	case err != nil && !s.making:
		return fmt.Errorf("key file: %w", err)
	}
	dir := filepath.Dir(s.key)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("--key %s: there is no directory %s", quote(s.key), quote(dir))}
	}
	keyDir, err := real(dir)
	if err != nil {
		return err
	}
	vaultDir, err := real(s.vaultDir)
	if err != nil {
		return err
	}
	if keyDir == vaultDir || strings.HasPrefix(keyDir, strings.TrimSuffix(vaultDir, string(filepath.Separator))+string(filepath.Separator)) {
		f := &failure{code: exitUsage, text: "the key file may not be in the vault's directory: who loses one would lose both",
			hint: "another place for --key, such as a USB stick"}
		f.detail("key file", s.key)
		f.detail("vault", s.vaultDir)
		return f
	}
	return nil
}

// real returns the path without symbolic links, as far as it exists.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for p := path; ; p = filepath.Dir(p) {
		if r, err := filepath.EvalSymlinks(p); err == nil {
			return filepath.Join(r, rest), nil
		}
		if p == filepath.Dir(p) {
			return path, nil
		}
		rest = filepath.Join(filepath.Base(p), rest)
	}
}

// keepSafe tells what a new key file means.
func (s *setup) keepSafe() {
	s.say("")
	s.say("%s", s.note.Bold("Keep "+s.clean(s.key)+" and its passphrase safe, apart from this device."))
	s.say("They open everything in this vault, and without both nobody can restore it:")
	s.say("not you, not who runs the secondary. Copy the file to a second place now.")
}

// summary is the end of a report: what the vault has.
type summary struct {
	st     *vault.Status
	last   *vault.CommitInfo // that changed records; nil: none
	digest string
}

// summarize opens the vault and looks.
func (s *setup) summarize(ctx context.Context) (sum *summary, err error) {
	err = s.withAny(ctx, func(v *vault.Vault) error {
		st, err := v.Status(ctx)
		if err != nil {
			return err
		}
		last, err := lastChange(ctx, v, st.Commits)
		if err != nil {
			return err
		}
		digest, err := digestText(ctx, v)
		sum = &summary{st, last, digest}
		return err
	})
	return sum, err
}

// result is what init, onboard and restore print with --json.
type result struct {
	Version    int         `json:"version"`
	Type       string      `json:"type"` // "result"
	Done       string      `json:"done"` // "created", "joined", "restored", "already", "reseeded", "moved"
	KeyCreated bool        `json:"key_created"`
	Floor      *jsonFloor  `json:"floor,omitempty"`
	Lost       *uint64     `json:"lost,omitempty"` // "reseeded": commits that were missing at the secondary
	Sent       *uint64     `json:"sent,omitempty"` // "moved": commits that the new secondary did not have
	Report     *jsonReport `json:"report,omitempty"`
	Status     *jsonStatus `json:"status"`
}

// jsonFloor is the checkpoint that the log was checked against.
type jsonFloor struct {
	Commits uint64 `json:"commits"`
	Root    string `json:"root"`
}
