package vault

import (
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// The outbox holds the local changes that are not in the verified log yet. A
// change has a local id, from 1, in the order of writing; changes of one
// transaction have ids that follow each other. It is in one of three places:
//
//	unsent   tag 16 ‖ local id → —                  to be put into a commit
//	built    local id → sequence u64 ‖ index u16    in a signed commit, see sent
//	aside    local id → reason                      refused by the secondary
//
// The change itself, with its sealed blob, stays under its local id in "outbox"
// until it is verified in the log, whichever of these it is in.
//
//	outbox   local id → pendingChange
//	sent     sequence u64 → sentCommit              signed, on its way
//	refused  sequence u64 → sentCommit              signed, and given up

// A pendingChange is a change in the outbox. Encoded:
//
//	transaction u64 ‖ alone u8 ‖ epoch u32 ‖ op u8 ‖ record key 32 ‖ clock u64 ‖
//	object hash 32 ‖ object size u64 ‖ n u16 ‖ n × (kind u8 ‖ u64 ‖ u16) ‖ blob ‖ crc u32
//
// The crc (Castagnoli) covers all before it: an entry that the disk spoilt must
// not go up as it is. A ref of kind 0 is a commit ID and an index, one of kind 1 a local id and 0.
type pendingChange struct {
	local   uint64
	txn     uint64 // local id of its transaction's first change
	alone   bool   // it is its whole transaction
	epoch   uint32 // that the blob is sealed for
	op      commitlog.Op
	key     recordKey
	clock   clock
	object  commitlog.Hash
	objSize uint64 // 0: no object
	refs    []pendingRef
	blob    []byte
}

// A pendingRef names what a pending change supersedes: a change in the log, or,
// if local is not 0, one in the outbox.
type pendingRef struct {
	id    commitlog.ChangeID
	local uint64
}

func (p *pendingChange) encode() []byte {
	b := make([]byte, 0, 100+11*len(p.refs)+len(p.blob))
	b = be.AppendUint64(b, p.txn)
	if p.alone {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = be.AppendUint32(b, p.epoch)
	b = append(b, byte(p.op))
	b = append(b, p.key[:]...)
	b = be.AppendUint64(b, p.clock)
	b = append(b, p.object[:]...)
	b = be.AppendUint64(b, p.objSize)
	b = be.AppendUint16(b, uint16(len(p.refs)))
	for _, r := range p.refs {
		if r.local != 0 {
			b = be.AppendUint64(append(b, 1), r.local)
			b = be.AppendUint16(b, 0)
		} else {
			b = be.AppendUint64(append(b, 0), uint64(r.id.Commit))
			b = be.AppendUint16(b, r.id.Index)
		}
	}
	b = append(b, p.blob...)
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func parsePending(local uint64, b []byte) (*pendingChange, error) {
	const fixed = 8 + 1 + 4 + 1 + 32 + 8 + 32 + 8 + 2
	damaged := fmt.Errorf("%w: outbox entry %d", store.ErrDamaged, local)
	if len(b) < fixed+4 {
		return nil, damaged
	}
	sum := be.Uint32(b[len(b)-4:])
	if b = b[:len(b)-4]; crc32.Checksum(b, castagnoli) != sum {
		return nil, damaged
	}
	p := &pendingChange{
		local: local, txn: be.Uint64(b), alone: b[8] == 1, epoch: be.Uint32(b[9:]),
		op: commitlog.Op(b[13]), key: recordKey(b[14:46]), clock: be.Uint64(b[46:]),
		object: commitlog.Hash(b[54:86]), objSize: be.Uint64(b[86:]),
	}
	n := int(be.Uint16(b[94:]))
	if b = b[fixed:]; len(b) < 11*n {
		return nil, damaged
	}
	for range n {
		if b[0] == 1 {
			p.refs = append(p.refs, pendingRef{local: be.Uint64(b[1:])})
		} else {
			p.refs = append(p.refs, pendingRef{id: commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(b[1:])), Index: be.Uint16(b[9:])}})
		}
		b = b[11:]
	}
	p.blob = b
	return p, nil
}

func localKey(local uint64) []byte { return be.AppendUint64(make([]byte, 0, 8), local) }

func unsentKey(tag keys.Tag, local uint64) []byte {
	return be.AppendUint64(append(make([]byte, 0, 24), tag[:]...), local)
}

// pendingChange returns a change in the outbox. It shares the store's memory.
func (s *state) pendingChange(local uint64) (*pendingChange, error) {
	b := s.outbox.Get(localKey(local))
	if b == nil {
		return nil, fmt.Errorf("%w: outbox entry %d is gone", store.ErrDamaged, local)
	}
	return parsePending(local, b)
}

func (s *state) setPending(p *pendingChange) error {
	return s.outbox.Put(localKey(p.local), p.encode())
}

// size returns what the change takes in a commit, in bytes, at most.
func (p *pendingChange) size() int { return len(p.blob) + 79 + 11*len(p.refs) }

// weight returns the bytes of the change's content, with its object.
func (p *pendingChange) weight() uint64 { return uint64(len(p.blob)) + p.objSize }

// A pendingSum counts the outbox. It is kept beside it, so that nobody has to
// walk through it:
//
//	changes u64 ‖ bytes u64
type pendingSum struct {
	changes int
	bytes   uint64
}

func (s *state) pendingSum() (sum pendingSum, err error) {
	if b := s.meta.Get(metaPending); len(b) == 16 {
		return pendingSum{int(be.Uint64(b)), be.Uint64(b[8:])}, nil
	}
	// A store from before it was kept.
	err = s.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		sum.changes++
		if p, err := parsePending(be.Uint64(k), b); err == nil {
			sum.bytes += p.weight()
		}
		return true, nil
	})
	return sum, err
}

