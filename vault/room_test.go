package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A secondary without room for more refuses what is written, and takes what is
// deleted; with room again, all goes in by itself, objects too.
func TestNoRoom(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	for i := range 20 {
		put(t, a, fmt.Sprint("old", i), "value")
	}
	sync(t, a, b)
	limit := func(q *engine.Quota) {
		t.Helper()
		fatal(t, p.server.Engine().SetQuota(t.Context(), a.ID(), q))
	}
	x, err := p.server.Engine().Tenant(t.Context(), a.ID())
	fatal(t, err)
	limit(&engine.Quota{Bytes: x.Used.Bytes()})

	for i := range 30 {
		put(t, a, fmt.Sprint("new", i), strings.Repeat("v", 3000))
	}
	put(t, a, "long", strings.Repeat("v", 200_000))
	fatal(t, a.Namespace("notes").Delete(t.Context(), "old3"))
	put(t, b, "other", strings.Repeat("v", 3000))
	for range 2 { // each session tries anew
		for _, v := range []*vault.Vault{a, b} {
			r, err := v.Sync(t.Context(), vault.SyncOptions{})
			fatal(t, err)
			if want := map[*vault.Vault]int{a: 31, b: 1}[v]; r.NoRoom != want || r.Aside != want || r.Pending != want || r.Quarantine+r.Missing > 0 {
				t.Errorf("without room: %+v, want %d", r, want)
			}
		}
	}
	st, err := a.Status(t.Context())
	fatal(t, err)
	if st.NoRoom != 31 || st.Pending != 31 {
		t.Errorf("status: %d without room, %d pending", st.NoRoom, st.Pending)
	}
	if got := get(t, b, "old3"); got != "-" {
		t.Errorf("what was deleted is %q on the other device", got)
	}
	if get(t, a, "new7") != strings.Repeat("v", 3000) {
		t.Error("what was refused is not here any more")
	}

	limit(nil)
	sync(t, a, b, a)
	sameDigest(t, a, b)
	if get(t, b, "long") != strings.Repeat("v", 200_000) || get(t, a, "other") == "-" {
		t.Error("what was refused has not gone in")
	}
}

// A device of a suspended vault is told so, writes on, and goes on by itself after.
func TestSuspended(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	fatal(t, p.server.Engine().SetState(t.Context(), a.ID(), engine.StateSuspended, time.Now()))
	put(t, a, "x", "1")
	r, err := a.Sync(t.Context(), vault.SyncOptions{})
	if !errors.Is(err, wire.ErrSuspended) || r.Pending != 1 || r.Aside != 0 {
		t.Errorf("suspended: %+v, %v; want ErrSuspended", r, err)
	}
	fatal(t, p.server.Engine().SetState(t.Context(), a.ID(), engine.StateActive, time.Now()))
	sync(t, a, b)
	if got := get(t, b, "x"); got != "1" {
		t.Errorf("afterwards: %q", got)
	}
}
