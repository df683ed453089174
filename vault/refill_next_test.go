package vault_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// The secondary has lost a commit that it had acknowledged and that never came back to
// its author: filled again, it gets that once more.
func TestRefillAcknowledged(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	put(t, a, "x", "1")
	sync(t, a)
	old := p.backup(t)
	put(t, a, "x", "2")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &tapped{change: func(m wire.Message) []wire.Message {
		if m.Type() == wire.TypeDownload {
			return nil
		}
		return []wire.Message{m}
	}}
	o := l.options()
	o.Step = func() {
		if yes, err := vault.Acknowledged(a); err != nil {
			t.Error(err)
		} else if yes {
			cancel()
		}
	}
	if _, err := a.Sync(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it to be cancelled: it came back", err)
	}
	old()
	if _, err := a.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrOwnCommitMissing) {
		t.Fatalf("got %v, want a missing commit", err)
	}
	_, err := a.Refill(t.Context(), p.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	fatal(t, a.TryAgain(t.Context()))
	sync(t, a)
	b := p.device(vault.Config{})
	sync(t, b)
	if get(t, b, "x") != "2" {
		t.Error("it is lost")
	}
}

// A secondary that does not take a long value that is live is not filled without it.
func TestRefillOfUntakenValue(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	old := p.backup(t)
	for _, value := range []string{"a", "b"} {
		_, err := a.Namespace("files").Put(t.Context(), "long", long(1<<20, value))
		fatal(t, err)
		sync(t, a)
	}
	old()
	for _, refuse := range []int{1, 2} { // the first is superseded
		n := 0
		l := &tapped{change: func(m wire.Message) []wire.Message {
			if h, ok := m.(*wire.Have); ok && (h.Bytes == 0 || h.Whole) {
				if h.Bytes == 0 {
					n++
				}
				if n == refuse {
					h.Whole, h.Code = false, wire.CodeTooLarge
				}
			}
			return []wire.Message{m}
		}}
		_, err := a.Refill(t.Context(), p.root.Authority(), nil, l.options())
		if refuse == 1 && err != nil || refuse == 2 && !errors.Is(err, wire.ErrTooLarge) {
			t.Errorf("%d: %v", refuse, err)
		}
		old()
	}
}