// countPending notes that the outbox is about to grow or shrink.
func (s *state) countPending(changes int, bytes int64) error {
	sum, err := s.pendingSum()
	if err != nil {
		return err
	}
	sum.changes = max(sum.changes+changes, 0)
	sum.bytes = uint64(max(int64(sum.bytes)+bytes, 0)) // an entry that the disk spoilt has lost its weight
	if sum.changes == 0 {
		sum.bytes = 0
	}
	return s.meta.Put(metaPending, be.AppendUint64(be.AppendUint64(nil, uint64(sum.changes)), sum.bytes))
}

// isAside reports whether the secondary refused the commit that held the change.
func (s *state) isAside(p *pendingChange) bool { return s.aside.Get(localKey(p.local)) != nil }

// isUnsent reports whether no commit holds the change yet.
func (s *state) isUnsent(p *pendingChange) bool {
	return s.unsent.Get(unsentKey(p.key.tag(), p.local)) != nil
}

// openPending opens a change of the outbox.
func (s *state) openPending(p *pendingChange) (head, error) {
	h := head{local: p.local, epoch: p.epoch, op: p.op, device: s.v.keys.device, object: p.object}
	key, err := s.v.keys.sealer(p.key.tag(), p.epoch)
	if err != nil {
		return h, err
	}
	if h.payload, err = key.Open(p.blob); err != nil {
		return h, fmt.Errorf("%w: outbox entry %d: %v", store.ErrDamaged, p.local, err)
	}
	return h, nil
}

// dropPending takes a change out of the outbox.
func (s *state) dropPending(p *pendingChange) error {
	// It may be the one that says the namespace's strategy: what that was must be
	// known when the record changes.
	if _, err := s.strategy(p.key.tag()); err != nil {
		return err
	}
	if s.outbox.Get(localKey(p.local)) != nil {
		if err := s.countPending(-1, -int64(p.weight())); err != nil {
			return err
		}
	}
	for _, err := range []error{
		s.outbox.Delete(localKey(p.local)),
		s.unsent.Delete(unsentKey(p.key.tag(), p.local)),
		s.built.Delete(localKey(p.local)),
		s.aside.Delete(localKey(p.local)),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// union returns the refs of both, each once, those in the log first.
func union(a, b []pendingRef) []pendingRef {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, func(x, y pendingRef) int {
		if (x.local == 0) != (y.local == 0) {
			if x.local == 0 {
				return -1
			}
			return 1
		}
		if x.local != y.local {
			if x.local < y.local {
				return -1
			}
			return 1
		}
		return x.id.Compare(y.id)
	})
	return slices.Compact(out)
}

// A sentCommit is a signed commit: header, list and the local ids of its
// changes, whose blobs the outbox holds. Encoded:
//
//	acknowledged ID u64 ‖ header 216 ‖ n u32 ‖ n × local id u64 ‖ change list
type sentCommit struct {
	acked  commitlog.CommitID // 0: not acknowledged
	commit *commitlog.Commit
	locals []uint64
}

func (c *sentCommit) encode() []byte {
	b := be.AppendUint64(nil, uint64(c.acked))
	b = append(b, c.commit.Raw...)
	b = be.AppendUint32(b, uint32(len(c.locals)))
	for _, l := range c.locals {
		b = be.AppendUint64(b, l)
	}
	return append(b, c.commit.List...)
}

func parseSent(b []byte) (*sentCommit, error) {
	const fixed = 8 + commitlog.HeaderSize + 4
	damaged := fmt.Errorf("%w: signed commit", store.ErrDamaged)
	if len(b) < fixed {
		return nil, damaged
	}
	c := &sentCommit{acked: commitlog.CommitID(be.Uint64(b))}
	n := int(be.Uint32(b[fixed-4:]))
	if len(b) < fixed+8*n {
		return nil, damaged
	}
	for i := range n {
		c.locals = append(c.locals, be.Uint64(b[fixed+8*i:]))
	}
	var err error
	c.commit, err = commitlog.ParseCommit(b[8:8+commitlog.HeaderSize], b[fixed+8*n:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", damaged, err)
	}
	return c, nil
}
