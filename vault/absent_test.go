package vault_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A record that is deleted before its long value has come is not there.
func TestDeleteBeforeContent(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	_, err := a.Namespace("notes").Put(t.Context(), "x", long(70<<10, "v"))
	fatal(t, err)
	sync(t, a)
	_, err = b.Sync(t.Context(), vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		conn, err := client.Dial(ctx, s, id)
		return &between{Messenger: conn, receive: func(m wire.Message) []wire.Message {
			if _, ok := m.(*wire.Blobs); ok {
				m = wire.NewError(wire.CodeShutdown, "")
			}
			return []wire.Message{m}
		}}, err
	}})
	if !errors.Is(err, wire.ErrShutdown) {
		t.Fatalf("the value came: %v", err)
	}
	if _, err := b.Namespace("notes").Get(t.Context(), "x"); err == nil || errors.Is(err, vault.ErrNotFound) {
		t.Fatalf("without its value: %v", err)
	}
	fatal(t, b.Namespace("notes").Delete(t.Context(), "x"))
	if _, err := b.Namespace("notes").Get(t.Context(), "x"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}
