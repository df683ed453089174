package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
)

// A Revision numbers the changes to records in the order in which this device
// came to know them; each change to a record gives it a new one. It means
// nothing on another device. Zero is no revision.
type Revision uint64

// A Record is one version of a record.
type Record struct {
	Namespace   string
	Name        string
	ContentType string
	Value       []byte             // nil where it was not asked for, or is long: see Open
	Size        int64              // bytes of the value
	Revision    Revision           // of the record; 0 in a history
	Commit      commitlog.ChangeID // where it stands in the log; zero: not sent yet
	Time        time.Time          // when it was written, by its author's clock
	Device      string             // the author's name
	Expires     time.Time          // zero: never
	Available   time.Time          // zero: at once
	Deleted     bool               // it ended the record; only in a history or an Event
	Live        bool               // it is the record's present state, or one of its siblings
	Pending     bool               // it is not in the verified log yet
	Away        bool               // its value was left at the secondary: see Namespace.Fetch
	Siblings    int                // versions written at the same time beside this one
	Ahead       bool               // Time is more than a day ahead of this device's clock: one of the two is wrong. See Vault.Ahead
	// Unread is the version that the record would show if this program could use
	// it, or it had come: what is here is the newest one before it that can be shown. Zero: none. In a
	// history it is set, to Commit, in a version that cannot be used itself.
	Unread commitlog.ChangeID

	clock clock // tells versions by this device apart while they are not in the log
}

// An Option of Put and Delete.
type Option func(*change)

// IfAbsent makes a write fail with [ErrCondition] where the record exists.
func IfAbsent() Option { return func(c *change) { c.cond.absent = true } }

// IfRevision makes a write fail with [ErrCondition] where the record is not at
// this revision.
func IfRevision(r Revision) Option { return func(c *change) { c.cond.revision = r } }

// ContentType sets the value's media type, at most 255 bytes.
func ContentType(t string) Option { return func(c *change) { c.contentType = t } }

// Expires lets the record vanish at a time.
func Expires(t time.Time) Option { return func(c *change) { c.expires = millis(t) } }

// Available hides the record until a time.
func Available(t time.Time) Option { return func(c *change) { c.available = millis(t) } }

// A Namespace is a set of records with names of their own. The value is cheap
// and need not be kept.
type Namespace struct {
	v    *Vault
	name string
}

// Namespace returns the namespace of that name; it begins to exist with its
// first record. Names are [a-z0-9][a-z0-9._-]{0,63}: any other makes every
// operation fail with [ErrInvalid].
func (v *Vault) Namespace(name string) *Namespace { return &Namespace{v: v, name: name} }

// Name returns the namespace's name.
func (n *Namespace) Name() string { return n.name }

// Put stores a value under a name of at most 512 bytes. It is durable on this
// device when Put returns, and goes to the others with the next sync. A value
// over 64 KiB is kept as a file; PutFrom stores one without holding it in
// memory.
func (n *Namespace) Put(ctx context.Context, name string, value []byte, opts ...Option) (Revision, error) {
	return n.PutFrom(ctx, name, bytes.NewReader(value), opts...)
}

// PutFrom is Put with the value read from r to its end.
func (n *Namespace) PutFrom(ctx context.Context, name string, r io.Reader, opts ...Option) (rev Revision, err error) {
	c := &change{namespace: n.name, name: name}
	for _, o := range opts {
		o(c)
	}
	err = n.v.prepare(ctx, c, r)
	if err == nil {
		rev, err = n.v.writeAlone(ctx, c)
	}
	return rev, opError("put", n.name, name, err)
}

// prepare checks a put and reads its value: into memory up to 64 KiB, into the
// object store beyond.
func (v *Vault) prepare(ctx context.Context, c *change, r io.Reader) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	value, err := io.ReadAll(io.LimitReader(r, seal.MaxInline+1))
	if err != nil {
		return fmt.Errorf("reading value: %w", err)
	}
	if len(value) <= seal.MaxInline {
		c.value = value
		return nil
	}
	var epoch uint32
	var counter uint64
	err = v.update(func(s *state) (err error) {
		if counter, err = s.meta.Next(); err == nil {
			epoch, err = s.epoch()
		}
		return err
	})
	if err != nil {
		return err
	}
	sealer, err := v.keys.sealer(v.keys.tag(c.namespace), epoch)
	if err != nil {
		return err
	}
	var info seal.ObjectInfo
	_, err = v.objects.Create(func(w io.Writer) (commitlog.Hash, error) {
		src := io.MultiReader(bytes.NewReader(value), contextReader{ctx, r})
		info, err = sealer.SealObject(w, src, v.keys.device, counter, v.conf.MaxObject)
		return info.Hash, err
	})
	if errors.Is(err, seal.ErrLimit) {
		return fmt.Errorf("%w: a value has at most %d bytes", ErrTooLarge, v.conf.MaxObject)
	}
	if err != nil {
		return err
	}
	c.object = &seal.ObjectRef{Hash: info.Hash, Length: info.Length}
	c.objSize = info.Size
	return nil
}

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// writeAlone makes one change in a transaction of its own.
func (v *Vault) writeAlone(ctx context.Context, c *change) (rev Revision, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = v.write(func(s *state) (err error) {
		rev, err = s.write(&txn{alone: true}, c)
		return err
	})
	return rev, err
}

