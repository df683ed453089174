package store

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// What is live in a log, by namespace, and what it comes to.

// Namespaces calls fn for each namespace with live changes, tags ascending,
// until it returns an error.
func (l *Log) Namespaces(fn func(tag keys.Tag) error) error {
	for from := []byte{kindLive}; from != nil; {
		var tag *keys.Tag
		err := l.own.ScanPrefix([]byte{kindLive}, from, func(k, _ []byte) (bool, error) {
			t, _ := parseLive(k)
			tag = &t
			return false, nil
		})
		if err != nil || tag == nil {
			return err
		}
		if err := fn(*tag); err != nil {
			return err
		}
		from = after(livePrefix(*tag))
	}
	return nil
}

// EachLive calls fn for the live changes of a namespace in log order, until it
// returns an error.
func (l *Log) EachLive(tag keys.Tag, fn func(id commitlog.ChangeID) error) error {
	return l.own.ScanPrefix(livePrefix(tag), nil, func(k, _ []byte) (bool, error) {
		_, id := parseLive(k)
		return true, fn(id)
	})
}

// EachLiveAfter calls fn for the live changes that come after one of a namespace,
// those of the namespaces behind it too, tags ascending, until it returns false or an
// error.
func (l *Log) EachLiveAfter(tag keys.Tag, after commitlog.ChangeID, fn func(tag keys.Tag, id commitlog.ChangeID) (bool, error)) error {
	after.Index++ // below the 65536th: a commit has no more
	return l.own.ScanPrefix([]byte{kindLive}, liveKey(tag, after), func(k, _ []byte) (bool, error) {
		return fn(parseLive(k))
	})
}

// StateHash returns count and hash of the live changes of a namespace.
func (l *Log) StateHash(tag keys.Tag) (*commitlog.StateHash, error) {
	s := commitlog.NewStateHash()
	add := l.hasher(s)
	return s, l.EachLive(tag, func(id commitlog.ChangeID) error {
		_, err := add(id)
		return err
	})
}

// Digest returns one hash over the live changes of all namespaces but the
// control log.
func (l *Log) Digest() (commitlog.Hash, error) {
	d := commitlog.NewDigest()
	err := l.Namespaces(func(tag keys.Tag) error {
		if tag == l.control {
			return nil
		}
		s, err := l.StateHash(tag)
		if err == nil {
			d.Add(tag, s)
		}
		return err
	})
	return d.Sum(), err
}
