package embedded_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// What the first version has stored of vaults and invites is understood, and what it
// did not know is worked out.
func TestUpgrade(t *testing.T) {
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, now := t.TempDir(), time.UnixMilli(1795280000000)
	e := open(t, dir)
	v := rawvault.New()
	d := v.NewDevice()
	fatal(e.Invite(t.Context(), wire.Token{1}, 2, now.Add(time.Hour), nil))
	fatal(e.Create(t.Context(), wire.Token{1}, v.Authority.Public(), now))
	add := func(b *commitlog.Bundle, c *wire.Control) {
		t.Helper()
		out, _, err := e.Append(t.Context(), engine.AppendRequest{Vault: v.ID(), Bundles: []*commitlog.Bundle{b}, Control: c, Now: now})
		if err != nil || out[0].Err != nil {
			t.Fatalf("append: %+v, %v", out, err)
		}
		v.Appended(b.Commit.Leaf())
	}
	add(v.ControlCommit(d.Registration(false)))
	add(d.Commit(keys.Tag{1}, 5), nil)
	add(d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 2}, commitlog.ChangeID{Commit: 2, Index: 4}), nil)
	if done, err := e.Compact(t.Context(), now); err != nil || done.Blobs != 2 {
		t.Fatalf("compacted: %+v, %v", done, err)
	}
	want, err := e.Tenant(t.Context(), v.ID())
	fatal(err)
	fatal(e.Close())

	db, err := store.Open(filepath.Join(dir, "kist.db"), store.Options{})
	fatal(err)
	fatal(db.Update(func(tx *store.Tx) error {
		id := v.ID()
		old := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
		if err := tx.Bucket("vaults").Put(id[:], old); err != nil {
			return err
		}
		if err := tx.Bucket("compacted").Bucket(id.String()).Delete([]byte("dropped")); err != nil {
			return err
		}
		invites := tx.Bucket("invites")
		var key, value []byte
		err := invites.Scan(nil, func(k, v []byte) (bool, error) {
			key, value = append(key, k...), append(value, v...)
			return true, nil
		})
		if err != nil {
			return err
		}
		return invites.Put(key, append(value[:12:12], value[12+21:]...)) // without a quota
	}))
	fatal(db.Close())

	for range 2 {
		fatal(embedded.UpgradeTenants(dir))
	}
	fatal(embedded.UpgradeTenants(t.TempDir()))
	e = open(t, dir)
	defer e.Close()
	got, err := e.Tenant(t.Context(), v.ID())
	fatal(err)
	if *got != *want {
		t.Errorf("%+v, want %+v", got, want)
	}
	fatal(e.Create(t.Context(), wire.Token{1}, v.Authority.Public(), now.Add(time.Hour))) // the invite knows it
	fatal(e.Create(t.Context(), wire.Token{1}, rawvault.New().Authority.Public(), now))
	if err := e.Create(t.Context(), wire.Token{1}, rawvault.New().Authority.Public(), now); err == nil {
		t.Error("the invite has more uses than before")
	}
}
