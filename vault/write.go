package vault

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A change is a local write, before it is sealed.
type change struct {
	namespace string
	name      string
	delete    bool
	restate   bool            // an automatic write: it settles what there is, and adds no edit
	value     []byte          // for values up to seal.MaxInline
	object    *seal.ObjectRef // for longer ones, in the object store already
	objSize   uint64          // bytes of the sealed object

	contentType        string
	expires, available uint64 // Unix ms; 0: none
	cond               condition
}

// A condition is what a write asks of the record it changes.
type condition struct {
	absent   bool
	revision Revision // 0: any
	expired  bool     // one that has expired is there, too: it is settled
}

// check validates what can be without the store.
func (c *change) check() error {
	if err := keys.ValidNamespace(c.namespace); err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	if c.expires >= maxTime || c.available >= maxTime {
		return fmt.Errorf("%w: a time so far away", ErrInvalid)
	}
	return checkName(c.name, c.contentType)
}

// maxTime is the first time in Unix ms that a payload cannot hold.
const maxTime = 1 << 48

func checkName(name, contentType string) error {
	switch {
	case len(name) > seal.MaxName:
		return fmt.Errorf("%w: a name has at most %d bytes, this one has %d", ErrTooLarge, seal.MaxName, len(name))
	case name != "" && name[0] == 0:
		return fmt.Errorf("%w: names that begin with a zero byte are reserved", ErrInvalid)
	case len(contentType) > seal.MaxContentType:
		return fmt.Errorf("%w: a content type has at most %d bytes, this one has %d", ErrTooLarge, seal.MaxContentType, len(contentType))
	case !utf8.ValidString(contentType):
		return fmt.Errorf("%w: a content type is UTF-8", ErrInvalid)
	}
	return nil
}

// A txn is one local transaction under way: what is written in it gets local
// ids that follow each other.
type txn struct {
	first   uint64 // local id of its first change; 0: none yet
	last    uint64 // … and of its newest
	alone   bool   // it will have one change
	changes int    // in the outbox
	bytes   int    // of their blobs and entries
}

// write makes a local change: it seals it, fixes what it supersedes, and puts
// it into the outbox. Deleting what is not there does nothing.
func (s *state) write(t *txn, c *change) (Revision, error) {
	if err := s.begun(); err != nil {
		return 0, err
	}
	v := s.v
	tag := v.keys.tag(c.namespace)
	key := v.keys.recordKey(tag, c.name)
	e, err := s.record(key)
	if err != nil {
		return 0, err
	}
	if e == nil {
		e = &entry{key: key, name: c.name}
	}
	heads, err := s.countHeads(e)
	if err != nil {
		return 0, err
	}
	if heads == 0 && (c.delete || c.cond != condition{}) {
		// Whether there is such a record is known only where the namespace is kept.
		if err := s.unknown(tag); !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		if e.rev == 0 {
			if err := s.beside(key[:]); err != nil {
				return 0, err
			}
		}
	}
	if err := c.cond.check(e, heads > 0 && (c.cond.expired || !e.expired(millis(v.conf.Now())))); err != nil {
		return 0, err
	}
	if c.delete && heads == 0 {
		return e.rev, nil
	}
	epoch, err := s.epoch()
	if err != nil {
		return 0, err
	}
	refs, replaced, err := s.supersede(t, key, e)
	if err != nil {
		return 0, err
	}
	if replaced != nil {
		if replaced.txn == t.first {
			t.changes--
			t.bytes -= replaced.size()
		} else if c.delete {
			if err := s.withdraw(replaced); err != nil {
				return 0, err
			}
		}
		if err := s.dropPending(replaced); err != nil {
			return 0, err
		}
		e.pending = e.pending[:len(e.pending)-1]
	}
	e.clock = tick(v.conf.Now(), e.clock)
	e.expires, e.available = c.expires, c.available

	if c.delete && len(refs) == 0 {
		// Nothing of the record was ever sent: it ends as if it had not been.
		e.expires, e.available = 0, 0
	} else if err := s.queue(t, c, e, key, epoch, refs); err != nil {
		return 0, err
	}
	if !c.delete {
		if err := s.rewritten(key); err != nil {
			return 0, err
		}
	}
	if err := s.touch(key, e); err != nil {
		return 0, err
	}
	s.fed = true
	if err := s.nameNamespace(tag, c.namespace); err != nil {
		return 0, err
	}
	return e.rev, s.setRecord(key, e)
}

