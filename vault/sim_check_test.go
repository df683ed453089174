package vault

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
)

func commitID(size uint64) commitlog.CommitID { return commitlog.CommitID(size) }

// check looks, after each step, whether the device's log is the beginning of the
// secondary's.
func (d *simDevice) check() {
	var size uint64
	var root commitlog.Hash
	d.w.must(d.v.view(func(s *state) (err error) {
		if size = s.log.Size(); size != d.size {
			root, err = s.log.RootAt(size)
		}
		d.identity.base = max(d.identity.base, s.log.Base())
		return err
	}))
	switch {
	case size == d.size:
		return
	case size < d.size:
		d.w.fail("prefix", "%s had %d commits, and has %d", d.name(), d.size, size)
	case size > uint64(len(d.w.model.commits)):
		d.w.fail("prefix", "%s has %d commits, of %d", d.name(), size, len(d.w.model.commits))
	case root != d.w.model.commits[size-1]:
		d.w.fail("prefix", "%s has other commits, up to %d", d.name(), size)
	}
	d.w.tracef("%s has %d commits", d.name(), size)
	d.size = size
}

// write makes a transaction, on the device and in the model, and compares what
// they say.
func (d *simDevice) write(e *simEvent) {
	w, m := d.w, d.w.model
	if d.v == nil || !d.shows(simNamespaces[e.ns]) {
		return
	}
	w.txns++
	txn, namespace := w.txns, simNamespaces[e.ns]
	n := d.v.Namespace(namespace)
	ok := d.step(func() error {
		if e.kind == simStrategy {
			if err := d.setStrategy(txn, namespace, simStrategyList[e.n]); err != nil {
				return err
			}
		} else if e.kind == simWriteOne {
			if err := d.op(txn, namespace, e.ops[0], nil); err != nil {
				return err
			}
		} else if err := d.v.Update(w.ctx, namespace, func(tx *Tx) error {
			m.undo(txn) // it may run again
			for _, o := range e.ops {
				if err := d.op(txn, namespace, o, tx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		return d.v.view(func(s *state) error {
			for _, o := range m.txns[txn] {
				e, err := s.record(d.v.keys.recordKey(d.v.keys.tag(n.name), o.record.name))
				if err != nil {
					return err
				}
				o.clock = e.clock
			}
			return nil
		})
	})
	if !ok && d.imaged {
		m.undo(txn) // nothing of it was stored
	}
	for _, o := range m.txns[txn] {
		w.tracef("%s wrote: %v, seeing %d commits", d.name(), o, o.seen)
	}
	if d.link != nil {
		d.link.pump(nil)
	}
}

// setStrategy says how conflicts in a namespace are settled, unless that has been
// said.
func (d *simDevice) setStrategy(txn int, namespace string, st Strategy) error {
	if d.beginning() {
		return nil // ErrIncomplete
	}
	m := d.w.model
	r := simRecord{namespace, aboutName}
	if shown, _ := m.view(d.identity, r, d.size); len(shown) == 0 || shown[0].strategy != st {
		m.add(&simWrite{by: d.identity, record: r, seen: d.size, txn: txn, strategy: st})
	}
	return d.v.Namespace(namespace).SetStrategy(d.w.ctx, st)
}

// op makes one write.
func (d *simDevice) op(txn int, namespace string, o simOp, tx *Tx) error {
	if d.beginning() {
		return nil // ErrIncomplete
	}
	w, m := d.w, d.w.model
	name := string(rune('a' + o.name))
	r := simRecord{namespace, name}
	shown := d.sees(txn, r, tx)
	exists := len(shown) > 0
	x := &simWrite{
		number: m.written + 1, by: d.identity, record: r, delete: o.kind == simDelete, size: o.size,
		seen: d.size, txn: txn, serial: tx != nil && tx.logged != nil,
	}

	n := d.v.Namespace(namespace)
	var opts []Option
	refused := false // it has to be
	switch o.kind {
	case simCreate:
		opts = append(opts, IfAbsent())
		refused = exists && (shown[0].expires == 0 || millis(d.now()) < shown[0].expires)
	case simSwap, simStale:
		get := func() (*Record, error) { return n.Get(w.ctx, name) }
		if tx != nil {
			get = func() (*Record, error) { return tx.Get(name) }
		}
		rec, err := get()
		if errors.Is(err, ErrNotFound) || d.lacks(shown, err) {
			return nil
		} else if err != nil {
			return err
		}
		if refused = o.kind == simStale; refused {
			rec.Revision += 1000
		}
		opts = append(opts, IfRevision(rec.Revision))
	}
	var err error
	if x.delete {
		if tx != nil {
			err = tx.Delete(name)
		} else {
			err = n.Delete(w.ctx, name)
		}
		if !exists {
			return err // nothing is written
		}
	} else {
		if o.expires != 0 {
			t := d.now().Add(time.Duration(o.expires) * time.Millisecond)
			x.expires = millis(t)
			opts = append(opts, Expires(t))
		}
		if o.later != 0 {
			t := d.now().Add(time.Duration(o.later) * time.Millisecond)
			x.available = millis(t)
			opts = append(opts, Available(t))
		}
		if tx != nil {
			_, err = tx.Put(name, x.value(), opts...)
		} else {
			_, err = n.Put(w.ctx, name, x.value(), opts...)
		}
	}
	switch {
	case refused && errors.Is(err, ErrCondition):
		return nil
	case refused && err == nil:
		w.fail("condition", "%s: %v must not be", d.name(), x)
	case err == nil:
		m.add(x)
	}
	return err
}

// lacks reports whether an error says that a long value has not come yet, or was
// left at the secondary.
func (d *simDevice) lacks(shown []*simWrite, err error) bool {
	if len(shown) == 0 {
		return false
	}
	may := d.selected.Lazy > 0 || d.sweeping || !d.w.healing && shown[0].by != d.identity
	return may && shown[0].size > seal.MaxInline && errors.Is(err, ErrNotHere)
}

// beginning reports whether the device begins with a checkpoint and is not admitted:
// then nothing is read or written.
func (d *simDevice) beginning() (is bool) {
	if err := d.v.view(func(s *state) (err error) { is, err = s.beginning(); return err }); err != nil {
		d.w.fail("beginning", "%s: %v", d.name(), err)
	}
	return is
}

// look compares what the device shows with what it must show: the versions of
// exactly the commits it has, and its own changes over them.
func (d *simDevice) look() {
	if d.v == nil || d.beginning() {
		return
	}
	d.counts()
	now := millis(d.now())
	for _, namespace := range simNamespaces {
		if !d.shows(namespace) {
			continue
		}
		n := d.v.Namespace(namespace)
		want := d.w.model.strategy(d.identity, namespace, d.size)
		if got, err := n.Strategy(d.w.ctx); err != nil || got != want {
			d.w.fail("shown", "%s settles %s by %v, %v, want %v", d.name(), namespace, got, err, want)
		}
		var names, listed []string
		for i := range d.w.plan.names {
			r := simRecord{namespace, string(rune('a' + i))}
			shown, _ := d.w.model.view(d.identity, r, d.size)
			d.revised(r, shown)
			if len(shown) > 0 && (shown[0].expires != 0 && now >= shown[0].expires || now < shown[0].available) {
				shown = nil
			}
			rec, err := n.Get(d.w.ctx, r.name)
			switch {
			case errors.Is(err, ErrNotFound) && len(shown) == 0:
				continue
			case d.lacks(shown, err): // and is listed
			case err != nil:
				d.w.fail("shown", "%s, %s/%s: %v, want %v", d.name(), namespace, r.name, err, shown)
			case len(shown) == 0:
				d.w.fail("shown", "%s, %s/%s: %.60q, want nothing", d.name(), namespace, r.name, rec.Value)
			case !bytes.Equal(rec.Value, shown[0].value()):
				d.w.fail("shown", "%s, %s/%s: %.60q, want %v", d.name(), namespace, r.name, rec.Value, shown)
			case rec.Siblings != len(shown)-1:
				d.w.fail("shown", "%s, %s/%s: %d siblings beside %.60q, want %v", d.name(), namespace, r.name, rec.Siblings, rec.Value, shown)
			}
			names = append(names, r.name)
		}
		for rec, err := range n.List(d.w.ctx, NamesOnly()) {
			d.w.must(err)
			listed = append(listed, rec.Name)
		}
		if !slices.Equal(names, listed) {
			d.w.fail("shown", "%s lists %q in %s, want %q", d.name(), listed, namespace, names)
		}
	}
}

// revised checks that a record which shows something else than before has a new
// revision, and its place in the feed: who watches would miss it otherwise.
func (d *simDevice) revised(r simRecord, shown []*simWrite) {
	now := simRevision{versions: slices.Clone(shown)}
	d.w.must(d.v.view(func(s *state) error {
		key := d.v.keys.recordKey(d.v.keys.tag(r.namespace), r.name)
		e, err := s.record(key)
		if err != nil || e == nil {
			return err
		}
		if now.revision = e.rev; !bytes.Equal(s.feed.Get(localKey(uint64(e.rev))), key[:]) {
			d.w.fail("feed", "%s: revision %d of %v is not in the feed", d.name(), e.rev, r)
		}
		return nil
	}))
	before := d.revisions[r]
	if now.revision == before.revision && !slices.Equal(now.versions, before.versions) {
		d.w.fail("feed", "%s, %v: %v came after %v without a new revision", d.name(), r, now.versions, before.versions)
	}
	d.revisions[r] = now
}

type simRevision struct {
	revision Revision
	versions []*simWrite
}

// counts compares what is kept about the outbox with what is in it, and looks
// whether anything is waited for that no longer matters.
func (d *simDevice) counts() {
	d.w.must(d.v.view(func(s *state) error {
		var sum pendingSum
		err := s.outbox.Scan(nil, func(k, b []byte) (bool, error) {
			p, err := parsePending(be.Uint64(k), b)
			if err == nil {
				sum.changes++
				sum.bytes += p.weight()
			}
			return true, err
		})
		if kept, _ := s.pendingSum(); kept != sum {
			d.w.fail("report", "%s counts %+v in its outbox, there are %+v", d.name(), kept, sum)
		}
		return errors.Join(err, s.missing.Scan(nil, func(k, _ []byte) (bool, error) {
			if id := parseChangeKey(k); d.w.model.changes[id] != nil && !d.w.model.changes[id].live(d.size) {
				d.w.fail("report", "%s waits for the content of change %v, which is not live", d.name(), id)
			}
			return true, nil
		}))
	}))
}
