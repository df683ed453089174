package vault

import (
	"bytes"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// noRoom deals with the refusal of a signed commit for the vault's quota. What is left
// in the outbox would be refused as well, so it is set aside with it, until the next
// session; but not what deletes: the secondary takes that all the same, and it makes
// room with time.
func (s *state) noRoom(seq uint64, reason string) error {
	b := s.sent.Get(localKey(seq))
	if b == nil {
		return nil
	}
	c, err := parseSent(slices.Clone(b))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.commit.Changes, func(ch commitlog.Change) bool { return ch.Op != commitlog.OpDelete }) {
		return s.refuse(seq, reason)
	}
	if _, err := s.giveUp(seq); err != nil {
		return err
	}
	var aside []uint64
	err = s.unsent.Scan(nil, func(k, _ []byte) (bool, error) {
		aside = append(aside, be.Uint64(k[len(k)-8:]))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, local := range aside {
		p, err := s.pendingChange(local)
		if err != nil {
			return err
		}
		if p.op == commitlog.OpDelete && p.alone {
			continue
		}
		if err := s.setAside(p.key.tag(), local, reason); err != nil {
			return err
		}
	}
	return nil
}

// countAside returns how many changes are set aside, and how many of these for want
// of room.
func (s *state) countAside() (all, noRoom int, err error) {
	err = s.aside.Scan(nil, func(_, reason []byte) (bool, error) {
		all++
		if bytes.HasPrefix(reason, []byte(wire.ErrQuota.Error())) {
			noRoom++
		}
		return true, nil
	})
	return all, noRoom, err
}
