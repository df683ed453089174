package vault_test

import (
	"context"
	"slices"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A full sync of a device that began with a checkpoint verifies the history, and
// then compares all of it.
func TestFullSyncAboveCheckpoint(t *testing.T) {
	r := newRestoring(t, 6)
	v := r.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	_, err = v.Sync(t.Context(), vault.SyncOptions{Full: true})
	fatal(t, err)
	r.equal(t, v)
}

// The same where nothing but own changes is to go up.
func TestFullPushAboveCheckpoint(t *testing.T) {
	r := newRestoring(t, 6)
	v := r.unenrolled(t.TempDir() + "/vault")
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
	fatal(t, err)
	_, err = v.Sync(t.Context(), vault.SyncOptions{Full: true, Mode: vault.PushOnly})
	fatal(t, err)
	if st, err := v.Status(t.Context()); err != nil || st.Base != 0 {
		t.Errorf("base %d, %v", st.Base, err)
	}
	r.equal(t, v)
}

// A session is cut when all commits below the base have come, and before what they
// come to is compared: the next one does that, and all that had to wait for it.
func TestCutAtTheEndOfThePast(t *testing.T) {
	r := newRestoring(t, 6)
	for _, full := range []bool{false, true} {
		v := r.unenrolled(t.TempDir() + "/vault")
		_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
		fatal(t, err)
		var mu gosync.Mutex // the session's goroutines read and step
		var past []wire.Item
		l := &tapped{change: func(m wire.Message) []wire.Message {
			if c, ok := m.(*wire.Commits); ok {
				mu.Lock()
				past = append(past, c.Items...)
				mu.Unlock()
				c.Items = nil
			}
			return []wire.Message{m}
		}}
		base, err := v.Status(t.Context())
		fatal(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		o := l.options()
		o.Step = func() {
			mu.Lock()
			defer mu.Unlock()
			if len(past) > 0 {
				cancel()
			}
		}
		_, err = v.Sync(ctx, o)
		cancel()
		if uint64(len(past)) != base.Base {
			t.Fatalf("%d of %d commits, %v", len(past), base.Base, err)
		}
		fatal(t, vault.TakePast(v, past))

		l = &tapped{}
		o = l.options()
		o.Full = full
		_, err = v.Sync(t.Context(), o)
		fatal(t, err)
		if again := slices.Contains(l.sent, wire.TypeUnbind); again != full {
			t.Errorf("compared as a whole: %v, want %v", again, full)
		}
		if st, err := v.Status(t.Context()); err != nil || st.Base != 0 || st.Checkpoint.IsZero() {
			t.Errorf("base %d, posted %v, %v", st.Base, st.Checkpoint, err)
		}
		r.equal(t, v)
	}
}
