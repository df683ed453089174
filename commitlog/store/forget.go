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
	return l.all.Put(changeKey(id), bytes.Clone(ch.Entry))
}

// A Retirement says that a commit ended a change: it superseded it, or the change
// is a delete or a void restate of its own.
type Retirement struct {
	By commitlog.CommitID
	ID commitlog.ChangeID
	At uint64 // when By was appended here, Unix ms
}

// Place returns where a retirement stands among all, for EachRetired.
func (r Retirement) Place() []byte { return retiredKey(r.By, r.ID)[1:] }

// EachRetired calls fn for what commits have ended, in the order of those commits,
// after a place (nil: from the first on), until fn returns false or an error.
func (l *Log) EachRetired(after []byte, fn func(r Retirement) (more bool, err error)) error {
	from := append([]byte{kindRetired}, after...)
	return l.all.ScanPrefix([]byte{kindRetired}, from, func(k, v []byte) (bool, error) {
		if bytes.Equal(k, from) {
			return true, nil
		}
		by, id := parseRetired(k)
		return fn(Retirement{By: by, ID: id, At: be.Uint64(v)})
	})
}

// AppendedAt returns when a commit was appended here, in Unix ms; 0 where it has ended
// nothing: that is not kept then.
func (l *Log) AppendedAt(id commitlog.CommitID) (at uint64, err error) {
	err = l.all.ScanPrefix(retiredPrefix(id), nil, func(_, v []byte) (bool, error) {
		at = be.Uint64(v)
		return false, nil
	})
	return at, err
}

// EachChange calls fn for the changes of the commits after one, with their blobs, nil
// where those are not here, until it returns an error.
func (l *Log) EachChange(after commitlog.CommitID, fn func(id commitlog.ChangeID, ch *commitlog.Change, blob []byte) error) error {
	return l.all.ScanPrefix([]byte{kindCommit}, commitPrefix(after+1), func(key, v []byte) (bool, error) {
		k := commitKey(key)
		if k.part() != partChange {
			return true, nil
		}
		id := k.change()
		ch, blob, err := splitChange(id, v)
		if err == nil {
			err = fn(id, &ch, blob)
		}
		return true, err
	})
}

// EachObject calls fn for the objects of all changes that have one and whose blob
// is here, of the commits after one.
func (l *Log) EachObject(after commitlog.CommitID, fn func(hash commitlog.Hash)) error {
	return l.EachChange(after, func(_ commitlog.ChangeID, ch *commitlog.Change, blob []byte) error {
		if blob != nil && ch.HasObject() {
			fn(ch.ObjectHash)
		}
		return nil
	})
}

// AnyLive reports whether the namespace has a live change.
func (l *Log) AnyLive(tag keys.Tag) (any bool, err error) {
	err = l.own.ScanPrefix(livePrefix(tag), nil, func(_, _ []byte) (bool, error) {
		any = true
		return false, nil
	})
	return any, err
}