// supersede returns what a write of the record names: all its heads, and for a
// pending head also what that names in the log. A pending delete is no head: what
// it named is named in its place. Where the pending head may be replaced instead
// of followed, it is returned, and the refs are its own.
func (s *state) supersede(t *txn, key recordKey, e *entry) (refs []pendingRef, replaced *pendingChange, err error) {
	for _, id := range e.live {
		refs = append(refs, pendingRef{id: id})
	}
	if n := len(e.pending); n > 0 {
		p, err := s.pendingChange(e.pending[n-1])
		if errors.Is(err, store.ErrDamaged) {
			return refs, &pendingChange{local: e.pending[n-1], key: key}, nil // the disk spoilt it; this takes its place
		}
		if err != nil {
			return nil, nil, err
		}
		refs = union(refs, p.refs)
		// Within one transaction the last write of a record counts. Otherwise
		// only a change alone in its transaction is replaced, by another such:
		// a transaction is never torn.
		same := t.first != 0 && p.txn == t.first
		if same && s.isUnsent(p) || p.alone && t.alone && s.mayReplace(p) {
			replaced = p
		} else if p.op != commitlog.OpDelete {
			refs = append(slices.DeleteFunc(refs, func(r pendingRef) bool { return r.local != 0 }), pendingRef{local: p.local})
		}
	}
	return refs, replaced, nil
}

// mayReplace reports whether a later change of the record may take the place of
// this one: no commit holds it that could still come into the log.
func (s *state) mayReplace(p *pendingChange) bool {
	return !s.v.conf.KeepEach && s.isUnsent(p) || s.isAside(p)
}

// end ends a transaction. One that came to have a single change is as if it
// had been made alone: it takes the place of an unsent change before it.
func (s *state) end(t *txn) error {
	if t.changes != 1 || t.alone {
		return nil
	}
	local := t.last
	for local > t.first && s.outbox.Get(localKey(local)) == nil {
		local-- // the newest may have been taken back again
	}
	p, err := s.pendingChange(local)
	if err != nil {
		return err
	}
	p.alone = true
	p.blob = slices.Clone(p.blob)
	e, err := s.record(p.key)
	if err != nil {
		return err
	}
	if n := len(e.pending); n > 1 && slices.Contains(p.refs, pendingRef{local: e.pending[n-2]}) {
		q, err := s.pendingChange(e.pending[n-2])
		if err != nil {
			return err
		}
		if q.alone && s.mayReplace(q) {
			p.refs = union(slices.DeleteFunc(p.refs, func(r pendingRef) bool { return r.local == q.local }), q.refs)
			if p.op == commitlog.OpDelete {
				if err := s.withdraw(q); err != nil {
					return err
				}
			}
			if err := s.dropPending(q); err != nil {
				return err
			}
			e.pending = slices.Delete(e.pending, n-2, n-1)
			if p.op == commitlog.OpDelete && len(p.refs) == 0 {
				e.pending = e.pending[:len(e.pending)-1]
				if err := s.dropPending(p); err != nil {
					return err
				}
				return s.setRecord(p.key, e)
			}
			if err := s.setRecord(p.key, e); err != nil {
				return err
			}
		}
	}
	return s.setPending(p)
}

// queue seals a change and puts it into the outbox. Where it supersedes more
// than one change can name, deletes beside it carry the rest.
func (s *state) queue(t *txn, c *change, e *entry, key recordKey, epoch uint32, refs []pendingRef) error {
	alone := t.alone
	if c.restate && len(refs) > commitlog.MaxRefs {
		refs = refs[:commitlog.MaxRefs] // the next restate takes the rest
	}
	for len(refs) > commitlog.MaxRefs {
		alone = false
		p := &pendingChange{epoch: epoch, key: key, clock: e.clock, op: commitlog.OpDelete, refs: refs[:commitlog.MaxRefs]}
		if err := s.enqueue(t, e, p, &seal.Payload{Form: seal.FormDelete, HLC: e.clock, Name: c.name}); err != nil {
			return err
		}
		refs = refs[commitlog.MaxRefs:]
	}
	p := &pendingChange{alone: alone, epoch: epoch, key: key, clock: e.clock, op: commitlog.OpPut, refs: refs}
	payload := seal.Payload{
		Form: seal.FormInline, HLC: e.clock, Expires: c.expires, Available: c.available,
		ContentType: c.contentType, Name: c.name, Value: c.value,
	}
	if c.restate {
		p.op = commitlog.OpRestate
	}
	switch {
	case c.delete:
		p.op = commitlog.OpDelete
		payload = seal.Payload{Form: seal.FormDelete, HLC: e.clock, Name: c.name}
	case c.object != nil:
		payload.Form, payload.Object, payload.Value = seal.FormObject, c.object, nil
		p.object, p.objSize = c.object.Hash, c.objSize
	}
	return s.enqueue(t, e, p, &payload)
}

