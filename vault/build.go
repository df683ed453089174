package vault

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// maxUnverified is how many signed commits of its own a device may have that it
// has not seen in the log yet. It bounds what a secondary can make a device
// sign that is shown an old log (SPEC.md, "Signing").
const maxUnverified = 64

// build signs commits over what is in the outbox, until there are maxUnverified
// or their blobs take maxBytes. What it signs is stored before it is sent, and
// sent again as it is until it is verified or refused. It reports whether more could
// be signed at once.
func (s *state) build(maxBytes int) (more bool, err error) {
	if seq, _, _ := s.attempt(); seq != 0 {
		return false, nil
	}
	if err := s.overtaken(); err != nil {
		return false, err
	}
	author, err := s.author()
	if err != nil {
		return false, err
	}
	unverified := 0
	prev := author.LastLeaf
	err = s.sent.Scan(nil, func(_, b []byte) (bool, error) {
		c, err := parseSent(b)
		if err != nil {
			return false, err
		}
		unverified++
		prev = c.commit.Leaf()
		return true, nil
	})
	if err != nil {
		return false, err
	}
	for size := 0; size < maxBytes; {
		if unverified >= maxUnverified {
			return false, nil
		}
		changes, err := s.nextCommit()
		if err != nil || changes == nil {
			return false, err
		}
		c, err := s.sign(changes, prev, commitlog.KindData)
		if errors.Is(err, commitlog.ErrLimit) || errors.Is(err, ErrNotUnderstood) {
			// It cannot be sent as it is. The others can.
			for _, p := range changes {
				if err := s.setAside(p.key.tag(), p.local, err.Error()); err != nil {
					return false, err
				}
			}
			continue
		}
		if err != nil {
			return false, err
		}
		if c == nil {
			continue // there was nothing left to say
		}
		prev = c.Leaf()
		size += int(c.Size())
		unverified++
	}
	return true, nil
}

// author returns what the log knows of this device, if it may sign.
func (s *state) author() (*commitlog.Author, error) {
	author, err := s.log.Author(s.v.keys.device)
	switch {
	case err != nil:
		return nil, err
	case author == nil:
		return nil, ErrNotEnrolled
	case author.Revoked != 0:
		return nil, ErrRevoked
	}
	if is, _ := s.rebuilding(); is {
		return nil, ErrIncomplete // its last commit may not have come yet
	}
	return author, nil
}

