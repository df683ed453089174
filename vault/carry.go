package vault

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys/seal"
)

// A carrying takes over into another log what this device's log has done after a
// size (SPEC.md, "Resets"): as changes in the outbox of the other one. It reads own
// and writes to other, in one transaction.
type carrying struct {
	own, other *state
	kept       uint64 // commits that both logs have
	cut        uint64 // what the own log has done after this many commits is carried over

	lost []commitlog.LostLog // whose commits another device has carried over already

	written map[commitlog.ChangeID]pendingRef // own changes that were written anew
	locals  map[uint64][]pendingRef           // what stands for own outbox entries
	named   map[commitlog.ChangeID]bool       // by what was written anew, in the other log
	held    map[commitlog.ChangeID]bool       // what stays, since what came after it could not be written anew
	left    int                               // changes that could not be written anew

	seen struct { // of the record that was looked at last: its changes in the other log, by their clock
		key recordKey
		at  map[clock][]commitlog.ChangeID
	}
}

// log carries over what commits after the cut have done.
func (c *carrying) log() error {
	c.written, c.locals = make(map[commitlog.ChangeID]pendingRef), make(map[uint64][]pendingRef)
	c.named, c.held = make(map[commitlog.ChangeID]bool), make(map[commitlog.ChangeID]bool)
	if err := c.other.outbox.SetSequence(max(c.own.outbox.Sequence(), c.other.outbox.Sequence())); err != nil {
		return err
	}
	var ended []commitlog.ChangeID // superseded after the cut
	seen := make(map[commitlog.ChangeID]bool)
	for at := commitlog.CommitID(c.cut + 1); uint64(at) <= c.own.log.Size(); at++ {
		b, err := c.own.log.Commit(at)
		if err != nil {
			return err
		}
		tag := b.Commit.Header.Tag
		if b.Commit.Header.Kind == commitlog.KindControl {
			continue
		}
		for i := range b.Commit.Changes {
			id := commitlog.ChangeID{Commit: at, Index: uint16(i)}
			switch {
			case c.own.log.Live(tag, id):
				if err := c.write(id); err != nil {
					return err
				}
			case b.Commit.Changes[i].Op != commitlog.OpDelete && !seen[id]:
				seen[id] = true // another device may have written it anew that did not know its end
				ended = append(ended, id)
			}
			named, err := c.own.log.Named(id)
			if err != nil {
				return err
			}
			for _, n := range named {
				if uint64(n.Commit) <= c.cut && !seen[n] && !c.own.log.Live(tag, n) {
					seen[n] = true
					ended = append(ended, n)
				}
			}
		}
	}
	return c.end(ended)
}

// write writes a live change of the own log anew.
func (c *carrying) write(id commitlog.ChangeID) error {
	h, err := c.usable(id)
	if err != nil {
		return err
	}
	if h == nil {
		c.left++
		return c.hold(id)
	}
	header, err := c.own.log.Header(id.Commit)
	if err != nil {
		return err
	}
	key := c.other.v.keys.recordKey(tagOf(header), h.payload.Name)
	if ref, ok, err := c.counterpart(key, h.payload); ok || err != nil {
		c.written[id] = ref
		return err
	}
	named, err := c.own.log.Named(id)
	if err != nil {
		return err
	}
	refs, err := c.refs(named)
	if err != nil {
		return err
	}
	t := &txn{alone: true}
	if err := c.queue(t, key, h.payload, commitlog.OpPut, refs); err != nil {
		return err
	}
	c.written[id] = pendingRef{local: t.last}
	return nil
}

// usable returns what a change of the own log says, nil where that, or its long
// value, is not here or not understood.
func (c *carrying) usable(id commitlog.ChangeID) (*head, error) {
	if u, err := c.own.unreadable(id); err != nil || u != nil {
		return nil, err
	}
	h, err := c.own.openChange(id)
	if err != nil || h == nil || !h.payload.Understood() {
		return nil, err
	}
	if o := h.payload.Object; o != nil {
		if _, whole, err := c.own.v.objects.Have(o.Hash); err != nil || !whole {
			return nil, err
		}
	}
	return h, nil
}

