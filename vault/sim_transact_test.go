package vault

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
)

// A simTransact is a call of Transact: what its goroutine does, step by step,
// with what it calls. Like the goroutine it outlives sessions, and not a crash.
type simTransact struct {
	d       *simDevice
	t       *transaction
	event   *simEvent
	call    int
	attempt *simAttempt // that is not decided

	link  *simLink // that it waits at
	head  bool     // until all has come that is in the log now …
	token uint64   // … as the answer to this MARK says
	doubt bool     // until then the attempt is refused, and not decided
}

// A simAttempt is one attempt of a call, which comes into the log whole, directly
// behind what its device had, or never.
type simAttempt struct {
	call   int
	seen   uint64
	writes []*simWrite
	id     commitlog.CommitID // in the log; 0: not
	failed bool               // the call has said so, or has gone on to another
}

// simRuns is how often a call tries.
const simRuns = 4

// transact begins a transaction through the secondary. Where one is under way, its
// context may end.
func (d *simDevice) transact(e *simEvent) {
	w := d.w
	if d.v == nil || d.v.ready() != nil || d.trans == nil && !d.shows(simNamespaces[e.ns]) {
		return
	}
	if x := d.trans; x != nil {
		if e.n > 0 {
			return
		}
		w.tracef("%s: transaction %d is left", d.name(), x.call)
		x.end()
		return
	}
	w.txns++
	namespace := simNamespaces[e.ns]
	x := &simTransact{d: d, event: e, call: w.txns, head: true}
	x.t = &transaction{v: d.v, ctx: w.ctx, namespace: namespace, tag: d.v.keys.tag(namespace)}
	w.must(d.v.view(func(s *state) error { x.t.before = s.outbox.Sequence(); return nil }))
	d.trans = x
	if d.link != nil {
		d.link.pump(nil)
	}
}

// end ends the call, which lets other changes go up again.
func (x *simTransact) end() {
	x.t.finish()
	x.d.trans = nil
	if l := x.d.link; l != nil {
		l.pump(nil)
	}
}

// serve brings the call on as far as it comes with a session.
func (x *simTransact) serve(l *simLink) {
	d := x.d
	if l.live && !l.owner && l.engine.mode != PullOnly {
		held := d.v.hold.Load()
		for d.trans == x && d.link == l && x.advance(l) {
		}
		if d.link == l && held && !d.v.hold.Load() {
			l.pump(nil) // it lets others go first, which wakes a session
		}
	}
}

// advance does the next thing, and reports whether there was one.
func (x *simTransact) advance(l *simLink) bool {
	d, w := x.d, x.d.w
	if x.link != l {
		x.link, x.token = l, 0
		x.head = true // it waits anew
	}
	if x.head && (x.token == 0 || l.engine.lost(x.token)) {
		asked := false
		return d.step(func() error {
			l.engine.now = w.time
			x.token, l.stage = l.engine.sendMark()
			asked = x.token != 0
			return nil
		}) && asked
	}
	if x.head && !l.engine.arrived(x.token) {
		return false
	}
	if x.attempt == nil {
		ready := false
		w.must(d.v.view(func(s *state) (err error) { ready, err = x.t.ready(s); return err }))
		if ready && x.try() {
			l.pump(nil)
		}
		return ready
	}
	f, err := x.t.fate()
	w.must(err)
	switch {
	case f == fateSent:
		return false
	case f == fateRefused && !x.doubt:
		x.doubt, x.head, x.token = true, true, 0
		return true
	}
	x.decided(f)
	return true
}

