package vault_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A kept transaction that the disk has spoilt is not sent, and stops nothing: if
// it is in the log all the same, its content comes from there.
func TestTransactDamaged(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(then func()) func(client.Messenger) client.Messenger
		want int
	}{
		{"before the secondary saw it", cutBefore, 0},
		{"answer lost", cutAfter, 1},
	} {
		for _, at := range []int{24, 24 + 41, 24 + 90, -1} { // in the header: version, sequence number, seen root; in a blob
			t.Run(tt.name, func(t *testing.T) {
				p := newPerson(t)
				b := p.device(vault.Config{})
				dir := t.TempDir() + "/vault"
				a, _ := p.deviceIn(dir, vault.Config{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a.SetDial(through(tt.cut(cancel)).Dial)
				if err := a.Transact(ctx, "notes", increment(nil, "n")); !errors.Is(err, vault.ErrOutcomeUnknown) {
					t.Fatal(err)
				}
				fatal(t, a.Close())
				spoil(t, dir+"/vault.db", "meta", "attempt", at)
				a = openVault(t, dir, vault.Config{})
				put(t, a, "x", "1")
				sync(t, a, b)
				for _, v := range []*vault.Vault{a, b} {
					if count(t, v, "n") != tt.want || get(t, v, "x") != "1" || undecided(t, v) != 0 {
						t.Errorf("counted %d, want %d; x is %q; %d undecided", count(t, v, "n"), tt.want, get(t, v, "x"), undecided(t, v))
					}
				}
				fatal(t, a.Transact(t.Context(), "notes", increment(nil, "n")))
				sync(t, b)
				sameDigest(t, a, b)
			})
		}
	}
}

// spoil flips a bit in a value of a closed vault's store, in the byte at a place,
// counted from the end where that is negative.
func spoil(t *testing.T, path, bucket, key string, at int) {
	t.Helper()
	db, err := store.Open(path, store.Options{})
	fatal(t, err)
	fatal(t, db.Update(func(tx *store.Tx) error {
		value := bytes.Clone(tx.Bucket(bucket).Get([]byte(key)))
		if at < 0 {
			at += len(value)
		}
		value[at] ^= 1
		return tx.Bucket(bucket).Put([]byte(key), value)
	}))
	fatal(t, db.Close())
}

// An attempt has one place. A secondary that says it is at another lies.
func TestTransactAcknowledgedElsewhere(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	for _, off := range []commitlog.CommitID{1, 1000} {
		a.SetDial(through(func(m client.Messenger) client.Messenger {
			var sent atomic.Bool
			return &between{
				Messenger: m,
				send: func(m wire.Message) []wire.Message {
					if attempt(m) {
						sent.Store(true)
					}
					return []wire.Message{m}
				},
				receive: func(m wire.Message) []wire.Message {
					if u, ok := m.(*wire.Uploaded); ok {
						u.Results[0].ID += off
					} else if sent.Load() {
						return nil // the commit itself is held back
					}
					return []wire.Message{m}
				},
			}
		}).Dial)
		err := a.Transact(t.Context(), "notes", increment(nil, "n"))
		if !errors.Is(err, commitlog.ErrOwnCommitMissing) || !errors.Is(err, vault.ErrOutcomeUnknown) {
			t.Errorf("%d: %v, want ErrOwnCommitMissing and ErrOutcomeUnknown", off, err)
		}
		a.SetDial(nil)
		fatal(t, a.TryAgain(t.Context()))
		sync(t, a, b)
	}
	if count(t, a, "n") != 2 || undecided(t, a) != 0 {
		t.Errorf("counted %d, %d undecided", count(t, a, "n"), undecided(t, a))
	}
	sameDigest(t, a, b)
}
