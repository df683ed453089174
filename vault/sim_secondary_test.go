package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/secondary"
	serverengine "github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/wire"
)

func (w *simWorld) serverDir() string { return filepath.Join(w.dir, "secondary") }

func (w *simWorld) start() {
	e, err := embedded.Open(w.serverDir(), embedded.Options{NoSync: true})
	w.must(err)
	w.engine = &simEngine{Engine: e, w: w}
	w.server, err = secondary.New(secondary.Config{
		Engine: w.engine, Key: w.key, Now: func() time.Time { return w.time }, Random: w.random,
	})
	w.must(err)
}

// handle gives the secondary a frame.
func (w *simWorld) handle(l *simLink, frame []byte) {
	crashing := w.crashing
	w.crashing = 0
	image := filepath.Join(w.dir, "image")
	if crashing == simBefore {
		w.must(simCopy(image, w.serverDir()))
	}
	replies := l.session.Handle(w.ctx, frame)
	if crashing == simBefore {
		w.must(w.engine.Close())
		w.must(os.RemoveAll(w.serverDir()))
		w.must(os.Rename(image, w.serverDir()))
	} else {
		w.observe()
	}
	if crashing != 0 {
		w.tracef("the secondary crashes")
		w.restart(false)
		return
	}
	for _, m := range replies {
		w.tracef("the secondary answers %v", m.Type())
		l.reply(m)
	}
}

// observe takes what is new in the secondary's log into the model.
func (w *simWorld) observe() {
	have := uint64(len(w.model.commits))
	head, err := w.engine.Head(w.ctx, w.root.VaultID(), have)
	w.must(err)
	switch {
	case head.Size < have:
		w.fail("secondary", "it had %d commits, and has %d", have, head.Size)
	case have > 0 && head.Root != w.model.commits[have-1]:
		w.fail("secondary", "its first %d commits are others now", have)
	case head.Size == have:
		return
	}
	_, err = w.engine.Read(w.ctx, serverengine.ReadRequest{Vault: w.root.VaultID(), After: commitID(have)}, func(e *serverengine.Entry) (bool, error) {
		head, err := w.engine.Head(w.ctx, w.root.VaultID(), uint64(e.ID))
		if err != nil {
			return false, err
		}
		if err := w.model.commit(e.Bundle, head.Root); err != nil {
			w.fail("log", "%v", err)
		}
		return true, nil
	})
	w.must(err)
	w.tracef("the log has %d commits, root %x", head.Size, w.model.commits[head.Size-1][:8])
}

// restart ends the secondary and starts it. Devices notice; of one that was
// stopped orderly they get the last word.
func (w *simWorld) restart(orderly bool) {
	for _, l := range w.left {
		l.session.Close()
	}
	w.left = nil
	for _, d := range w.devices {
		l := d.link
		if l == nil {
			continue
		}
		if orderly {
			l.session.End(wire.NewError(wire.CodeShutdown, ""))
			for d.link == l && l.deliverDown() {
			}
		}
		l.session.Close()
		if d.link == l {
			d.link = nil
		}
	}
	w.left = nil
	w.must(w.engine.Close())
	w.start()
	w.observe()
}

// late lets the frames on connections that a device has left arrive.
func (w *simWorld) late(d *simDevice) {
	for _, l := range w.left {
		for l.d == d && !l.over && l.deliverUp() {
		}
	}
}

// A simEngine is the secondary's engine, with trouble of its own.
type simEngine struct {
	*embedded.Engine
	w *simWorld
}

type simRefusal struct {
	err     error
	after   bool // the commit was appended all the same
	outcome bool // the error is about the commit, and not about the whole request
}

// simRefusals are what the secondary may answer to a commit that is as good as
// any: a refusal, or that it does not know, before or after appending it.
var simRefusals = []simRefusal{
	{err: wire.ErrTooLarge, outcome: true},                 // set aside
	{err: wire.ErrObjectMissing, outcome: true},            // built anew
	{err: wire.ErrBusy, outcome: true},                     // sent again
	{err: errors.New("disk full")},                         // sent again
	{err: errors.New("disk full, after all"), after: true}, // found in the log
}

// Append decides on one commit after the other, until one is to be refused.
func (e *simEngine) Append(ctx context.Context, r serverengine.AppendRequest) (outcomes []serverengine.Outcome, size uint64, err error) {
	w := e.w
	for i, b := range r.Bundles {
		one := r
		one.Bundles = r.Bundles[i : i+1]
		if w.refusing != nil && r.Control == nil && !w.model.leaves[b.Commit.Leaf()] {
			if w.refuseIn--; w.refuseIn < 0 {
				how := w.refusing
				w.refusing = nil
				if how.outcome {
					w.tracef("the secondary refuses a commit")
					w.model.devices[b.Commit.Header.Device].refused = true
					outcomes = append(outcomes, serverengine.Outcome{Err: how.err})
					continue
				}
				if how.after {
					_, _, err = e.Engine.Append(ctx, one)
				}
				return nil, 0, errors.Join(err, how.err)
			}
		}
		var out []serverengine.Outcome
		if out, size, err = e.Engine.Append(ctx, one); err != nil {
			return nil, 0, err
		}
		outcomes = append(outcomes, out...)
	}
	if size == 0 {
		var head serverengine.Head
		head, err = e.Head(ctx, r.Vault, 0)
		size = head.Size
	}
	return outcomes, size, err
}
