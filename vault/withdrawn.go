package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
)

// A record that is removed before its newest version was sent takes that back: it never
// leaves this device. But no other has it, so it is kept here for Undelete, a version a
// record, until the record is written again here, or for keepWithdrawn:
//
//	withdrawn   record → time u64 (Unix ms, of the removal) ‖ pendingChange
const keepWithdrawn = 30 * 24 * time.Hour

// withdraw keeps a change that a removal has taken out of the outbox.
func (s *state) withdraw(p *pendingChange) error {
	if p.blob == nil || p.op == commitlog.OpDelete {
		return nil // the disk spoilt it, or it says nothing
	}
	return s.withdrawn.Put(slices.Clone(p.key[:]), append(be.AppendUint64(nil, millis(s.v.conf.Now())), p.encode()...))
}

// tidy drops what has been kept long enough, once a day at most.
func (v *Vault) tidy() error {
	now := v.conf.Now()
	if last := v.tidied.Swap(&now); last != nil && now.Sub(*last).Abs() < 24*time.Hour {
		v.tidied.Store(last)
		return nil
	}
	var old [][]byte
	err := v.view(func(s *state) error {
		return s.withdrawn.Scan(nil, func(k, b []byte) (bool, error) {
			if len(b) < 8 || tooOld(b, now) {
				old = append(old, slices.Clone(k))
			}
			return true, nil
		})
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return v.update(func(s *state) (err error) {
		for _, k := range old {
			if b := s.withdrawn.Get(k); b != nil && (len(b) < 8 || tooOld(b, now)) {
				err = errors.Join(err, s.withdrawn.Delete(k))
			}
		}
		return err
	})
}

func tooOld(b []byte, now time.Time) bool {
	return now.Sub(fromMillis(be.Uint64(b))) > keepWithdrawn
}

// rewritten forgets what was withdrawn of a record that is written again.
func (s *state) rewritten(key recordKey) error {
	if s.withdrawn.Get(key[:]) == nil {
		return nil
	}
	return s.withdrawn.Delete(key[:])
}

// taken returns the version that a removal took back, nil if none is kept.
func (s *state) taken(key recordKey) (*head, error) {
	b := s.withdrawn.Get(key[:])
	if len(b) < 8 || tooOld(b, s.v.conf.Now()) {
		return nil, nil
	}
	p, err := parsePending(0, bytes.Clone(b[8:]))
	if errors.Is(err, store.ErrDamaged) || err == nil && p.key != key {
		return nil, nil // what is in the log is whole
	}
	if err != nil {
		return nil, err
	}
	h, err := s.openPending(p)
	return &h, err
}

// Removed returns what [Namespace.Undelete] would bring back, without its value:
// [ErrCondition] if the record is there, [ErrNotFound] if nothing of it is known here.
func (n *Namespace) Removed(ctx context.Context, name string) (rec *Record, err error) {
	err = n.lookAt(ctx, name, func(s *state, e *entry) error {
		h, err := s.deleted(e)
		if err != nil {
			return err
		}
		rec = s.toRecord(n.name, nil, h)
		rec.Pending = h.id == commitlog.ChangeID{}
		return nil
	})
	return rec, opError("removed", n.name, name, err)
}
