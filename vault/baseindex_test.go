package vault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// inPieces makes a STATE of each excerpt, and one of those of the control log, which
// are more with each device.
func inPieces(m wire.Message) (out []wire.Message) {
	s, ok := m.(*wire.State)
	if !ok {
		return []wire.Message{m}
	}
	for i, item := range s.Items {
		x, err := commitlog.ParseExcerpt(item.Data)
		if err != nil {
			panic(err)
		}
		if i == 0 || x.Header.Kind != commitlog.KindControl {
			out = append(out, &wire.State{Request: s.Request})
		}
		last := out[len(out)-1].(*wire.State)
		last.Items, last.Done = append(last.Items, item), s.Done && i == len(s.Items)-1
	}
	if len(out) == 0 {
		return []wire.Message{m}
	}
	return out
}

// F38: ended between any two transactions, and between the same of the way that it
// goes on from there, a restore comes to the same, whatever it does again.
func TestRestoreEndedAnywhere(t *testing.T) {
	var taps crashtest.Taps
	var r *restoring
	again := func() {
		taps = crashtest.NewTaps()
		server := secondarytest.NewWith(t, secondarytest.Options{Tap: taps.Tap})
		p := &person{t: t, root: keys.GenerateRoot(), server: server, invite: server.Invite()}
		r = p.restoring(3)
	}
	// enrol restores a vault until it ends at the n-th point. It reports whether it did.
	enrol := func(dir string, n int) bool {
		c := crashtest.New(t, crashtest.Between, n, taps, nil, dir)
		v := openVault(t, dir, vault.Config{NoSync: true})
		l := &tapped{change: inPieces}
		o := vault.SyncOptions{Step: c.Step, Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
			conn, err := c.Dial(ctx, s, id)
			l.Messenger, l.queue, l.got = conn, nil, make(map[wire.Type]int)
			return l, err
		}}
		if ok, err := v.Enrolled(); err != nil {
			t.Fatal(err)
		} else if !ok {
			_, err = v.Enrol(t.Context(), r.root.Authority(), nil, o)
			if err != nil && !c.Over() {
				t.Fatalf("ended at %d: %v", n, err)
			}
		}
		fatal(t, v.Close())
		c.Restore()
		return c.Over()
	}
	points := 0
	for _, twice := range []bool{false, true} {
		if vault.LimitBase(t, 4, 9, 3); twice {
			vault.LimitBase(t, 1, 1, 1) // each is indexed before the next is stored
		}
		for n := 1; ; n += sample {
			if r == nil || r.devices > 50 { // a vault has 64 at most
				again()
			}
			dir := t.TempDir() + "/vault"
			fatal(t, r.unenrolled(dir).Close())
			ended := enrol(dir, n)
			if twice && ended {
				enrol(dir, n)
			}
			if ended {
				enrol(dir, 0)
			}
			points = max(points, n)
			v := openVault(t, dir, vault.Config{NoSync: true})
			r.equal(t, v)
			err := vault.CheckFeed(v)
			if report, e := v.Check(t.Context(), nil); e != nil || len(report.Spoilt) > 0 {
				err = errors.Join(err, e, fmt.Errorf("%+v", report))
			}
			if err != nil {
				t.Errorf("ended at %d, twice: %v: %v", n, twice, err)
			}
			fatal(t, v.Close())
			if t.Failed() {
				return
			}
			if !ended {
				break
			}
		}
	}
	if points < 30 && sample == 1 {
		t.Errorf("%d points", points)
	}
}
