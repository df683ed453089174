package vault

import (
	"errors"
	"fmt"
	"io"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A longValue reads the value in an object's file.
type longValue struct {
	r     io.Reader
	o     *store.Object
	whole bool // the file is as long as one of such a value
}

// openObject opens a value in the object store, [ErrNotHere] if it is not in it,
// [ErrValueDamaged] if its file is seen to be spoilt: that may be found later, as
// it is read.
func (v *Vault) openObject(tag keys.Tag, epoch uint32, ref *seal.ObjectRef) (io.ReadCloser, error) {
	sealer, err := v.keys.sealer(tag, epoch)
	if err != nil {
		return nil, err
	}
	o, err := v.objects.Open(ref.Hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	l := &longValue{o: o, whole: uint64(o.Size) == seal.ObjectSize(ref.Length)}
	if l.r, err = sealer.OpenObject(o, uint64(o.Size), ref.Length); err != nil {
		return nil, errors.Join(l.explain(err), o.Close())
	}
	return l, nil
}

func (l *longValue) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	return n, l.explain(err)
}

func (l *longValue) Close() error { return l.o.Close() }

// explain tells the disk's faults from the author's: what does not open was
// altered, and what is shorter or longer than it was sealed, too.
func (l *longValue) explain(err error) error {
	if errors.Is(err, seal.ErrOpen) || errors.Is(err, seal.ErrPayload) && !l.whole {
		return fmt.Errorf("%w: %w", ErrValueDamaged, err)
	}
	return err
}
