package vault

// sending counts the bytes that a session sends up. A commit counts when it is in
// the log, and not before; but its objects go up before it, and take far longer,
// so they count as they come to be at the secondary, those too that it had from
// an earlier session.
type sending struct {
	whole map[uint64]uint64 // objects at the secondary whose changes are in the outbox: local id → bytes
	sum   uint64            // of these

	bytes, left uint64 // in all, as progress tells them
}

// arrived notes that the object of a change in the outbox is whole at the
// secondary. local is 0 where it is of none.
func (u *sending) arrived(local, size uint64) {
	if local == 0 || u.whole[local] != 0 {
		return
	}
	if u.whole == nil {
		u.whole = make(map[uint64]uint64)
	}
	u.whole[local] = size
	u.sum += size
}

// count brings what is told of the upload up to date. What is there and what is
// left are together what the session has sent and what the outbox holds. What
// was there once stays counted, even where it has to go up again.
func (e *engine) count(s *state) error {
	pending, err := s.pendingSum()
	if err != nil {
		return err
	}
	u := &e.up
	if pending != e.pending {
		for local, size := range u.whole {
			if s.outbox.Get(localKey(local)) == nil { // it is in the log now, or given up
				delete(u.whole, local)
				u.sum -= size
			}
		}
	}
	e.pending = pending
	there := u.sum
	if o := e.object; o != nil && o.local != 0 && u.whole[o.local] == 0 {
		there += o.there
	}
	total := e.pushedBytes + pending.bytes
	u.bytes = max(u.bytes, e.pushedBytes+min(there, pending.bytes))
	u.left = total - min(u.bytes, total)
	return nil
}
