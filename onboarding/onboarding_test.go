package onboarding_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func TestMain(m *testing.M) {
	testonly.ScryptWorkFactor = 10
	os.Exit(m.Run())
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var passphrase = []byte("correct horse")

// config returns what a person gives to bring a device into a vault.
func config(dir, key string, invite *wire.Invite) onboarding.Config {
	return onboarding.Config{
		Dir: dir, KeyFile: key, Name: "laptop", Invite: invite,
		Lock:   keyfile.Lock{Passphrase: passphrase},
		Unlock: keyfile.Unlock{Passphrase: func() ([]byte, error) { return passphrase, nil }},
	}
}

func put(t *testing.T, dir, name string) {
	t.Helper()
	v, err := vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	_, err = v.Namespace("notes").Put(t.Context(), name, []byte(name))
	fatal(t, err)
	fatal(t, v.Close())
}

func has(t *testing.T, dir, name string) bool {
	t.Helper()
	v, err := vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	defer v.Close()
	rec, err := v.Namespace("notes").Get(t.Context(), name)
	if errors.Is(err, vault.ErrNotFound) {
		return false
	}
	fatal(t, err)
	return bytes.Equal(rec.Value, []byte(name))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// The main job: create, join, lose, restore; what was written before a vault had
// a secondary comes along.
func TestMainJob(t *testing.T) {
	s := secondarytest.New(t)
	invite := s.Invite()
	dir := t.TempDir()
	a, b, key := dir+"/a", dir+"/b", dir+"/me.kistkey"

	r, err := onboarding.Init(t.Context(), config(a, key, nil))
	fatal(t, err)
	if !r.KeyCreated || !exists(key) {
		t.Errorf("init: %+v", r)
	}
	put(t, a, "before")
	r, err = onboarding.Onboard(t.Context(), config(a, key, &invite))
	fatal(t, err)
	if !r.Created || r.KeyCreated {
		t.Errorf("onboard of a local vault: %+v", r)
	}
	r, err = onboarding.Onboard(t.Context(), config(b, key, nil)) // the key file knows the secondary by now
	fatal(t, err)
	if !r.Joined || !has(t, b, "before") {
		t.Errorf("join: %+v", r)
	}
	r, err = onboarding.Onboard(t.Context(), config(b, key, nil))
	fatal(t, err)
	if !r.Already {
		t.Errorf("again: %+v", r)
	}
	fatal(t, os.RemoveAll(a))
	fatal(t, os.RemoveAll(b))
	_, err = onboarding.Restore(t.Context(), config(a, key, nil))
	fatal(t, err)
	if !has(t, a, "before") {
		t.Error("the record is not restored")
	}
}

// F40, and what a failure must not touch: a clear error each, nothing created,
// nothing overwritten.
func TestRefusals(t *testing.T) {
	s := secondarytest.New(t)
	used := s.Invite()
	base := t.TempDir()
	_, err := onboarding.Onboard(t.Context(), config(base+"/first", base+"/first.kistkey", &used))
	fatal(t, err)
	fresh := s.Invite()
	other := secondarytest.New(t)
	otherInvite := other.Invite()
	expired, stranger := s.Invite(), s.Invite()
	expired.Expires = time.Now().Add(-time.Hour)
	stranger.Server = keys.GenerateSigningKey().Public()

	tests := []struct {
		name string
		do   func(t *testing.T, dir, key string) error
		want error
	}{
		{"used invite", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, key, &used))
			return err
		}, wire.ErrInvite},
		{"expired invite", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, key, &expired))
			return err
		}, onboarding.ErrInviteExpired},
		{"another secondary at the address", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, key, &stranger))
			return err
		}, wire.ErrServerIdentity},
		{"no invite", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, key, nil))
			return err
		}, onboarding.ErrNeedInvite},
		{"a device name that cannot be", func(t *testing.T, dir, key string) error {
			c := config(dir, key, &fresh)
			c.Name = "two\nlines"
			_, err := onboarding.Onboard(t.Context(), c)
			return err
		}, vault.ErrInvalid},
		{"key file in a directory that is not there", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, filepath.Dir(key)+"/no/such.kistkey", &fresh))
			return err
		}, fs.ErrNotExist},
		{"restore without a key file", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Restore(t.Context(), config(dir, key, nil))
			return err
		}, fs.ErrNotExist},
		{"restore from a secondary that has nothing", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Restore(t.Context(), config(dir, base+"/first.kistkey", &otherInvite))
			return err
		}, onboarding.ErrNotThere},
		{"join at a secondary that has nothing", func(t *testing.T, dir, key string) error {
			_, err := onboarding.Onboard(t.Context(), config(dir, base+"/first.kistkey", &otherInvite))
			return err
		}, onboarding.ErrNotThere},
		{"wrong passphrase", func(t *testing.T, dir, key string) error {
			c := config(dir, base+"/first.kistkey", nil)
			c.Unlock.Passphrase = func() ([]byte, error) { return []byte("wrong"), nil }
			_, err := onboarding.Restore(t.Context(), c)
			return err
		}, keyfile.ErrPassphrase},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir() + "/vault"
			key := filepath.Dir(dir) + "/new.kistkey"
			if err := tt.do(t, dir, key); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			for _, path := range []string{dir, key, key + ".part"} {
				if exists(path) {
					t.Errorf("%s was left", filepath.Base(path))
				}
			}
		})
	}
}

