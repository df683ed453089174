package vault

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A Select narrows what List and Watch give.
type Select func(*selection)

type selection struct {
	prefix string
	since  Revision
	from   bool // since was given
	names  bool
}

// Prefix selects the records whose names begin with p.
func Prefix(p string) Select { return func(s *selection) { s.prefix = p } }

// NamesOnly leaves out values, sizes, times and devices.
func NamesOnly() Select { return func(s *selection) { s.names = true } }

// pageNames bounds how many names a listing holds at a time.
const pageNames = 1 << 16

// List gives the records of the namespace in the order of their names' bytes,
// as they are when it comes to them. It holds no transaction between records
// and at most 65,536 names, so a slow consumer pins nothing. Values over 64 KiB
// are not read: Record.Value is nil then, see [Namespace.Open].
//
// An error about one record comes with its name, and the list goes on; one that
// comes without a record ends it. In a namespace that is not kept on this device
// that is [ErrNotSelected], after the records that it wrote itself.
func (n *Namespace) List(ctx context.Context, sel ...Select) iter.Seq2[*Record, error] {
	var o selection
	for _, f := range sel {
		f(&o)
	}
	return func(yield func(*Record, error) bool) {
		if err := keys.ValidNamespace(n.name); err != nil {
			yield(nil, opError("list", n.name, "", fmt.Errorf("%w: %v", ErrInvalid, err)))
			return
		}
		var after *string
		for {
			page, err := n.page(ctx, o.prefix, after)
			if err != nil {
				yield(nil, opError("list", n.name, "", err))
				return
			}
			for _, name := range page {
				rec := &Record{Namespace: n.name, Name: name, Live: true}
				if !o.names {
					found, err := n.look(name)
					switch {
					case errors.Is(err, ErrNotFound), errors.Is(err, ErrNotSelected):
						continue // it went meanwhile
					case err == nil:
						rec = found
					case !yield(rec, opError("list", n.name, name, err)) || ctx.Err() != nil || errors.Is(err, ErrClosed):
						return
					default:
						continue // one bad record does not hide the others
					}
				}
				if !yield(rec, nil) {
					return
				}
			}
			if len(page) < pageNames {
				if err := n.selected(); err != nil {
					yield(nil, opError("list", n.name, "", err))
				}
				return
			}
			after = &page[len(page)-1]
		}
	}
}

// look returns a record with its value if that is short.
func (n *Namespace) look(name string) (rec *Record, err error) {
	err = n.v.view(func(s *state) error {
		e, err := s.find(n.v.keys.recordKey(n.v.keys.tag(n.name), name))
		if err != nil {
			return err
		}
		if e == nil {
			return s.unknown(n.v.keys.tag(n.name))
		}
		if e.hidden(millis(n.v.conf.Now())) {
			return ErrNotFound
		}
		rec, err = s.get(n.name, e)
		return err
	})
	return rec, err
}

// page returns the first pageNames names with the prefix that come after the
// given one. The index is not in the order of names, which are sealed, so each
// page is a pass over the namespace that keeps the smallest.
func (n *Namespace) page(ctx context.Context, prefix string, after *string) ([]string, error) {
	v := n.v
	tag := v.keys.tag(n.name)
	now := millis(v.conf.Now())
	var names nameHeap
	var seen int
	err := v.view(func(s *state) error {
		if err := s.begun(); err != nil {
			return err
		}
		return s.records.ScanPrefix(tag[:], nil, func(k, b []byte) (bool, error) {
			if seen++; seen%1024 == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			e, err := v.keys.parseEntry(recordKey(k), b)
			if err != nil {
				return false, err
			}
			if !strings.HasPrefix(e.name, prefix) || strings.HasPrefix(e.name, "\x00") || e.hidden(now) ||
				after != nil && e.name <= *after || len(names) == pageNames && e.name >= names[0] {
				return true, nil
			}
			if ok, err := s.shown(e); err != nil || !ok {
				return true, err
			}
			if len(names) == pageNames {
				names[0] = e.name
				heap.Fix(&names, 0)
			} else {
				heap.Push(&names, e.name)
			}
			return true, nil
		})
	})
	slices.Sort(names)
	return names, err
}

// nameHeap is a heap with the greatest name on top.
type nameHeap []string