// Delete ends a record. Deleting one that is not there does nothing and is no
// error. It is durable on this device when Delete returns. Earlier versions
// stay in the history. One that was not sent yet is not sent any more, but where the
// record is removed with others in one transaction; Undelete brings it back.
func (n *Namespace) Delete(ctx context.Context, name string, opts ...Option) error {
	c := &change{namespace: n.name, name: name, delete: true}
	for _, o := range opts {
		o(c)
	}
	err := c.check()
	if err == nil {
		_, err = n.v.writeAlone(ctx, c)
	}
	return opError("delete", n.name, name, err)
}

// Get returns a record with its value, [ErrNotFound] if there is none,
// [ErrNotSelected] if that cannot be known here and [ErrNotHere] if its value
// was left at the secondary. The value
// is the caller's. A long value is read into memory whole; Open does not.
func (n *Namespace) Get(ctx context.Context, name string) (*Record, error) {
	rec, r, err := n.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if rec.Value == nil {
		if rec.Value, err = io.ReadAll(contextReader{ctx, r}); err != nil {
			return nil, opError("get", n.name, name, err)
		}
	}
	return rec, nil
}

// Open returns a record and a reader of its value, which the caller closes. A
// long value is opened chunk by chunk as it is read: every byte is authentic,
// and that it is whole is known at io.EOF; where its file is spoilt, opening or
// reading fails with [ErrValueDamaged]. A short one is in Record.Value, too.
// Where the value was left at the secondary the error is [ErrNotHere], and the
// record is there all the same: see [Namespace.Fetch].
func (n *Namespace) Open(ctx context.Context, name string) (*Record, io.ReadCloser, error) {
	fail := func(err error) (*Record, io.ReadCloser, error) { return nil, nil, opError("get", n.name, name, err) }
	if err := (&change{namespace: n.name, name: name}).check(); err != nil {
		return fail(err)
	}
	var rec *Record
	var value io.ReadCloser
	err := n.v.view(func(s *state) error {
		e, h, siblings, err := s.show(n.name, name)
		if err != nil {
			return err
		}
		rec = s.toRecord(n.name, e, h)
		rec.Siblings = siblings
		value, err = s.value(n.name, h, rec)
		return err
	})
	switch {
	case errors.Is(err, ErrNotHere) && rec != nil:
		rec.Away = true
		return rec, nil, opError("get", n.name, name, err)
	case err != nil:
		return fail(err)
	}
	return rec, value, nil
}

// absence says why a record without heads shows nothing.
func (s *state) absence(e *entry) error {
	for _, local := range e.pending {
		if _, err := s.pendingChange(local); err != nil {
			return err
		}
	}
	_, covered, err := s.overlay(e)
	if err != nil {
		return err
	}
	for _, id := range e.live {
		if covered[id] {
			continue // it was deleted here
		}
		if s.missing.Get(changeKey(id)) != nil {
			return fmt.Errorf("%w: it has not come yet, sync first", ErrNotHere)
		}
		if s.quarantine.Get(changeKey(id)) != nil {
			return fmt.Errorf("%w: version %v cannot be used, and no version before it is here", ErrNotUnderstood, id)
		}
	}
	return ErrNotFound
}

// toRecord describes a head. It does not set the value.
func (s *state) toRecord(namespace string, e *entry, h *head) *Record {
	p := h.payload
	r := &Record{
		Namespace: namespace, Name: p.Name, ContentType: p.ContentType, Commit: h.id,
		Time: clockTime(p.HLC), Device: s.deviceName(h.device), Pending: h.local != 0,
		Expires: fromMillis(p.Expires), Available: fromMillis(p.Available),
		Deleted: h.op == commitlog.OpDelete, Size: int64(len(p.Value)), Unread: h.unread, Ahead: ahead(p.HLC, s.v.conf.Now()), clock: p.HLC,
	}
	if e != nil {
		r.Revision, r.Live = e.rev, true
	}
	if p.Object != nil {
		r.Size = int64(p.Object.Length)
	}
	return r
}

// value returns a reader of a head's value, and sets Record.Value if it is
// short.
func (s *state) value(namespace string, h *head, rec *Record) (io.ReadCloser, error) {
	if h.payload.Object == nil {
		rec.Value = h.payload.Value
		if rec.Value == nil {
			rec.Value = []byte{}
		}
		return io.NopCloser(bytes.NewReader(rec.Value)), nil
	}
	epoch, err := s.epochOf(h)
	if err != nil {
		return nil, err
	}
	return s.v.openObject(s.v.keys.tag(namespace), epoch, h.payload.Object)
}

func changeKey(id commitlog.ChangeID) []byte {
	b := be.AppendUint64(make([]byte, 0, 10), uint64(id.Commit))
	return be.AppendUint16(b, id.Index)
}

func sha256Sum(b []byte) commitlog.Hash { return sha256.Sum256(b) }
