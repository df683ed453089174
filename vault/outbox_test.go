package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/vault"
)

// A2, B20: any number of writes without a secondary; all go up in order, and the
// other device sees them in that order.
func TestOffline(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	p.server.Stop()
	var want, got []string
	for i := range 750 {
		name := fmt.Sprintf("%04d", i*7919%1000)
		put(t, a, name, fmt.Sprint(i))
		want = append(want, name)
	}
	if _, err := a.Sync(t.Context(), vault.SyncOptions{}); err == nil {
		t.Fatal("a sync without a secondary went well")
	}
	p.server.Start()
	sub := b.Watch(t.Context(), "notes")
	sync(t, a, b)
	for range want {
		got = append(got, (<-sub.C).Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	sameDigest(t, a, b)
}

// A5: an outbox entry that the disk spoilt is set aside and reported; the others
// go up.
func TestDamagedOutboxEntry(t *testing.T) {
	p := newPerson(t)
	dir := t.TempDir() + "/vault"
	d, _ := p.deviceIn(dir, vault.Config{})
	b := p.device(vault.Config{})
	for _, name := range []string{"1", "2", "3"} {
		put(t, d, name, "value")
	}
	fatal(t, d.Close())
	db, err := store.Open(dir+"/vault.db", store.Options{})
	fatal(t, err)
	fatal(t, db.Update(func(tx *store.Tx) error {
		out := tx.Bucket("outbox")
		var key, value []byte
		n := 0
		err := out.Scan(nil, func(k, v []byte) (bool, error) {
			key, value = bytes.Clone(k), bytes.Clone(v)
			n++
			return n < 2, nil
		})
		if err != nil {
			return err
		}
		value[len(value)/2] ^= 1
		return out.Put(key, value)
	}))
	fatal(t, db.Close())

	a := openVault(t, dir, vault.Config{})
	for range 2 { // the second time it is not tried again
		r, err := a.Sync(t.Context(), vault.SyncOptions{})
		fatal(t, err)
		if r.Aside != 1 || r.Pending != 1 {
			t.Errorf("report %+v, want one entry set aside", r)
		}
	}
	sync(t, b)
	if get(t, b, "1") != "value" || get(t, b, "2") != "-" || get(t, b, "3") != "value" {
		t.Errorf("got %q %q %q", get(t, b, "1"), get(t, b, "2"), get(t, b, "3"))
	}
	if _, err := a.Namespace("notes").Get(t.Context(), "2"); !errors.Is(err, vault.ErrDamaged) && !errors.Is(err, store.ErrDamaged) {
		t.Errorf("get: %v", err)
	}
	put(t, a, "2", "again")
	sync(t, a, b)
	if get(t, b, "2") != "again" {
		t.Errorf("written again: %q", get(t, b, "2"))
	}
	if _, err := a.Problems(t.Context(), 10); err != nil {
		t.Errorf("problems: %v", err)
	}
	if _, err := a.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
}