func (h nameHeap) Len() int           { return len(h) }
func (h nameHeap) Less(i, j int) bool { return h[i] > h[j] }
func (h nameHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *nameHeap) Push(x any)        { *h = append(*h, x.(string)) }
func (h *nameHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// Namespaces returns the names of the namespaces that this device knows by
// name, sorted.
func (v *Vault) Namespaces(ctx context.Context) ([]string, error) {
	var out []string
	err := v.view(func(s *state) error {
		return s.namespaces.Scan(nil, func(k, _ []byte) (bool, error) {
			if name := s.namespaceName(keys.Tag(k)); name != "" {
				out = append(out, name)
			}
			return true, nil
		})
	})
	slices.Sort(out)
	return out, err
}

// History gives the versions of a record, newest first: pending ones, live
// ones, and those that were superseded. Record.Value is set where it is short
// and here; superseded values may have been compacted.
func (n *Namespace) History(ctx context.Context, name string) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		if err := (&change{namespace: n.name, name: name}).check(); err != nil {
			yield(nil, opError("history", n.name, name, err))
			return
		}
		key := n.v.keys.recordKey(n.v.keys.tag(n.name), name)
		pending, logged, err := n.versions(key)
		if err == nil && len(pending)+len(logged) == 0 {
			if err = n.selected(); err == nil {
				err = ErrNotFound
			}
		}
		if err != nil {
			yield(nil, opError("history", n.name, name, err))
			return
		}
		for i := len(pending) - 1; i >= 0; i-- {
			rec, err := n.version(key, commitlog.ChangeID{}, pending[i])
			if rec == nil && err == nil {
				continue // it was sent meanwhile
			}
			if !yield(rec, opError("history", n.name, name, err)) || err != nil {
				return
			}
		}
		for i := len(logged) - 1; i >= 0; i-- {
			rec, err := n.version(key, logged[i], 0)
			if !yield(rec, opError("history", n.name, name, err)) || err != nil {
				return
			}
		}
	}
}

// versions returns the places of all versions of a record, oldest first.
func (n *Namespace) versions(key recordKey) (pending []uint64, logged []commitlog.ChangeID, err error) {
	err = n.v.view(func(s *state) error {
		e, err := s.find(key)
		if err != nil || e == nil {
			return err
		}
		pending = e.pending
		logged = slices.Clone(e.live)
		err = s.versions.ScanPrefix(key[:], nil, func(k, _ []byte) (bool, error) {
			logged = append(logged, commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(k[32:])), Index: be.Uint16(k[40:])})
			return true, nil
		})
		slices.SortFunc(logged, commitlog.ChangeID.Compare)
		return errors.Join(err, s.besideVersions(key))
	})
	return pending, logged, err
}

// version returns one version of a record, by its place in the log or its local
// id; nil if the local id is no longer in the outbox.
func (n *Namespace) version(key recordKey, id commitlog.ChangeID, local uint64) (rec *Record, err error) {
	err = n.v.view(func(s *state) error {
		var h *head
		if local != 0 {
			if s.outbox.Get(localKey(local)) == nil {
				return nil
			}
			p, err := s.pendingChange(local)
			if err != nil {
				return err
			}
			opened, err := s.openPending(p)
			if err != nil {
				return err
			}
			h = &opened
		} else if u, err := s.unreadable(id); err != nil {
			return err
		} else if u != nil {
			rec = &Record{Namespace: n.name, Commit: id, Unread: id, Live: s.log.Live(key.tag(), id)}
			return nil
		} else if h, err = s.openChange(id); err != nil {
			return err
		}
		if h == nil { // compacted, or it never opened
			rec = &Record{Namespace: n.name, Commit: id}
			return nil
		}
		if n.v.keys.recordKey(key.tag(), h.payload.Name) != key {
			return fmt.Errorf("%w: version %v is of another record", store.ErrDamaged, id)
		}
		rec = s.toRecord(n.name, nil, h)
		rec.Live = local == 0 && s.log.Live(key.tag(), id)
		if h.payload.Object == nil && !rec.Deleted {
			rec.Value = h.payload.Value
		}
		here, err := s.valueHere(h.payload)
		rec.Away = !here
		return err
	})
	return rec, err
}
