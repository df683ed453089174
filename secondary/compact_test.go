package secondary_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

// A server drops what was superseded when the retention time is over, not before,
// while a device is bound; it says so to who asks for it, and what is bytes still to
// come is never too small.
func TestCompactDaily(t *testing.T) {
	const day = 24 * time.Hour
	inBubble(t, func(c *secondary.Config) { c.RetentionDays = 7 }, func(t *testing.T, f *fixture) {
		f.ctx = context.Background() // the fixture's ends in minutes
		l := f.aLog()
		d := l.devices(1)[0]
		l.data(d.Commit(keys.Tag{1}, 2))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			f.server.CompactDaily(ctx)
			close(ended)
		}()
		time.Sleep(100*day + time.Hour)
		l.data(d.Edit(keys.Tag{1}, commitlog.ChangeID{Commit: 2}))
		fetch := func(index uint16, absent bool) {
			t.Helper()
			s := f.directDevice(l.Vault, d)
			defer s.Close()
			s.tell(&wire.Fetch{Request: 1, Commit: 2, Index: index, Length: 1})
			if b := says[*wire.Blobs](s); b.Absent != absent || !absent && len(b.Data) != 1 {
				t.Errorf("change 2.%d after %v: %+v", index, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), b)
			}
		}
		time.Sleep(7*day - 2*time.Hour)
		fetch(0, false)
		time.Sleep(2 * day)
		synctest.Wait()
		fetch(0, true)
		fetch(1, false)

		s := f.directDevice(l.Vault, d)
		s.tell(&wire.Bind{Root: l.Root(0)})
		says[*wire.Bound](s)
		m := says[*wire.Download](s)
		size := 0
		for _, i := range m.Items {
			size += i.EncodedSize()
		}
		if len(m.Items) != 3 || m.Left != 0 {
			t.Errorf("download of %d commits, %d bytes left", len(m.Items), m.Left)
		}
		b, err := commitlog.ParseBundle(m.Items[1].Data)
		if err != nil || b.Blobs[0] != nil || b.Blobs[1] == nil {
			t.Errorf("commit 2 has another's blobs (%v)", err)
		}
		cancel()
		<-ended
	})
}

// What was sent of an object that never became whole goes after a week, and with it what
// it takes of the quota.
func TestTidyDaily(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.ctx = context.Background()
		v, d := f.vault(1)
		s := f.directDevice(v, d[0])
		hash := commitlog.Hash{7}
		if m := s.tell(&wire.Object{Hash: hash, Size: 1000, Data: make([]byte, 10)}); len(m) != 1 || m[0].(*wire.Have).Bytes != 10 {
			t.Fatalf("OBJECT: %+v", m)
		}
		// The file system knows nothing of the bubble's time.
		now := time.Now()
		if err := os.Chtimes(embedded.ObjectFile(f.dir, v.ID(), hash)+".part", now, now); err != nil {
			t.Fatal(err)
		}
		takes := func(want uint64) {
			t.Helper()
			synctest.Wait()
			x, err := f.engine.Tenant(f.ctx, v.ID())
			if err != nil || x.Used.Objects != want {
				t.Errorf("objects take %d bytes, %v, want %d", x.Used.Objects, err, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			f.server.CompactDaily(ctx)
			close(ended)
		}()
		time.Sleep(6 * 24 * time.Hour)
		takes(4096)
		time.Sleep(3 * 24 * time.Hour)
		takes(0)
		cancel()
		<-ended
	})
}

// A clock that jumps drops nothing: not far ahead, though all that is deleted is overdue by
// it, nor when it is right again, but what is overdue then.
func TestClockJumps(t *testing.T) {
	var ahead atomic.Int64
	change := func(c *secondary.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	inBubble(t, change, func(t *testing.T, f *fixture) {
		f.ctx = context.Background()
		v, _ := f.vault(1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			f.server.CompactDaily(ctx)
			close(ended)
		}()
		time.Sleep(time.Hour)
		if err := f.engine.SetState(f.ctx, v.ID(), engine.StateDeleted, time.Now()); err != nil {
			t.Fatal(err)
		}
		const day = 24 * time.Hour
		for _, step := range []struct {
			ahead, days int
			there       bool
		}{{1000, 1, true}, {0, 6, true}, {0, 3, false}} {
			ahead.Store(int64(time.Duration(step.ahead) * day))
			time.Sleep(time.Duration(step.days) * day)
			synctest.Wait()
			if _, err := f.engine.State(f.ctx, v.ID()); (err == nil) != step.there {
				t.Errorf("%d days ahead, after %d days: %v, want it there: %v", step.ahead, step.days, err, step.there)
			}
		}
		cancel()
		<-ended
	})
}
