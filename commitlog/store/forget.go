package store

import (
	"bytes"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// DropBlob forgets the blob of a change. The change itself stays: what is live,
// and every hash, are as before, and [Log.SetBlob] takes the blob again. That
// there is none is no error.
func (l *Log) DropBlob(id commitlog.ChangeID) error {
	ch, blob, err := l.Entry(id)
	if err != nil || blob == nil {
		return err
	}
	return l.changes.Put(changeKey(id), bytes.Clone(ch.Entry))
}

// AnyLive reports whether the namespace has a live change.
func (l *Log) AnyLive(tag keys.Tag) (any bool, err error) {
	err = l.live.ScanPrefix(tag[:], nil, func(_, _ []byte) (bool, error) {
		any = true
		return false, nil
	})
	return any, err
}
