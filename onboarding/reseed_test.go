package onboarding_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/vault"
)

// F43: a secondary that lost everything is made anew, and a vault moves to another
// one; the key file knows it then, and another device follows with the same command.
func TestReseed(t *testing.T) {
	s, other := secondarytest.New(t), secondarytest.New(t)
	dir := t.TempDir()
	key := dir + "/me.kistkey"
	invite := s.Invite()
	for _, d := range []string{"/a", "/b"} {
		_, err := onboarding.Onboard(t.Context(), config(dir+d, key, &invite))
		fatal(t, err)
	}
	_, err := onboarding.Onboard(t.Context(), config(dir+"/a", key, nil)) // it syncs
	fatal(t, err)
	s.Stop()
	for _, f := range []string{"kist.db", "objects"} {
		fatal(t, os.RemoveAll(filepath.Join(s.Dir, f)))
	}
	s.Start()
	if _, err := onboarding.Reseed(t.Context(), config(dir+"/a", key, nil), false); !errors.Is(err, onboarding.ErrNotThere) {
		t.Errorf("without an invite: %v", err)
	}
	again := s.Invite()
	r, err := onboarding.Reseed(t.Context(), config(dir+"/a", key, &again), false)
	fatal(t, err)
	if !r.Created || r.Lost == 0 {
		t.Errorf("made anew: %+v", r)
	}

	to := other.Invite()
	for i, d := range []string{"/a", "/b"} {
		r, err := onboarding.Reseed(t.Context(), config(dir+d, key, &to), false)
		fatal(t, err)
		if i == 1 && (r.Lost != 0 || r.Created) {
			t.Errorf("the second device has brought %+v", r)
		}
		v, err := vault.Open(t.Context(), dir+d, vault.Config{})
		fatal(t, err)
		if got := v.Servers(); len(got) != 1 || got[0].URL != to.URL {
			t.Errorf("%s: secondaries %v", d, got)
		}
		fatal(t, v.Close())
	}
	f, err := keyfile.Open(key, config("", "", nil).Unlock)
	fatal(t, err)
	if f.Servers[0].URL != to.URL {
		t.Errorf("the key file knows %v", f.Servers)
	}
	_, err = onboarding.Restore(t.Context(), config(dir+"/c", key, nil))
	fatal(t, err)
}
