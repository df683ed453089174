package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// Tx is a transaction. It is valid within the function it was given to, and
// used by one goroutine.
type Tx struct {
	bolt  *bbolt.Tx
	db    *DB
	dirty bool // the present call has written
	logs  map[string]*Log
	pasts map[string]*Past

	above  *Tx // whose bucket this is a transaction in; nil: it is the whole store's
	room   *bbolt.Bucket
	within map[string]*Tx
}

// Within returns the transaction as it is in the bucket of that name, in which it
// finds and makes buckets and logs as if that were the store; nil if there is none.
// [Tx.Size] and [Tx.WriteTo] are the whole store's.
func (tx *Tx) Within(name string) *Tx {
	if in := tx.within[name]; in != nil {
		return in
	}
	b := tx.Bucket(name)
	if b == nil {
		return nil
	}
	if tx.within == nil {
		tx.within = make(map[string]*Tx)
	}
	in := &Tx{bolt: tx.bolt, db: tx.db, above: tx, room: b.b}
	tx.within[name] = in
	return in
}

// wrote notes that the present call has written.
func (tx *Tx) wrote() {
	for ; tx != nil; tx = tx.above {
		tx.dirty = true
	}
}

// find returns the bucket of that name, nil if there is none.
func (tx *Tx) find(name string) *bbolt.Bucket {
	if tx.room != nil {
		return tx.room.Bucket([]byte(name))
	}
	return tx.bolt.Bucket([]byte(name))
}

// Move moves the bucket of that name, with all in it, to another transaction of the
// store, see [Tx.Within], which must have none of that name. What was written to the
// bucket in this transaction is lost. What was read through any of them before,
// buckets and logs, must not be used any more.
func (tx *Tx) Move(name string, to *Tx) error {
	tx.wrote()
	err := tx.bolt.MoveBucket([]byte(name), tx.room, to.room)
	tx.forget()
	return err
}

// DeleteBucket removes the bucket of that name, with all in it. What was read through
// the transaction before must not be used any more.
func (tx *Tx) DeleteBucket(name string) error {
	tx.wrote()
	defer tx.forget()
	if tx.room != nil {
		return tx.room.DeleteBucket([]byte(name))
	}
	return tx.bolt.DeleteBucket([]byte(name))
}

// forget has everything looked up anew.
func (tx *Tx) forget() {
	for tx.above != nil {
		tx = tx.above
	}
	tx.logs, tx.pasts, tx.within = nil, nil, nil
}

// fill is how full the pages of buckets are left whose keys only grow. bbolt's
// own half is for keys that come in any order.
const fill = 0.95

// Bucket returns the bucket of that name, nil if there is none.
func (tx *Tx) Bucket(name string) *Bucket {
	return tx.wrap(tx.find(name))
}

// CreateBucket returns the bucket of that name and makes it if there is none.
func (tx *Tx) CreateBucket(name string) (*Bucket, error) {
	if b := tx.Bucket(name); b != nil {
		return b, nil
	}
	tx.wrote()
	create := tx.bolt.CreateBucket
	if tx.room != nil {
		create = tx.room.CreateBucket
	}
	b, err := create([]byte(name))
	return tx.wrap(b), err
}

// WriteTo writes a copy of the whole store, as of this transaction, to w. Where
// [DB.Reopen] waits for it, for which everybody else waits, it ends with ErrReopened.
func (tx *Tx) WriteTo(w io.Writer) (int64, error) {
	y := &yielding{w: w, db: tx.db}
	n, err := tx.bolt.WriteTo(y)
	if y.ended {
		err = ErrReopened
	}
	return n, err
}

// ErrReopened: a copy of a store was cut off because the store is opened again.
var ErrReopened = errors.New("the store is opened again; once more, please")

// yielding is a writer that ends where its store is to be opened again.
type yielding struct {
	w     io.Writer
	db    *DB
	ended bool
}

func (y *yielding) Write(p []byte) (int, error) {
	if y.ended = y.db.opening.Load(); y.ended {
		return 0, ErrReopened
	}
	return y.w.Write(p)
}

// Size returns the size of the store in bytes, as of this transaction.
func (tx *Tx) Size() int64 { return tx.bolt.Size() }

// Touched returns how many pages were taken into memory to be changed.
func (tx *Tx) Touched() int {
	stats := tx.bolt.Stats()
	return int(stats.GetNodeCount())
}

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
	fill   float64                // 0: bbolt's own
	shape  func(key []byte) Shape // of its elements; nil: not known
}

// A Shape is how long the keys and values of a bucket are. Others are damage: so
// whoever reads them can take them apart without looking.
type Shape struct {
	Key, Value int // bytes; Any: that differs
}

// Any is the length of keys, or values, that differ; None that of what should not be
// there.
const (
	Any  = -1
	None = -2
)

// Shaped says what shape the bucket's elements have.
func (b *Bucket) Shaped(s Shape) *Bucket { return b.shapedBy(func([]byte) Shape { return s }) }

func (b *Bucket) shapedBy(shape func(key []byte) Shape) *Bucket {
	b.shape = shape
	return b
}

