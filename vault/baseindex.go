package vault

import (
	"bytes"
	"errors"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// The live changes of a base go into the log as they come, and from there into the
// index: many at a time and in its order, which is none that they could come in. One
// after the other, each would touch a page of its own; so a page is written once for
// many. How far that has come is kept under the key "base indexed", as
//
//	tag 16 ‖ commit ID u64 ‖ index u16
//
// A restore that was cut goes on there, whatever it had stored of the index beyond:
// that is found there and left as it is.

// baseIndexed is how many live changes are indexed at a time, or half as many more,
// baseIndexBatch how many of these in one transaction. Variables for the sake of
// tests.
var (
	baseIndexed    = 32768
	baseIndexBatch = 8192
)

const (
	basePages = 1024    // that a transaction takes into memory before it is ended
	baseOpen  = 4096    // changes that are opened before it is looked at …
	baseNames = 4 << 20 // … whether so many bytes of names are held
)

// A baseItem is a live change that is to be indexed.
type baseItem struct {
	tag keys.Tag
	id  commitlog.ChangeID
	opened
	change *commitlog.Change // nil: there is nothing to say of it but that its content is here
	absent bool              // its content is not
}

// put stands for all changes of which there is nothing to say.
var put = &commitlog.Change{Op: commitlog.OpPut}

// indexes reports whether the index of a base has its turn.
func (e *engine) indexes() bool {
	b := e.base
	return b != nil && e.phase == phaseNew && e.reset.id == 0 && e.standing == nil &&
		(b.done || len(b.items) > 0 || b.waiting >= baseIndexed)
}

// indexBase takes a step of it: it stores the index of some changes. The last one has
// the log begin.
func (e *engine) indexBase() error {
	b := e.base
	if len(b.items) == 0 {
		if err := e.nextBase(); err != nil {
			return err
		}
		if len(b.items) == 0 && !b.done {
			return nil
		}
	}
	var n int // that are in it
	var done applied
	err := e.v.update(func(s *state) error {
		n, done = 0, applied{}
		for n < len(b.items) && n < baseIndexBatch && (n == 0 || s.tx.Touched() < basePages) {
			ix := &indexer{s: s, done: &done}
			for end := min(len(b.items), baseIndexBatch, n+64); n < end; n++ {
				if err := ix.addBase(&b.items[n]); err != nil {
					return err
				}
			}
			if err := ix.flush(); err != nil {
				return err
			}
		}
		switch {
		case n < len(b.items):
			return nil
		case n > 0:
			return s.meta.Put(metaBaseIndexed, b.indexed)
		}
		e.wants(s)
		return errors.Join(s.log.Begin(b.checkpoint), s.meta.Delete(metaBasePlace), s.meta.Delete(metaBaseIndexed))
	})
	if err != nil {
		return err
	}
	e.report.Pulled += done.changes
	if b.items = b.items[n:]; n == 0 {
		e.base = nil
	}
	return nil
}

// nextBase opens the changes that are to be indexed next, and sorts them.
func (e *engine) nextBase() error {
	b := e.base
	in, all, err := e.v.baseItems(b.room[:0])
	if err != nil {
		return err
	}
	if n := len(in); n > 0 {
		b.indexed = append(in[n-1].tag[:], changeKey(in[n-1].id)...)
	}
	if all {
		b.waiting = 0
	}
	slices.SortFunc(in, func(a, b baseItem) int { return bytes.Compare(a.key[:], b.key[:]) })
	b.items, b.room = in, in
	return nil
}

// addBase takes a live change, unless the index has it.
func (ix *indexer) addBase(x *baseItem) error {
	if x.known {
		e, err := ix.entry(x.key, x.name)
		if err != nil || slices.Contains(e.live, x.id) {
			return err
		}
	}
	c := x.change
	if c == nil {
		c = put
	}
	return ix.add(x.id, c, &x.opened, !x.absent, 0, false)
}

// baseItems appends the live changes that are to be indexed next, opened, in the
// order of the log, and says whether these are all.
func (v *Vault) baseItems(in []baseItem) (out []baseItem, all bool, err error) {
	all = true
	err = v.view(func(s *state) error {
		var tag keys.Tag
		var after commitlog.ChangeID
		if b := s.meta.Get(metaBaseIndexed); b != nil {
			tag, after = keys.Tag(b), parseChangeKey(b[16:])
		}
		return s.log.EachLiveAfter(tag, after, func(tag keys.Tag, id commitlog.ChangeID) (bool, error) {
			if tag != v.keys.control {
				in = append(in, baseItem{tag: tag, id: id})
			}
			all = len(in) < baseIndexed+baseIndexed/2
			return all, nil
		})
	})
	names := 0
	for at := 0; at < len(in) && err == nil; {
		if names >= baseNames {
			return in[:at], false, nil
		}
		part := in[at:min(len(in), at+baseOpen)]
		err = v.openBase(part)
		at += len(part)
		for i := range part {
			names += len(part[i].name) + len(part[i].about)
		}
	}
	return in, all, err
}

// openBase opens what the log has of live changes, on all cores.
func (v *Vault) openBase(in []baseItem) error {
	const chunk = 256
	errs := make([]error, (len(in)+chunk-1)/chunk)
	onAllCores(len(errs), func(n int) {
		errs[n] = v.view(func(s *state) error {
			k, err := s.keeping()
			if err != nil {
				return err
			}
			var p seal.Payload
			var buf []byte
			var sealer *seal.Key
			var cannot error
			var of commitlog.CommitID
			for i := n * chunk; i < min(len(in), (n+1)*chunk); i++ {
				x := &in[i]
				c, blob, err := s.log.Entry(x.id)
				if err != nil {
					return err
				}
				if blob == nil || c.HasObject() || !k.has(x.tag) {
					x.change, x.absent = &c, blob == nil
					c.Entry = nil // it is the store's
				}
				if blob == nil || !k.has(x.tag) {
					continue
				}
				if x.id.Commit != of {
					header, err := s.log.Header(x.id.Commit)
					if err != nil {
						return err
					}
					of = x.id.Commit
					sealer, cannot = v.keys.sealer(x.tag, be.Uint32(header[2:]))
				}
				if cannot != nil {
					x.reason = cannot.Error()
					continue
				}
				buf = v.openOne(&x.opened, sealer, x.tag, &c, blob, &p, buf)
			}
			return nil
		})
	})
	return errors.Join(errs...)
}
