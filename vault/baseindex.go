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
// index, many at a time and sorted as it is: it is in no order that they could come
// in, so each alone would touch a page of its own. How far the index has come is kept
// under the key "base indexed", a tag and a change ID. What is stored after that by
// a restore that was cut is indexed again, and finds itself there.

const (
	baseIndexed    = 32768   // live changes that are indexed at once, or half as many more
	baseNames      = 4 << 20 // … or bytes of their names
	baseIndexBatch = 4096    // of which so many are stored in a transaction
)

// A baseItem is a live change that is to be indexed.
type baseItem struct {
	tag keys.Tag
	id  commitlog.ChangeID
	opened
	change *commitlog.Change // nil: there is nothing to say of it but that its content is here
	absent bool              // its content is not
}

// indexBase brings what is stored of the base into the index.
func (e *engine) indexBase() error {
	for {
		in, err := e.v.baseItems()
		if err != nil || len(in) == 0 {
			return err
		}
		last := &in[len(in)-1]
		place := append(last.tag[:], changeKey(last.id)...)
		slices.SortFunc(in, func(a, b baseItem) int { return bytes.Compare(a.key[:], b.key[:]) })
		for len(in) > 0 {
			part := in[:min(len(in), baseIndexBatch)]
			in = in[len(part):]
			var done applied
			err := e.v.update(func(s *state) error {
				done = applied{}
				ix := &indexer{s: s, done: &done}
				for i := range part {
					if err := ix.addBase(&part[i]); err != nil {
						return err
					}
				}
				if err := ix.flush(); err != nil {
					return err
				}
				if len(in) > 0 {
					return nil
				}
				return s.meta.Put(metaBaseIndexed, place)
			})
			if err != nil {
				return err
			}
			e.report.Pulled += done.changes
			e.report.Conflicts += done.conflicts
		}
	}
}

// present says of a change that its content is here, and no more.
var presentChange = &commitlog.Change{Op: commitlog.OpPut}

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
		c = presentChange
	}
	return ix.add(x.id, c, &x.opened, !x.absent, 0, false)
}

// baseItems returns the live changes that are to be indexed next, opened, in the
// order of the log.
func (v *Vault) baseItems() (in []baseItem, err error) {
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
			return len(in) < baseIndexed+baseIndexed/2, nil
		})
	})
	names := 0
	for at := 0; at < len(in) && err == nil; {
		if names >= baseNames {
			return in[:at], nil
		}
		part := in[at:min(len(in), at+baseIndexBatch)]
		err = v.openBase(part)
		at += len(part)
		for i := range part {
			names += len(part[i].name) + len(part[i].about)
		}
	}
	return in, err
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