// misshapen is the panic of a bucket that has an element of another shape, which
// ends the transaction; see asDamage.
type misshapen string

func (b *Bucket) look(key, value []byte) {
	if b.shape == nil {
		return
	}
	if s := b.shape(key); s.Key != Any && len(key) != s.Key || s.Value != Any && len(value) != s.Value {
		panic(misshapen(b.name))
	}
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
		b.b = b.tx.find(b.name)
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
	b.tx.wrote()
	in, err := b.bolt().CreateBucket([]byte(name))
	return b.tx.wrap(in), err
}

// DeleteBucket removes the bucket of that name within b, with all in it.
func (b *Bucket) DeleteBucket(name string) error {
	b.tx.wrote()
	return b.bolt().DeleteBucket([]byte(name))
}

// Get returns the value of key, nil if there is none. The value is the
// store's: valid within the transaction, never to be written to.
func (b *Bucket) Get(key []byte) []byte {
	v := b.bolt().Get(key)
	if v != nil {
		b.look(key, v)
	}
	return v
}

// Put sets the value of key. The key is copied; the value must not change until
// the transaction ends.
func (b *Bucket) Put(key, value []byte) error {
	b.tx.wrote()
	return b.bolt().Put(key, value)
}

// Delete removes key; that there is none is no error.
func (b *Bucket) Delete(key []byte) error {
	b.tx.wrote()
	return b.bolt().Delete(key)
}

// Next returns the next number of the bucket's own sequence, from 1.
func (b *Bucket) Next() (uint64, error) {
	b.tx.wrote()
	return b.bolt().NextSequence()
}

// SetSequence makes n the last number that Next returned.
func (b *Bucket) SetSequence(n uint64) error {
	b.tx.wrote()
	return b.bolt().SetSequence(n)
}

// Sequence returns the last number that Next returned, 0 at first.
func (b *Bucket) Sequence() uint64 { return b.bolt().Sequence() }

// Scan calls fn for each key from from on, in order, until fn returns false or
// an error. fn must not write to the bucket. Keys and values are the store's.
// Keys out of order are ErrDamaged: what is behind them could be left out.
func (b *Bucket) Scan(from []byte, fn func(key, value []byte) (bool, error)) error {
	c := b.bolt().Cursor()
	var last []byte
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if bytes.Compare(k, from) < 0 || last != nil && bytes.Compare(k, last) <= 0 {
			return b.disorder()
		}
		last = k
		b.look(k, v)
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
	ended := false
	return b.Scan(from, func(k, v []byte) (bool, error) {
		switch {
		case ended: // in order behind the first key that is not wanted
			return false, nil
		case !bytes.HasPrefix(k, prefix):
			ended = true
			return true, nil
		}
		return fn(k, v)
	})
}

func (b *Bucket) disorder() error {
	return fmt.Errorf("%w: bucket %q is out of order", ErrDamaged, b.name)
}

// Only is Get, where another value for the same key must not be taken for it:
// a flipped bit can make one key of another.
func (b *Bucket) Only(key []byte) ([]byte, error) {
	c := b.bolt().Cursor()
	k, v := c.Seek(key)
	if !bytes.Equal(k, key) {
		return nil, nil
	}
	b.look(k, v)
	if next, _ := c.Next(); next != nil && bytes.Compare(next, key) <= 0 {
		return nil, b.disorder()
	}
	return v, nil
}

// Beside returns the last element below key and the first one that does not begin
// with it, nil where there is none: what must be intact for it to be true that
// the bucket has nothing but what it gives for the prefix key.
func (b *Bucket) Beside(key []byte) (below, above Element, err error) {
	c := b.bolt().Cursor()
	k, v := c.Seek(key)
	if k == nil {
		below.Key, below.Value = c.Last()
	} else {
		below.Key, below.Value = c.Prev()
	}
	if end := after(key); !bytes.HasPrefix(k, key) {
		above = Element{k, v}
	} else if end != nil {
		above.Key, above.Value = c.Seek(end)
	}
	if below.Key != nil && bytes.Compare(below.Key, key) >= 0 || above.Key != nil && bytes.Compare(above.Key, key) <= 0 {
		return below, above, b.disorder()
	}
	for _, x := range []Element{below, above} {
		if x.Key != nil {
			b.look(x.Key, x.Value)
		}
	}
	return below, above, nil
}

// An Element is a key with its value. Both are the store's.
type Element struct{ Key, Value []byte }

// Last returns the greatest key that begins with prefix, nil if there is none.
func (b *Bucket) Last(prefix []byte) (key, value []byte) {
	key, value = last(b.bolt().Cursor(), prefix)
	if !bytes.HasPrefix(key, prefix) {
		return nil, nil
	}
	if key != nil {
		b.look(key, value)
	}
	return key, value
}

// ScanBack calls fn for each key that begins with prefix, from the greatest down,
// as Scan does.
func (b *Bucket) ScanBack(prefix []byte, fn func(key, value []byte) (bool, error)) error {
	c := b.bolt().Cursor()
	for k, v := last(c, prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Prev() {
		b.look(k, v)
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