// nextCommit returns the changes of the next commit: whole transactions of one
// namespace in the order of writing, nil if there are none. A transaction that
// follows up on one of these begins a commit of its own, since a change can
// only name what stands in an earlier commit.
func (s *state) nextCommit() ([]*pendingChange, error) {
	var out []*pendingChange
	inside := make(map[uint64]bool) // local ids in out
	var from []byte
	err := s.unsent.Scan(nil, func(k, _ []byte) (bool, error) {
		from = slices.Clone(k[:16])
		return false, nil
	})
	if err != nil || from == nil {
		return nil, err
	}
	size, whole := 0, 0  // bytes so far; changes of whole transactions
	var damaged []uint64 // local ids of entries that the disk spoilt
	err = s.unsent.ScanPrefix(from, nil, func(k, _ []byte) (bool, error) {
		p, err := s.pendingChange(be.Uint64(k[16:]))
		if errors.Is(err, store.ErrDamaged) {
			damaged = append(damaged, be.Uint64(k[16:]))
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if n := len(out); n > 0 && out[n-1].txn != p.txn {
			whole = n
			if (p.op == commitlog.OpRestate) != (out[n-1].op == commitlog.OpRestate) {
				return false, nil // a restate and a delete cannot stand in one commit
			}
			if n >= commitlog.TargetChanges || size >= commitlog.TargetBytes {
				return false, nil
			}
		}
		for _, r := range p.refs {
			if inside[r.local] {
				out = out[:whole]
				return false, nil
			}
		}
		out = append(out, p)
		inside[p.local] = true
		size += p.size()
		if size > commitlog.MaxCommitBytes-reserve && whole > 0 {
			out = out[:whole]
			return false, nil
		}
		return true, nil
	})
	for _, local := range damaged {
		if err == nil {
			err = s.setAside(keys.Tag(from), local, "damaged on this device's disk")
		}
	}
	if err == nil && len(out) == 0 && len(damaged) > 0 {
		return s.nextCommit()
	}
	return out, err
}

// sign builds one commit of the changes and stores it. It returns nil if all of
// them turned out to say nothing.
func (s *state) sign(changes []*pendingChange, prev commitlog.Hash, kind commitlog.Kind) (*commitlog.Commit, error) {
	tag := changes[0].key.tag()
	size := s.log.Size()
	epoch, err := s.epoch()
	if err != nil {
		return nil, err
	}
	root, err := s.log.RootAt(size)
	if err != nil {
		return nil, err
	}
	own, err := s.ensureAbout(tag, epoch)
	if err != nil {
		return nil, err
	}
	if own != nil {
		changes = append([]*pendingChange{own}, changes...)
	}
	seq := s.sequence() + 1
	list := make([]commitlog.Change, 0, len(changes))
	sc := &sentCommit{}
	for _, p := range changes {
		if err := s.absorb(p); err != nil {
			return nil, err
		}
		refs := s.resolve(p)
		if p.op == commitlog.OpDelete && len(refs) == 0 || s.void(p) {
			if err := s.forget(p); err != nil {
				return nil, err
			}
			continue
		}
		if p.epoch != epoch {
			if err := s.reseal(p, epoch); err != nil {
				return nil, err
			}
		}
		list = append(list, commitlog.Change{
			Op: p.op, BlobHash: sha256.Sum256(p.blob), BlobSize: uint32(len(p.blob)),
			ObjectHash: p.object, ObjectSize: p.objSize, Refs: refs,
		})
		sc.locals = append(sc.locals, p.local)
	}
	if len(list) == 0 {
		return nil, nil
	}
	sc.commit, err = commitlog.Build(commitlog.Header{
		Kind: kind, Epoch: epoch, Tag: tag, Device: s.v.keys.device,
		Seq: seq, PrevLeaf: prev, SeenSize: size, SeenRoot: root,
	}, list, func(m []byte) [64]byte {
		return s.v.keys.own.Sign.Sign(keys.PurposeCommit, s.v.keys.vault, m)
	})
	if err != nil {
		return nil, fmt.Errorf("building commit: %w", err)
	}
	for i, local := range sc.locals {
		if err := s.unsent.Delete(unsentKey(tag, local)); err != nil {
			return nil, err
		}
		place := be.AppendUint16(be.AppendUint64(nil, seq), uint16(i))
		if err := s.built.Put(localKey(local), place); err != nil {
			return nil, err
		}
	}
	if err := s.meta.Put(metaSequence, be.AppendUint64(nil, seq)); err != nil {
		return nil, err
	}
	return sc.commit, s.sent.Put(localKey(seq), sc.encode())
}

// sequence returns the highest sequence number that this device has signed with.
func (s *state) sequence() uint64 {
	if b := s.meta.Get(metaSequence); len(b) == 8 {
		return be.Uint64(b)
	}
	return 0
}

// absorb takes the changes that were set aside, and that this one follows up on,
// out of the outbox: it stands for them. It names what they named.
func (s *state) absorb(p *pendingChange) error {
	refs := p.refs
	for i := 0; i < len(refs); i++ {
		local := refs[i].local
		if local == 0 || s.aside.Get(localKey(local)) == nil {
			continue
		}
		q, err := s.pendingChange(local)
		if err != nil {
			return err
		}
		refs = union(append(slices.Clone(refs[:i]), refs[i+1:]...), q.refs)
		i = -1
		if err := s.forget(q); err != nil {
			return err
		}
	}
	if slices.Equal(refs, p.refs) {
		return nil
	}
	p.refs = refs
	p.blob = slices.Clone(p.blob)
	return s.setPending(p)
}

// resolve writes a change's refs as a commit states them: by commit ID, or by
// own sequence number for what is signed and not in the log yet. What is in the
// outbox no more was replaced, and is named no more.
func (s *state) resolve(p *pendingChange) []commitlog.Ref {
	var out []commitlog.Ref
	for _, r := range p.refs {
		if r.local == 0 {
			out = append(out, commitlog.Ref{At: uint64(r.id.Commit), Index: r.id.Index})
		} else if place := s.built.Get(localKey(r.local)); place != nil {
			out = append(out, commitlog.Ref{Own: true, At: be.Uint64(place), Index: be.Uint16(place[8:])})
		}
	}
	slices.SortFunc(out, commitlog.Ref.Compare)
	out = slices.Compact(out)
	// More than a change can name: the rest stays beside it, as a conflict.
	return out[:min(len(out), commitlog.MaxRefs)]
}

// forget drops a change that has nothing to say any more. Where that was an answer
// to a conflict, there may be another to give.
func (s *state) forget(p *pendingChange) error {
	s.disputed = s.disputed || p.op == commitlog.OpRestate
	e, err := s.record(p.key)
	if err != nil {
		return err
	}
	if e != nil {
		e.pending = slices.DeleteFunc(e.pending, func(l uint64) bool { return l == p.local })
		if err := s.join(e); err != nil {
			return err
		}
		if err := s.setRecord(p.key, e); err != nil {
			return err
		}
	}
	return s.dropPending(p)
}

// reseal seals a change anew for the epoch in force.
func (s *state) reseal(p *pendingChange, epoch uint32) error {
	if p.objSize > 0 {
		// The object's keys are bound to its epoch, too.
		return fmt.Errorf("%w: a value over 64 KiB written before the keys were rotated must be put again", ErrNotUnderstood)
	}
	h, err := s.openPending(p)
	if err != nil {
		return err
	}
	sealer, err := s.v.keys.sealer(p.key.tag(), epoch)
	if err != nil {
		return err
	}
	q := *p
	q.epoch = epoch
	if q.blob, err = sealer.Seal(nil, h.payload); err != nil {
		return err
	}
	*p = q
	return s.setPending(p)
}

// bundle returns a signed commit as it is sent.
func (s *state) bundle(c *sentCommit) (*commitlog.Bundle, error) {
	b := &commitlog.Bundle{Commit: c.commit, Blobs: make([][]byte, len(c.locals))}
	for i, local := range c.locals {
		p, err := s.pendingChange(local)
		if err != nil {
			return nil, err
		}
		b.Blobs[i] = p.blob
	}
	return b, nil
}

// refuse deals with the refusal of a signed commit: it is set aside with its
// reason, and the ones after it go back to be built anew, since they follow on
// from it.
func (s *state) refuse(seq uint64, reason string) error {
	given, err := s.giveUp(seq)
	if err != nil || len(given) == 0 || given[0].commit.Header.Seq != seq {
		return err
	}
	for _, local := range given[0].locals {
		if err := s.setAside(given[0].commit.Header.Tag, local, reason); err != nil {
			return err
		}
	}
	return nil
}

// giveUp takes back the signed commits from a sequence number on: their changes
// are to be built anew. What was signed is kept as refused, in case it turns up
// in the log all the same.
func (s *state) giveUp(from uint64) (given []*sentCommit, err error) {
	err = s.sent.Scan(localKey(from), func(_, b []byte) (bool, error) {
		c, err := parseSent(slices.Clone(b))
		given = append(given, c)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	for _, c := range given {
		k := localKey(c.commit.Header.Seq)
		if err := s.sent.Delete(k); err != nil {
			return nil, err
		}
		if err := s.refused.Put(k, c.encode()); err != nil {
			return nil, err
		}
		for _, local := range c.locals {
			if err := s.built.Delete(localKey(local)); err != nil {
				return nil, err
			}
			if s.outbox.Get(localKey(local)) == nil {
				continue // it is in the log by another commit
			}
			if err := s.unsent.Put(unsentKey(c.commit.Header.Tag, local), present); err != nil {
				return nil, err
			}
		}
	}
	return given, nil
}

// setAside takes a change out of what is to be sent, with the reason.
func (s *state) setAside(tag keys.Tag, local uint64, reason string) error {
	if err := s.unsent.Delete(unsentKey(tag, local)); err != nil {
		return err
	}
	return s.aside.Put(localKey(local), []byte(reason))
}

// retryAside puts what was set aside back into the outbox: a new session may
// find its cause gone.
func (s *state) retryAside() error {
	var locals []uint64
	err := s.aside.Scan(nil, func(k, _ []byte) (bool, error) {
		locals = append(locals, be.Uint64(k))
		return true, nil
	})
	for _, local := range locals {
		p, perr := s.pendingChange(local)
		if errors.Is(perr, store.ErrDamaged) {
			continue // it stays aside: sending it again cannot help
		}
		if perr != nil {
			return perr
		}
		if err := s.aside.Delete(localKey(local)); err != nil {
			return err
		}
		if err := s.unsent.Put(unsentKey(p.key.tag(), local), present); err != nil {
			return err
		}
	}
	return err
}

// follow replaces, in a pending change, the ref to an own change by its place in
// the log.
func (s *state) follow(local, verified uint64, id commitlog.ChangeID) error {
	p, err := s.pendingChange(local)
	if err != nil {
		return err
	}
	i := slices.Index(p.refs, pendingRef{local: verified})
	if i < 0 {
		return nil
	}
	p.refs[i] = pendingRef{id: id}
	p.refs = union(p.refs, nil)
	p.blob = slices.Clone(p.blob)
	return s.setPending(p)
}
