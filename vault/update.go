package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A Tx reads and writes records of one namespace within [Vault.Update].
type Tx struct {
	s         *state
	namespace string
	txn       txn
	ctx       context.Context
	broken    error // a write failed half way: the transaction cannot be kept

	// Only in Transact: the records whose unsent changes are out of sight.
	logged map[recordKey]bool
}

// Update runs fn in a transaction on one namespace: all that fn writes becomes
// one commit, all or nothing, here and on every other device. It is durable
// when Update returns nil. If fn fails, nothing was written. fn may run more
// than once, and must use no other method of the vault, which would wait for it
// for ever.
//
// A transaction has at most 65,535 changes and 16 MiB; beyond that Update fails
// with [ErrTooLarge]. Values over 64 KiB cannot be written in one.
func (v *Vault) Update(ctx context.Context, namespace string, fn func(tx *Tx) error) error {
	if err := keys.ValidNamespace(namespace); err != nil {
		return opError("update", namespace, "", fmt.Errorf("%w: %v", ErrInvalid, err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.write(func(s *state) error {
		tx := &Tx{s: s, namespace: namespace, ctx: ctx}
		if err := fn(tx); err != nil {
			return err
		}
		if tx.broken != nil {
			return tx.broken
		}
		return s.end(&tx.txn)
	})
}

// Put stores a value of at most 64 KiB, as [Namespace.Put] does.
func (tx *Tx) Put(name string, value []byte, opts ...Option) (Revision, error) {
	c := &change{namespace: tx.namespace, name: name, value: value}
	for _, o := range opts {
		o(c)
	}
	if len(value) > seal.MaxInline {
		return 0, opError("put", tx.namespace, name, fmt.Errorf("%w: in a transaction a value has at most %d bytes", ErrTooLarge, seal.MaxInline))
	}
	return tx.write("put", c)
}

// Delete ends a record, as [Namespace.Delete] does.
func (tx *Tx) Delete(name string, opts ...Option) error {
	c := &change{namespace: tx.namespace, name: name, delete: true}
	for _, o := range opts {
		o(c)
	}
	_, err := tx.write("delete", c)
	return err
}

// reserve is kept free in a commit for what is added when it is built: the
// namespace's own record.
const reserve = 4 << 10

func (tx *Tx) write(op string, c *change) (Revision, error) {
	err := c.check()
	if err == nil {
		err = tx.ctx.Err()
	}
	var rev Revision
	if err == nil {
		err = tx.look(c.name)
	}
	if err == nil {
		rev, err = tx.s.write(&tx.txn, c)
		switch {
		case errors.Is(err, ErrCondition): // found before anything was written
		case err != nil:
			tx.broken = err
		case tx.txn.changes > commitlog.MaxChanges-1:
			err = fmt.Errorf("%w: a transaction has at most %d changes", ErrTooLarge, commitlog.MaxChanges-1)
			tx.broken = err
		case tx.txn.bytes > commitlog.MaxCommitBytes-reserve:
			err = fmt.Errorf("%w: a transaction has at most %d MiB", ErrTooLarge, commitlog.MaxCommitBytes>>20)
			tx.broken = err
		}
	}
	return rev, opError(op, tx.namespace, c.name, err)
}

// Get returns a record as the transaction sees it, [ErrNotFound] if there is
// none. Long values are not read.
func (tx *Tx) Get(name string) (*Record, error) {
	v := tx.s.v
	var e *entry
	err := tx.look(name)
	if err == nil {
		e, err = tx.s.find(v.keys.recordKey(v.keys.tag(tx.namespace), name))
	}
	switch {
	case err != nil:
	case e == nil:
		err = tx.s.unknown(v.keys.tag(tx.namespace))
	case e.hidden(millis(v.conf.Now())):
		err = ErrNotFound
	}
	var rec *Record
	if err == nil {
		rec, err = tx.s.get(tx.namespace, e)
	}
	return rec, opError("get", tx.namespace, name, err)
}

// look brings a record, before Transact uses it, to what the log shows of it: an
// unsent change cannot be named by a commit that may come before it. All of it
// is rolled back in the end.
func (tx *Tx) look(name string) error {
	key := tx.s.v.keys.recordKey(tx.s.v.keys.tag(tx.namespace), name)
	if tx.logged == nil || tx.logged[key] {
		return nil
	}
	tx.logged[key] = true
	e, err := tx.s.record(key)
	if err != nil || e == nil || len(e.pending) == 0 {
		return err
	}
	e.pending = nil
	if err := tx.s.join(e); err != nil {
		return err
	}
	return tx.s.setRecord(key, e)
}

// get returns the record that an entry shows, with its value if that is short.
func (s *state) get(namespace string, e *entry) (*Record, error) {
	heads, err := s.heads(e)
	if err != nil {
		return nil, err
	}
	if len(heads) == 0 {
		return nil, s.absence(e)
	}
	h := &heads[0]
	rec := s.toRecord(namespace, e, h)
	rec.Siblings = len(distinct(heads)) - 1
	here, err := s.valueHere(h.payload)
	if err != nil {
		return nil, err
	}
	rec.Away = !here
	if h.payload.Object == nil {
		rec.Value = bytes.Clone(h.payload.Value)
		if rec.Value == nil {
			rec.Value = []byte{}
		}
	}
	return rec, nil
}