// hold keeps what a change had come after from being removed.
func (c *carrying) hold(id commitlog.ChangeID) error {
	named, err := c.own.log.Named(id)
	if err != nil {
		return err
	}
	for _, n := range named {
		if !c.held[n] {
			c.held[n] = true
			if err := c.hold(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// counterpart returns the change of a record in the other log, or in its outbox, that
// says the same at the same time, one that is live if there is one.
func (c *carrying) counterpart(key recordKey, p *seal.Payload) (ref pendingRef, found bool, err error) {
	if ref, found, err = c.logged(key, p); found || err != nil {
		return ref, found, err
	}
	e, err := c.other.record(key)
	if err != nil || e == nil {
		return ref, false, err
	}
	for _, local := range e.pending {
		q, err := c.other.pendingChange(local)
		if err != nil {
			return ref, false, err
		}
		h, err := c.other.openPending(q)
		if err != nil {
			return ref, false, err
		}
		if samePayload(h.payload, p) {
			return pendingRef{local: local}, true, nil
		}
	}
	return ref, false, nil
}

// logged is counterpart in the other log alone.
func (c *carrying) logged(key recordKey, p *seal.Payload) (ref pendingRef, found bool, err error) {
	if err := c.look(key); err != nil {
		return ref, false, err
	}
	for _, id := range c.seen.at[p.HLC] {
		h, err := c.other.openChange(id)
		if err != nil {
			return ref, false, err
		}
		if h != nil && samePayload(h.payload, p) {
			return pendingRef{id: id}, true, nil
		}
	}
	return ref, false, nil
}

// look opens all changes of a record in the other log, unless it was the last one: who
// follows what a record's changes have named asks for one after the other.
func (c *carrying) look(key recordKey) error {
	if c.seen.at != nil && c.seen.key == key {
		return nil
	}
	c.seen.key, c.seen.at = key, make(map[clock][]commitlog.ChangeID)
	e, err := c.other.record(key)
	if err != nil || e == nil {
		return err
	}
	ids := slices.Clone(e.live)
	err = c.other.versions.ScanPrefix(key[:], nil, func(k, _ []byte) (bool, error) {
		ids = append(ids, parseChangeKey(k[len(key):]))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		h, err := c.other.openChange(id)
		if err != nil {
			return err
		}
		if h != nil {
			c.seen.at[h.payload.HLC] = append(c.seen.at[h.payload.HLC], id)
		}
	}
	return nil
}

func samePayload(a, b *seal.Payload) bool {
	return a.HLC == b.HLC && a.Form == b.Form && a.ContentType == b.ContentType && a.Expires == b.Expires && a.Available == b.Available &&
		bytes.Equal(a.Value, b.Value) && (a.Object == nil) == (b.Object == nil) && (a.Object == nil || *a.Object == *b.Object)
}

// refs returns what a change that named these has to name in the other log.
func (c *carrying) refs(named []commitlog.ChangeID) (out []pendingRef, err error) {
	seen := make(map[commitlog.ChangeID]bool)
	var follow func(ids []commitlog.ChangeID) error
	follow = func(ids []commitlog.ChangeID) error {
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			ref, ok, err := c.stands(id)
			if err != nil {
				return err
			}
			if ok {
				out = union(out, []pendingRef{ref})
				continue
			}
			before, err := c.own.log.Named(id)
			if errors.Is(err, store.ErrNotFound) {
				continue // below the base, where nobody can tell
			}
			if err != nil {
				return err
			}
			if err := follow(before); err != nil {
				return err
			}
		}
		return nil
	}
	return out, follow(named)
}

// stands returns what stands in the other log for a change of the own one: itself,
// its counterpart, or what it was written anew as.
func (c *carrying) stands(id commitlog.ChangeID) (ref pendingRef, ok bool, err error) {
	if uint64(id.Commit) <= c.kept {
		return pendingRef{id: id}, true, nil
	}
	if ref, ok := c.written[id]; ok {
		return ref, true, nil
	}
	h, err := c.own.openChange(id)
	if err != nil || h == nil {
		return ref, false, err
	}
	header, err := c.own.log.Header(id.Commit)
	if err != nil {
		return ref, false, err
	}
	return c.counterpart(c.own.v.keys.recordKey(tagOf(header), h.payload.Name), h.payload)
}

// queue puts one change into the other outbox, with the clock that it has had.
func (c *carrying) queue(t *txn, key recordKey, p *seal.Payload, op commitlog.Op, refs []pendingRef) error {
	s := c.other
	e, err := s.record(key)
	if err != nil {
		return err
	}
	if e == nil {
		e = &entry{key: key, name: p.Name}
	}
	epoch, err := s.epoch()
	if err != nil {
		return err
	}
	ch := &change{
		name: p.Name, delete: op == commitlog.OpDelete, restate: op == commitlog.OpRestate, value: p.Value,
		contentType: p.ContentType, expires: p.Expires, available: p.Available,
	}
	if o := p.Object; o != nil {
		f, err := s.v.objects.Open(o.Hash)
		if err != nil {
			return fmt.Errorf("%w: a long value of the outbox: %v", ErrDamaged, err)
		}
		ch.object, ch.objSize = o, uint64(f.Size)
		if err := f.Close(); err != nil {
			return err
		}
	}
	clock := max(e.clock, p.HLC)
	e.clock, e.expires, e.available = p.HLC, p.Expires, p.Available
	if err := s.queue(t, ch, e, key, epoch, refs); err != nil {
		return err
	}
	e.clock = clock
	if err := s.join(e); err != nil {
		return err
	}
	for _, r := range refs {
		if r.local == 0 {
			c.named[r.id] = true
		}
	}
	return errors.Join(s.touch(key, e), s.setRecord(key, e))
}

// end removes what commits after the cut have ended, and nothing that was written anew
// ends.
func (c *carrying) end(ended []commitlog.ChangeID) error {
	records := make(map[recordKey][]pendingRef)
	var order []recordKey
	payloads := make(map[recordKey]*seal.Payload)
	for _, id := range ended {
		if c.held[id] {
			continue
		}
		ref, ok, err := c.stands(id)
		if err != nil {
			return err
		}
		if !ok || ref.local != 0 || c.named[ref.id] {
			continue
		}
		h, err := c.other.openChange(ref.id)
		if err != nil {
			return err
		}
		if h == nil { // who has its content removes it
			continue
		}
		header, err := c.other.log.Header(ref.id.Commit)
		if err != nil {
			return err
		}
		if !c.other.log.Live(tagOf(header), ref.id) {
			continue
		}
		key := c.other.v.keys.recordKey(tagOf(header), h.payload.Name)
		if records[key] == nil {
			order = append(order, key)
		}
		records[key], payloads[key] = union(records[key], []pendingRef{ref}), h.payload
	}
	for _, key := range order {
		e, err := c.other.record(key)
		if err != nil {
			return err
		}
		before := payloads[key].HLC
		if e != nil {
			before = max(before, e.clock)
		}
		if mine, err := c.own.record(key); err != nil {
			return err
		} else if mine != nil {
			before = max(before, mine.clock)
		}
		p := &seal.Payload{Form: seal.FormDelete, HLC: tick(c.own.v.conf.Now(), before), Name: payloads[key].Name}
		if err := c.queue(&txn{alone: true}, key, p, commitlog.OpDelete, records[key]); err != nil {
			return err
		}
	}
	return nil
}

// outbox carries over what is not in the own log. What is known to be in the lost one
// the device has carried over that has ended that, as far as it still counts.
func (c *carrying) outbox() error {
	there, err := c.own.sentInto(c.lost)
	if err != nil {
		return err
	}
	txns := make(map[uint64]*txn)
	return c.own.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), bytes.Clone(b))
		if errors.Is(err, store.ErrDamaged) {
			c.left++
			return true, nil
		}
		if err != nil {
			return false, err
		}
		h, err := c.own.openPending(p)
		if err != nil {
			return false, err
		}
		if p.op != commitlog.OpDelete { // which says nothing but what it names
			if ref, ok, err := c.counterpart(p.key, h.payload); ok || err != nil {
				c.locals[p.local] = []pendingRef{ref}
				return err == nil, err
			}
		}
		var refs []pendingRef
		for _, r := range p.refs {
			in := c.locals[r.local]
			if r.local == 0 {
				if in, err = c.refs([]commitlog.ChangeID{r.id}); err != nil {
					return false, err
				}
			}
			refs = union(refs, in)
		}
		if there[p.local] || p.op != commitlog.OpPut && len(refs) == 0 { // or what it ended, or settled, is not there
			c.locals[p.local] = refs
			return true, nil
		}
		t := txns[p.txn]
		if t == nil {
			t = &txn{alone: p.alone}
			txns[p.txn] = t
		}
		if err := c.queue(t, p.key, h.payload, p.op, refs); err != nil {
			return false, err
		}
		c.locals[p.local] = []pendingRef{{local: t.last}}
		return true, nil
	})
}

