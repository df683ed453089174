package store

import (
	"bytes"
	"io"

	"go.etcd.io/bbolt"
)

// Tx is a transaction. It is valid within the function it was given to, and
// used by one goroutine.
type Tx struct {
	bolt  *bbolt.Tx
	dirty bool // the present call has written
	logs  map[string]*Log
	pasts map[string]*Past
}

// fill is how full the pages of buckets are left whose keys only grow. bbolt's
// own half is for keys that come in any order.
const fill = 0.95

// Bucket returns the bucket of that name, nil if there is none.
func (tx *Tx) Bucket(name string) *Bucket {
	return tx.wrap(tx.bolt.Bucket([]byte(name)))
}

// CreateBucket returns the bucket of that name and makes it if there is none.
func (tx *Tx) CreateBucket(name string) (*Bucket, error) {
	if b := tx.Bucket(name); b != nil {
		return b, nil
	}
	tx.dirty = true
	b, err := tx.bolt.CreateBucket([]byte(name))
	return tx.wrap(b), err
}

// WriteTo writes a copy of the whole store, as of this transaction, to w.
func (tx *Tx) WriteTo(w io.Writer) (int64, error) { return tx.bolt.WriteTo(w) }

// Size returns the size of the store in bytes, as of this transaction.
func (tx *Tx) Size() int64 { return tx.bolt.Size() }

func (tx *Tx) wrap(b *bbolt.Bucket) *Bucket {
	if b == nil {
		return nil
	}
	return &Bucket{tx: tx, b: b}
}

// Bucket is an ordered map of keys to values within a transaction.
type Bucket struct {
	tx *Tx
	b  *bbolt.Bucket // nil: not looked up yet

	parent *Bucket // of one that is not looked up; nil: it is in no other
	name   string
	fill   float64 // 0: bbolt's own
}

// Lazy returns the bucket of that name, which must be there. It is looked up when
// it is used first: a transaction uses few of the buckets of a store. Where it
// is not there, the transaction fails with [ErrDamaged] then.
func (tx *Tx) Lazy(name string) *Bucket { return &Bucket{tx: tx, name: name} }

// Lazy is Tx.Lazy for a bucket within b.
func (b *Bucket) Lazy(name string) *Bucket { return &Bucket{tx: b.tx, parent: b, name: name} }

// absent is the panic of a lazy bucket that is not there, which ends the
// transaction; see asDamage.
type absent string

// bolt looks the bucket up.
func (b *Bucket) bolt() *bbolt.Bucket {
	if b.b != nil {
		return b.b
	}
	if b.parent == nil {
		b.b = b.tx.bolt.Bucket([]byte(b.name))
	} else {
		b.b = b.parent.bolt().Bucket([]byte(b.name))
	}
	if b.b == nil {
		panic(absent(b.name))
	}
	if b.fill > 0 {
		b.b.FillPercent = b.fill
	}
	return b.b
}

// Append tells the bucket that its keys only grow, which lets it fill pages.
func (b *Bucket) Append() *Bucket {
	b.fill = fill
	if b.b != nil {
		b.b.FillPercent = fill
	}
	return b
}

// Bucket returns the bucket of that name within b, nil if there is none.
func (b *Bucket) Bucket(name string) *Bucket { return b.tx.wrap(b.bolt().Bucket([]byte(name))) }

// CreateBucket returns the bucket of that name within b and makes it if there
// is none.
func (b *Bucket) CreateBucket(name string) (*Bucket, error) {
	if in := b.Bucket(name); in != nil {
		return in, nil
	}
	b.tx.dirty = true
	in, err := b.bolt().CreateBucket([]byte(name))
	return b.tx.wrap(in), err
}

// DeleteBucket removes the bucket of that name within b, with all in it.
func (b *Bucket) DeleteBucket(name string) error {
	b.tx.dirty = true
	return b.bolt().DeleteBucket([]byte(name))
}

// Get returns the value of key, nil if there is none. The value is the
// store's: valid within the transaction, never to be written to.
func (b *Bucket) Get(key []byte) []byte { return b.bolt().Get(key) }

// Put sets the value of key. The key is copied; the value must not change until
// the transaction ends.
func (b *Bucket) Put(key, value []byte) error {
	b.tx.dirty = true
	return b.bolt().Put(key, value)
}

// Delete removes key; that there is none is no error.
func (b *Bucket) Delete(key []byte) error {
	b.tx.dirty = true
	return b.bolt().Delete(key)
}

// Next returns the next number of the bucket's own sequence, from 1.
func (b *Bucket) Next() (uint64, error) {
	b.tx.dirty = true
	return b.bolt().NextSequence()
}

// Sequence returns the last number that Next returned, 0 at first.
func (b *Bucket) Sequence() uint64 { return b.bolt().Sequence() }

// Scan calls fn for each key from from on, in order, until fn returns false or
// an error. fn must not write to the bucket. Keys and values are the store's.
func (b *Bucket) Scan(from []byte, fn func(key, value []byte) (bool, error)) error {
	c := b.bolt().Cursor()
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		more, err := fn(k, v)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// ScanPrefix calls fn for each key that begins with prefix, from the key from
// on (nil: the first), as Scan does.
func (b *Bucket) ScanPrefix(prefix, from []byte, fn func(key, value []byte) (bool, error)) error {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	return b.Scan(from, func(k, v []byte) (bool, error) {
		if !bytes.HasPrefix(k, prefix) {
			return false, nil
		}
		return fn(k, v)
	})
}

// Last returns the greatest key that begins with prefix, nil if there is none.
func (b *Bucket) Last(prefix []byte) (key, value []byte) {
	key, value = last(b.bolt().Cursor(), prefix)
	if !bytes.HasPrefix(key, prefix) {
		return nil, nil
	}
	return key, value
}

// ScanBack calls fn for each key that begins with prefix, from the greatest down,
// as Scan does.
func (b *Bucket) ScanBack(prefix []byte, fn func(key, value []byte) (bool, error)) error {
	c := b.bolt().Cursor()
	for k, v := last(c, prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Prev() {
		more, err := fn(k, v)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Empty reports whether the bucket holds no key.
func (b *Bucket) Empty() bool {
	k, _ := b.bolt().Cursor().First()
	return k == nil
}

// last moves the cursor to the last key that does not come after all that begin
// with prefix.
func last(c *bbolt.Cursor, prefix []byte) (key, value []byte) {
	end := after(prefix)
	if end == nil {
		return c.Last()
	}
	if key, _ = c.Seek(end); key == nil {
		return c.Last()
	}
	return c.Prev()
}

// after returns the first key that comes after all that begin with prefix, nil
// if there is none.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for len(end) > 0 {
		if end[len(end)-1]++; end[len(end)-1] != 0 {
			return end
		}
		end = end[:len(end)-1]
	}
	return nil
}