// try runs the transaction on what the device has, and keeps the attempt.
func (x *simTransact) try() bool {
	d, w, m := x.d, x.d.w, x.d.w.model
	w.txns++
	txn := w.txns
	x.t.fn = func(tx *Tx) error {
		m.undo(txn)
		for _, o := range x.event.ops {
			if err := d.reads(txn, x.t.namespace, o, tx); err != nil {
				return err
			}
			if err := d.op(txn, x.t.namespace, o, tx); err != nil {
				return err
			}
		}
		return nil
	}
	var b *commitlog.Bundle
	kept := false
	survived := d.step(func() (err error) {
		if b, err = x.t.sign(); err != nil || b == nil {
			return err
		}
		return d.v.update(func(s *state) (err error) { kept, err = s.keepAttempt(b); return err })
	})
	a := &simAttempt{call: x.call, writes: m.txns[txn]}
	m.undo(txn) // it is not anywhere until it is in the log
	m.txns[txn] = a.writes
	switch {
	case b == nil:
		if d.selected.Keeps(x.t.namespace) || !errors.Is(x.t.err, ErrNotSelected) {
			w.must(x.t.err)
		}
		if d.trans == x {
			x.end()
		}
		return false
	case !kept:
		w.fail("serialised", "%s: an attempt is not kept, though nothing came between", d.name())
	case !survived && d.imaged:
		return false // nothing of it was stored
	}
	x.t.seq, x.t.seen = b.Commit.Header.Seq, b.Commit.Header.SeenSize
	a.seen = x.t.seen
	x.t.runs++
	x.attempt, x.head, x.token, x.doubt = a, true, 0, false
	m.attempts[simSeq{d.identity.id, x.t.seq}] = a
	for _, o := range a.writes {
		w.tracef("%s will have written, if it comes directly behind commit %d: %v", d.name(), a.seen, o)
	}
	return survived
}

// decided takes in what has become of an attempt.
func (x *simTransact) decided(f fate) {
	d, w, a := x.d, x.d.w, x.attempt
	w.tracef("%s: attempt %d of transaction %d: fate %d", d.name(), x.t.runs, x.call, f)
	switch f {
	case fateTaken:
		if a.id == 0 || uint64(a.id) > d.size {
			w.fail("serialised", "%s is told that transaction %d is in the log: it is at commit %d of %d", d.name(), x.call, a.id, d.size)
		}
		x.end()
	case fatePassed:
		if a.failed = true; a.id != 0 {
			w.fail("serialised", "%s is told that transaction %d came too late: it is at commit %d", d.name(), x.call, a.id)
		}
		if x.t.runs == simRuns {
			x.end()
			return
		}
		x.attempt, x.t.seq = nil, 0
		x.head, x.token = true, 0
	default:
		x.end() // nobody knows what will come of it
	}
}

// reads compares what a transaction sees, before it writes it, with what the log
// has.
func (d *simDevice) reads(txn int, namespace string, o simOp, tx *Tx) error {
	name := string(rune('a' + o.name))
	shown := d.sees(txn, simRecord{namespace, name}, tx)
	if now := millis(d.now()); len(shown) > 0 && (shown[0].expires != 0 && now >= shown[0].expires || now < shown[0].available) {
		shown = nil
	}
	rec, err := tx.Get(name)
	switch {
	case errors.Is(err, ErrNotFound) && len(shown) == 0:
		return nil
	case err != nil:
		d.w.fail("serialised", "%s reads %s/%s: %v, want %v", d.name(), namespace, name, err, shown)
	case len(shown) == 0, shown[0].size <= seal.MaxInline && !bytes.Equal(rec.Value, shown[0].value()):
		d.w.fail("serialised", "%s reads %s/%s: %.60q, want %v", d.name(), namespace, name, rec.Value, shown)
	}
	return nil
}

// sees returns the versions of a record that a write finds: in Transact those of
// the log, and what the transaction has written itself.
func (d *simDevice) sees(txn int, r simRecord, tx *Tx) []*simWrite {
	if tx == nil || tx.logged == nil {
		shown, _ := d.w.model.view(d.identity, r, d.size)
		return shown
	}
	var own []*simWrite
	for _, w := range d.w.model.txns[txn] {
		if w.record == r {
			own = append(own, w)
		}
	}
	return d.w.model.over(d.identity, r, d.size, own)
}

// serialised takes in an attempt that has come into the log.
func (m *simModel) serialised(id commitlog.CommitID, h *commitlog.Header) (*simAttempt, error) {
	a := m.attempts[simSeq{h.Device, h.Seq}]
	switch {
	case a == nil:
		return nil, fmt.Errorf("commit %d is a transaction that nobody made", id)
	case a.failed:
		return nil, fmt.Errorf("commit %d is an attempt of transaction %d that was said to have failed", id, a.call)
	case h.SeenSize != a.seen || uint64(id) != a.seen+1:
		return nil, fmt.Errorf("commit %d is an attempt of transaction %d, made on %d commits", id, a.call, a.seen)
	}
	for _, o := range m.attempts {
		if o.call == a.call && o.id != 0 {
			return nil, fmt.Errorf("commit %d is transaction %d, which is commit %d already", id, a.call, o.id)
		}
	}
	a.id = id
	for _, w := range a.writes {
		m.records[w.record] = append(m.records[w.record], w)
	}
	return a, nil
}