// events sees to it that whoever watches is told of records that there have never been
// in the other log, and of conflicts that are new; and that what was withdrawn stays.
func (c *carrying) events() error {
	own, other := c.own, c.other
	gone := func(key recordKey) error {
		mine, err := own.record(key)
		if err != nil || mine == nil {
			return err
		}
		if e, err := other.record(key); e != nil || err != nil {
			return err
		}
		e := &entry{key: key, name: mine.name, clock: mine.clock}
		return errors.Join(other.touch(key, e), other.setRecord(key, e))
	}
	for at := commitlog.CommitID(c.kept + 1); uint64(at) <= own.log.Size(); at++ {
		b, err := own.log.Commit(at)
		if err != nil {
			return err
		}
		for i := range b.Commit.Changes {
			key, _, err := own.recordOf(commitlog.ChangeID{Commit: at, Index: uint16(i)})
			if err == nil && key != (recordKey{}) && b.Commit.Header.Kind != commitlog.KindControl {
				err = gone(key)
			}
			if err != nil {
				return err
			}
		}
	}
	err := own.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), b)
		if errors.Is(err, store.ErrDamaged) {
			return true, nil
		}
		if err == nil {
			err = gone(p.key)
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	err = own.withdrawn.Scan(nil, func(k, b []byte) (bool, error) {
		return true, errors.Join(gone(recordKey(k)), other.withdrawn.Put(slices.Clone(k), slices.Clone(b)))
	})
	if err != nil || own.v.conf.Conflict == nil {
		return err
	}
	err = own.raised.Scan(nil, func(k, b []byte) (bool, error) {
		return true, other.raised.Put(slices.Clone(k), slices.Clone(b))
	})
	if err != nil {
		return err
	}
	return other.conflicts.Scan(nil, func(k, b []byte) (bool, error) {
		now, err := parseConflictState(b)
		if err != nil || !now.differ || own.conflicts.Get(k) != nil || other.raised.Get(k) != nil {
			return err == nil, err
		}
		return true, other.raised.Put(slices.Clone(k), []byte{raisedVersions})
	})
}

