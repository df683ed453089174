package onboarding_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/vault"
)

// F44: a vault is moved with an invite; the key file knows it then, and so does an old
// copy of it once it was used for a restore.
func TestMove(t *testing.T) {
	from, to, third := secondarytest.New(t), secondarytest.New(t), secondarytest.New(t)
	dir := t.TempDir()
	key, old := dir+"/me.kistkey", dir+"/old.kistkey"
	invite, there := from.Invite(), to.Invite()
	for _, d := range []string{"/a", "/b"} {
		_, err := onboarding.Onboard(t.Context(), config(dir+d, key, &invite))
		fatal(t, err)
	}
	content, err := os.ReadFile(key)
	fatal(t, err)
	fatal(t, os.WriteFile(old, content, 0o600))
	if _, err := onboarding.Move(t.Context(), config(dir+"/a", key, nil)); !errors.Is(err, onboarding.ErrNeedInvite) {
		t.Errorf("without an invite: %v", err)
	}
	if _, err := onboarding.Move(t.Context(), config(dir+"/a", key, &invite)); !errors.Is(err, vault.ErrThere) {
		t.Errorf("to where it is: %v", err)
	}
	for i := range 2 {
		r, err := onboarding.Move(t.Context(), config(dir+"/a", key, &there))
		fatal(t, err)
		if (r.Sent > 0) != (i == 0) || r.To != there.URL || (r.From == invite.URL) != (i == 0) {
			t.Errorf("moved: %+v", r)
		}
	}
	named := func(key string, want ...string) {
		t.Helper()
		f, err := keyfile.Open(key, config("", "", nil).Unlock)
		fatal(t, err)
		var got []string
		for _, s := range f.Servers {
			got = append(got, s.URL)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s names %q, want %q", key, got, want)
		}
	}
	named(key, there.URL, invite.URL)
	_, err = onboarding.Restore(t.Context(), config(dir+"/c", old, nil))
	fatal(t, err)
	named(old, there.URL, invite.URL)
	_, err = onboarding.Onboard(t.Context(), config(dir+"/b", key, nil)) // it syncs
	fatal(t, err)

	// Back again: the present one comes first.
	back := from.Invite()
	_, err = onboarding.Move(t.Context(), config(dir+"/b", key, &back))
	fatal(t, err)
	named(key, invite.URL, there.URL)

	// A key file for recipients stays as it is, and a sentence says so.
	f, err := keyfile.Open(key, config("", "", nil).Unlock)
	fatal(t, err)
	id, err := age.GenerateX25519Identity()
	fatal(t, err)
	unlock := keyfile.Unlock{Identities: []age.Identity{id}}
	fatal(t, keyfile.Create(dir+"/locked.kistkey", f, keyfile.Lock{Recipients: []age.Recipient{id.Recipient()}}, unlock))
	onto := third.Invite()
	c := config(dir+"/a", dir+"/locked.kistkey", &onto)
	warned := ""
	c.Unlock = keyfile.Unlock{Identities: unlock.Identities, Warn: func(text string) { warned += text }}
	_, err = onboarding.Move(t.Context(), c)
	fatal(t, err)
	if !strings.Contains(warned, onto.URL) {
		t.Errorf("warned: %q", warned)
	}
	to.Stop()
	_, err = onboarding.Restore(t.Context(), config(dir+"/d", key, nil)) // from the first, which it names
	fatal(t, err)
	named(key, onto.URL, invite.URL, there.URL)
}