// enqueue seals one change and stores it as the record's newest pending one.
func (s *state) enqueue(t *txn, e *entry, p *pendingChange, payload *seal.Payload) error {
	sealer, err := s.v.keys.sealer(p.key.tag(), p.epoch)
	if err != nil {
		return err
	}
	if p.blob, err = sealer.Seal(nil, payload); err != nil {
		return err
	}
	if p.local, err = s.outbox.Next(); err != nil {
		return err
	}
	if t.first == 0 {
		t.first = p.local
	}
	p.txn, t.last = t.first, p.local
	t.changes++
	t.bytes += p.size()
	e.pending = append(e.pending, p.local)
	s.queued = true
	if err := s.countPending(1, int64(p.weight())); err != nil {
		return err
	}
	if err := s.setPending(p); err != nil {
		return err
	}
	return s.unsent.Put(unsentKey(p.key.tag(), p.local), present)
}

// shown reports whether the record has anything to show, or to say. It opens
// nothing.
func (s *state) shown(e *entry) (bool, error) {
	n, err := s.countHeads(e)
	return n > 0 || slices.ContainsFunc(e.pending, s.spoilt), err
}

// countHeads counts the record's heads, as if all of them opened.
func (s *state) countHeads(e *entry) (n int, err error) {
	if len(e.pending) == 0 {
		return len(e.live), nil
	}
	newest, covered, err := s.overlay(e)
	if err != nil {
		return 0, err
	}
	if newest != nil && newest.op != commitlog.OpDelete {
		n++
	}
	for _, id := range e.live {
		if !covered[id] {
			n++
		}
	}
	return n, nil
}

// overlay returns the newest pending change of a record that has one, and the
// changes in the log that its pending changes supersede. What the disk spoilt is
// passed over, and so is a restate that will be void; newest is nil if that is
// all.
func (s *state) overlay(e *entry) (newest *pendingChange, covered map[commitlog.ChangeID]bool, err error) {
	covered = make(map[commitlog.ChangeID]bool)
	for _, local := range e.pending {
		p, err := s.pendingChange(local)
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if s.void(p) {
			continue
		}
		newest = p
		for _, r := range p.refs {
			if r.local == 0 {
				covered[r.id] = true
			}
		}
	}
	return newest, covered, nil
}

// void reports whether a pending change is a restate that will not hold: what it
// names is no longer all live.
func (s *state) void(p *pendingChange) bool {
	return p.op == commitlog.OpRestate && slices.ContainsFunc(p.refs, func(r pendingRef) bool {
		return r.local == 0 && !s.log.Live(p.key.tag(), r.id)
	})
}

func (c condition) check(e *entry, exists bool) error {
	switch {
	case c.absent && exists:
		return fmt.Errorf("%w: it exists already", ErrCondition)
	case c.revision != 0 && (!exists || e.rev != c.revision):
		return fmt.Errorf("%w: it is at revision %d, not %d", ErrCondition, e.rev, c.revision)
	}
	return nil
}

// nameNamespace keeps the name of a namespace, so that it can be listed.
func (s *state) nameNamespace(tag keys.Tag, name string) error {
	if s.namespaces.Get(tag[:]) != nil {
		return nil
	}
	return s.namespaces.Put(slices.Clone(tag[:]), s.v.keys.local.Seal(nil, []byte(name), tag[:]))
}

// namespaceName returns the name of a namespace, "" where it is not known.
func (s *state) namespaceName(tag keys.Tag) string {
	sealed := s.namespaces.Get(tag[:])
	if sealed == nil {
		return ""
	}
	name, err := s.v.keys.local.Open(nil, sealed, tag[:])
	if err != nil {
		return ""
	}
	return string(name)
}