// settings carries over what is this device's own.
func (c *carrying) settings() error {
	own, other := c.own, c.other
	err := own.namespaces.Scan(nil, func(tag, sealed []byte) (bool, error) {
		if other.namespaces.Get(tag) != nil {
			return true, nil
		}
		return true, other.namespaces.Put(slices.Clone(tag), slices.Clone(sealed))
	})
	if err != nil {
		return err
	}
	author, err := other.log.Author(own.v.keys.device)
	if err != nil {
		return err
	}
	last := max(own.sequence(), other.sequence())
	if author != nil {
		last = max(last, author.LastSeq)
	}
	for _, k := range [][]byte{metaRetention, metaSelection} {
		b := own.meta.Get(k)
		if bytes.Equal(b, other.meta.Get(k)) {
			continue
		}
		if b == nil {
			err = other.meta.Delete(k)
		} else {
			err = other.meta.Put(k, slices.Clone(b))
		}
		if err == nil && bytes.Equal(k, metaSelection) {
			err = other.setSweep(logStart)
		}
		if err != nil {
			return err
		}
	}
	if a, err := own.alarm(); err != nil {
		return err
	} else if a != nil { // this is the way out of it
		a.Tried = own.v.conf.Now()
		if err := own.putAlarm(own.meta.Get(metaAlarm), a); err != nil {
			return err
		}
	}
	return errors.Join(
		other.meta.Put(metaSequence, localKey(last)),
		other.meta.Put(metaOver, localKey(own.sequence())),
		other.meta.Delete(metaRebuild),
	)
}
