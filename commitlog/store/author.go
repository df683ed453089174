package store

import (
	"bytes"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// What a log knows of its authors, and how it finds their commits.

// Author returns what is known of a device, or of the authority (the zero id);
// nil if nothing is. It must not be changed, but by SetAuthor.
func (l *Log) Author(id keys.DeviceID) (*commitlog.Author, error) {
	if a, ok := l.known[id]; ok {
		return a, nil
	}
	v := l.own.Get(authorKey(id))
	if v == nil {
		return nil, nil
	}
	a, err := parseAuthor(v)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", id, err)
	}
	l.known[id] = a
	return a, nil
}

// SetAuthor stores what is known of a device.
func (l *Log) SetAuthor(id keys.DeviceID, a *commitlog.Author) error {
	l.known[id] = a
	return l.own.Put(authorKey(id), appendAuthor(nil, a))
}

// Authors calls fn for each author, in order of their ids, until it returns an
// error.
func (l *Log) Authors(fn func(id keys.DeviceID, a *commitlog.Author) error) error {
	var due []byte // of the author whose commits were passed over; nil: none
	for from := []byte{kindAuthor}; from != nil; from = due {
		err := l.own.ScanPrefix([]byte{kindAuthor}, from, func(k, v []byte) (bool, error) {
			if due != nil && !bytes.Equal(k, due) {
				return false, nil
			}
			id := keys.DeviceID(k[1:17])
			if due = nil; len(k) != sizeAuthor { // a sequence number; the author is behind all of them
				due = authorKey(id)
				return false, nil
			}
			a, err := parseAuthor(v)
			if err != nil {
				return false, err
			}
			return true, fn(id, a)
		})
		if err != nil {
			return err
		}
		if due != nil && bytes.Equal(due, from) {
			return fmt.Errorf("%w: device %s has commits and no keys", ErrDamaged, keys.DeviceID(due[1:17]))
		}
	}
	return nil
}

// An author is stored as sign key 32 ‖ auth key 32 ‖ revoked u64 ‖ last seq u64 ‖
// last leaf 32 ‖ last seen u64 ‖ scoped u8 ‖ n × (tag 16 ‖ write u8).
func appendAuthor(b []byte, a *commitlog.Author) []byte {
	b = append(b, a.Sign[:]...)
	b = append(b, a.Auth[:]...)
	b = be.AppendUint64(b, uint64(a.Revoked))
	b = be.AppendUint64(b, a.LastSeq)
	b = append(b, a.LastLeaf[:]...)
	b = be.AppendUint64(b, a.LastSeen)
	if a.Scope == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	for _, s := range a.Scope {
		b = append(b, s.Tag[:]...)
		if s.Write {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func parseAuthor(b []byte) (*commitlog.Author, error) {
	const fixed = 121
	if len(b) < fixed || (len(b)-fixed)%17 != 0 {
		return nil, fmt.Errorf("%w: author of %d bytes", ErrDamaged, len(b))
	}
	a := &commitlog.Author{Revoked: commitlog.CommitID(be.Uint64(b[64:])), LastSeq: be.Uint64(b[72:]), LastSeen: be.Uint64(b[112:])}
	copy(a.Sign[:], b)
	copy(a.Auth[:], b[32:])
	copy(a.LastLeaf[:], b[80:])
	if b[120] == 1 {
		a.Scope = []keys.ScopeEntry{}
		for b = b[fixed:]; len(b) > 0; b = b[17:] {
			a.Scope = append(a.Scope, keys.ScopeEntry{Tag: keys.Tag(b[:16]), Write: b[16] == 1})
		}
	}
	return a, nil
}

// OwnCommit returns the commit with the author's sequence number, 0 for none.
func (l *Log) OwnCommit(id keys.DeviceID, seq uint64) (commitlog.CommitID, error) {
	v := l.all.Get(sequenceKey(id, seq))
	if v == nil {
		return 0, nil
	}
	if at := be.Uint64(v); at <= l.size || !l.past {
		return commitlog.CommitID(at), nil
	}
	return 0, nil
}

// OwnLeaf reports whether a commit of the author has the leaf that is not much older
// than its newest; see [commitlog.State].
func (l *Log) OwnLeaf(id keys.DeviceID, leaf commitlog.Hash) (bool, error) {
	a, err := l.Author(id)
	if err != nil || a == nil {
		return false, err
	}
	return ownLeaf(l, id, a.LastSeq, leaf)
}

// ownLeaf looks for the leaf among the author's commits with the last numbers.
func ownLeaf(l *Log, id keys.DeviceID, last uint64, leaf commitlog.Hash) (bool, error) {
	for seq := last; seq > 0 && seq+commitlog.RecentNumbers > last; seq-- {
		at, err := l.OwnCommit(id, seq)
		if err != nil {
			return false, err
		}
		if at == 0 {
			continue
		}
		if h, err := l.ReadHash(commitlog.TreeIndex(uint64(at) - 1)); err != nil || h == leaf {
			return h == leaf, err
		}
	}
	return false, nil
}
