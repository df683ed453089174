package vault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// fewHaves is a connection that is cut after so many HAVE.
type fewHaves struct {
	client.Messenger
	left int
}

func (c *fewHaves) Receive(ctx context.Context) (wire.Message, error) {
	m, err := c.Messenger.Receive(ctx)
	if _, ok := m.(*wire.Have); ok {
		if c.left--; c.left < 0 {
			return nil, errCut
		}
	}
	return m, err
}

func cutAfterHaves(n int) vault.SyncOptions {
	return vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		return &fewHaves{Messenger: c, left: n}, err
	}}
}

// rising syncs and sees to it that what is told of the upload never goes back and
// always adds up to the same. It returns that, what was there when so many changes
// were not in the log yet, and how often it grew.
func rising(t *testing.T, v *vault.Vault, o vault.SyncOptions, atLeast int) (total, ahead uint64, rises int, err error) {
	t.Helper()
	var last vault.Progress
	err = vault.SyncTelling(t.Context(), v, o, func(p vault.Progress) {
		sum := p.Up.Bytes + p.Up.BytesLeft
		if total == 0 {
			total = sum // nothing is told before the first step
		}
		if sum != total {
			t.Errorf("%d and %d bytes are %d in all, not %d", p.Up.Bytes, p.Up.BytesLeft, sum, total)
		}
		if p.Up.Bytes < last.Up.Bytes {
			t.Errorf("%d bytes after %d", p.Up.Bytes, last.Up.Bytes)
		}
		if p.Up.Bytes > last.Up.Bytes {
			rises++
		}
		if p.Up.ChangesLeft >= atLeast {
			ahead = p.Up.Bytes
		}
		last = p
	})
	if err == nil && (last.Up.BytesLeft != 0 || last.Up.Bytes != total) {
		t.Errorf("at the end: %+v, of %d", last.Up, total)
	}
	return total, ahead, rises, err
}

// Objects go up before their commit, and count as they go, also those that were
// there before a sync that was cut.
func TestProgressOfObjects(t *testing.T) {
	const n, size = 4, 2_500_000 // the commit with the objects has 6·n changes, another 5·n
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	fill := func(round int) {
		for i := range n {
			put(t, a, fmt.Sprint("long ", i), xs(size+round))
			for j := range 5 {
				put(t, a, fmt.Sprint("short ", i, j), fmt.Sprint(round))
				write(t, a, "other", fmt.Sprint(i, j), fmt.Sprint(round))
			}
		}
	}
	put(t, a, "first", "of the namespace")
	write(t, a, "other", "first", "of the namespace")
	sync(t, a, b)

	fill(1)
	_, ahead, rises, err := rising(t, a, vault.SyncOptions{}, 6*n)
	fatal(t, err)
	if ahead < n*size || rises < 2*n {
		t.Errorf("%d bytes before their commit, in %d steps", ahead, rises)
	}

	// An object takes 4 HAVE: one answers the question, and one each MiB.
	fill(2)
	total, _, _, err := rising(t, a, cutAfterHaves(9), 6*n)
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	again, ahead, rises, err := rising(t, a, cutAfterHaves(2), 6*n)
	if !errors.Is(err, errCut) || again > total || ahead < 2*size || rises < 2 {
		t.Errorf("resumed: %v, %d bytes, %d before: %d of them there, in %d steps", err, again, total, ahead, rises)
	}
	again, ahead, _, err = rising(t, a, vault.SyncOptions{}, 6*n)
	fatal(t, err)
	if again > total || ahead < n*size {
		t.Errorf("resumed: %d bytes, %d before: %d ahead of the commit", again, total, ahead)
	}
	sync(t, b)
	sameDigest(t, a, b)
}