// A vault that is there survives an onboarding with the wrong key file, finished
// or not.
func TestOnboardKeepsAVault(t *testing.T) {
	s := secondarytest.New(t)
	invite, second := s.Invite(), s.Invite()
	dir, key := t.TempDir()+"/vault", t.TempDir()+"/me.kistkey"
	_, err := onboarding.Init(t.Context(), config(dir, key, nil))
	fatal(t, err)
	put(t, dir, "mine")
	s.Stop()
	if _, err := onboarding.Onboard(t.Context(), config(dir, key, &invite)); err == nil {
		t.Fatal("onboarding without a secondary went well")
	}
	s.Start()
	typo := filepath.Dir(key) + "/typo.kistkey"
	if _, err := onboarding.Onboard(t.Context(), config(dir, typo, &second)); !errors.Is(err, vault.ErrExists) {
		t.Errorf("with another key file: %v", err)
	}
	if exists(typo) || !has(t, dir, "mine") {
		t.Error("the vault or the key files are not as they were")
	}
	_, err = onboarding.Onboard(t.Context(), config(dir, key, &invite))
	fatal(t, err)
	if !has(t, dir, "mine") {
		t.Error("the record is gone")
	}
}

// A directory with other things in it is left alone.
func TestOnboardForeignDirectory(t *testing.T) {
	s := secondarytest.New(t)
	invite := s.Invite()
	dir := t.TempDir()
	fatal(t, os.MkdirAll(dir+"/objects", 0o755))
	fatal(t, os.WriteFile(dir+"/objects/pack", []byte("not ours"), 0o644))
	if _, err := onboarding.Onboard(t.Context(), config(dir, dir+"/../x.kistkey", &invite)); !errors.Is(err, vault.ErrExists) {
		t.Errorf("got %v", err)
	}
	if !exists(dir + "/objects/pack") {
		t.Error("it was removed")
	}
}

// C2 of the attacks: a log that does not reach the key file's floor is refused
// before the authority signs anything on it.
func TestRestoreFloor(t *testing.T) {
	s := secondarytest.New(t)
	invite := s.Invite()
	dir := t.TempDir()
	key := dir + "/me.kistkey"
	_, err := onboarding.Onboard(t.Context(), config(dir+"/a", key, &invite))
	fatal(t, err)
	f, err := keyfile.Open(key, config("", "", nil).Unlock)
	fatal(t, err)
	v, err := vault.Open(t.Context(), dir+"/a", vault.Config{})
	fatal(t, err)
	st, err := v.Status(t.Context())
	fatal(t, err)
	fatal(t, v.Close())
	for _, tt := range []struct {
		name  string
		floor keyfile.Checkpoint
		want  error
	}{
		{"beyond the log", keyfile.Checkpoint{Size: 5000, Root: st.Root}, commitlog.ErrRollback},
		{"a statement more", keyfile.Checkpoint{Size: st.Commits, Root: st.Root, Stated: 3}, commitlog.ErrControlFork},
		{"another history", keyfile.Checkpoint{Size: 1, Root: [32]byte{1}}, commitlog.ErrFork},
		{"reached", keyfile.Checkpoint{Size: st.Commits, Root: st.Root, Stated: 2}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.Checkpoint = &tt.floor
			fatal(t, keyfile.Rewrite(key, f, passphrase))
			to := t.TempDir() + "/vault"
			_, err := onboarding.Restore(t.Context(), config(to, key, nil))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
