package vault

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/kistvault/kist/commitlog"
)

// A Conflict is a record of which devices made several versions that did not
// know of each other.
type Conflict struct {
	Namespace string
	Name      string
	// Versions are the record's versions, the one shown first: at least two that
	// differ, or one and a removal that it was written beside (Record.Deleted).
	// Those that say the same are one. Record.Value is set where it is short;
	// [Conflict.Open] reads any. Record.Revision is the record's, for
	// [IfRevision].
	Versions []*Record
	// Ancestor is the newest version that all siblings come from. It is nil if
	// there is none, as when two devices create the same record, or if its
	// content is not here.
	Ancestor *Record
	// Err says why the resolver gave no answer. Nil: it was not asked, or has none
	// to give yet.
	Err error

	v *Vault
}

// conflictPage bounds how many keys a listing of conflicts holds.
const conflictPage = 1024

// Conflicts gives the records of which several versions differ, as they are when
// it comes to them. They come in no particular order. It holds no transaction
// between them, so a slow consumer pins nothing.
//
// An error about one record comes with its name, and the list goes on; one that
// comes without a conflict ends it.
func (v *Vault) Conflicts(ctx context.Context) iter.Seq2[*Conflict, error] {
	return func(yield func(*Conflict, error) bool) {
		var from []byte
		for {
			var page []recordKey
			err := ctx.Err()
			if err == nil {
				page, err = v.disputed(nil, from, conflictPage)
			}
			if err != nil {
				yield(nil, opError("conflicts", "", "", err))
				return
			}
			for _, key := range page {
				c, err := v.conflict(key, true)
				if c == nil && err == nil {
					continue // it was settled meanwhile
				}
				if c == nil || ctx.Err() != nil {
					yield(nil, opError("conflicts", "", "", err))
					return
				}
				if !yield(c, opError("conflicts", c.Namespace, c.Name, err)) {
					return
				}
			}
			if len(page) < conflictPage {
				return
			}
			from = append(page[len(page)-1][:], 0)
		}
	}
}

// Conflict returns the conflict of one record, [ErrNotFound] if it has none: one
// version, or none. Unlike Conflicts it also tells of a removal beside which the
// record's only version was written.
func (n *Namespace) Conflict(ctx context.Context, name string) (c *Conflict, err error) {
	err = n.lookAt(ctx, name, func(s *state, e *entry) error {
		if c, err = s.conflict(e, true); err == nil && c == nil {
			err = fmt.Errorf("%w: it has no conflict", ErrNotFound)
		}
		return err
	})
	if err != nil {
		return nil, opError("conflict", n.name, name, err)
	}
	return c, nil
}

// disputed returns the keys of records whose versions differ, at most limit of
// those that begin with prefix and come at or after from.
func (v *Vault) disputed(prefix, from []byte, limit int) (page []recordKey, err error) {
	err = v.view(func(s *state) error {
		page = nil
		return s.conflicts.ScanPrefix(prefix, from, func(k, b []byte) (bool, error) {
			c, err := parseConflictState(b)
			if err == nil && c.differ {
				page = append(page, recordKey(k))
			}
			return len(page) < limit, err
		})
	})
	return page, err
}

// conflict returns the conflict of a record, nil if it has none. rivals says that
// removals which met an edit belong to it.
func (v *Vault) conflict(key recordKey, rivals bool) (c *Conflict, err error) {
	err = v.view(func(s *state) error {
		e, err := s.record(key)
		if err != nil || e == nil {
			return err
		}
		c, err = s.conflict(e, rivals)
		if err != nil {
			c = &Conflict{Namespace: s.namespaceName(key.tag()), Name: e.name}
		}
		return err
	})
	return c, err
}

func (s *state) conflict(e *entry, rivals bool) (*Conflict, error) {
	heads, err := s.heads(e)
	if err != nil {
		return nil, err
	}
	shown := distinct(heads)
	all := slices.Clone(shown)
	if rivals {
		r, err := s.rivals(e.key, e, heads)
		if err != nil {
			return nil, err
		}
		all = append(all, r...)
	}
	if len(all) < 2 {
		return nil, nil
	}
	c := &Conflict{Namespace: s.namespaceName(e.key.tag()), Name: e.name, v: s.v}
	for i := range all {
		r := s.toRecord(c.Namespace, e, &all[i])
		r.Live, r.Siblings = i < len(shown), len(shown)-1
		r.Value = shortValue(&all[i])
		c.Versions = append(c.Versions, r)
	}
	a, err := s.ancestor(heads)
	if err != nil || a == nil {
		return c, err
	}
	c.Ancestor = s.toRecord(c.Namespace, nil, a)
	c.Ancestor.Value = shortValue(a)
	return c, nil
}

// shortValue returns a copy of a head's value, nil if it is long or there is none.
func shortValue(h *head) []byte {
	if h.payload.Object != nil || h.op == commitlog.OpDelete || !h.payload.Understood() {
		return nil
	}
	return append([]byte{}, h.payload.Value...)
}

// ancestor returns the newest change in the log that all heads come from, nil if
// there is none that opens. Since a change names earlier ones only, it is the
// first that all have reached when the changes are gone through from the newest.
func (s *state) ancestor(heads []head) (*head, error) {
	type reached [commitlog.MaxRefs/64 + 1]uint64
	var all reached
	by := make(map[commitlog.ChangeID]reached)
	var queue []commitlog.ChangeID // descending
	add := func(id commitlog.ChangeID, from reached) {
		r, known := by[id]
		for i := range r {
			r[i] |= from[i]
		}
		by[id] = r
		if !known {
			at, _ := slices.BinarySearchFunc(queue, id, func(a, b commitlog.ChangeID) int { return b.Compare(a) })
			queue = slices.Insert(queue, at, id)
		}
	}
	for i := range heads[:min(len(heads), 64*len(all))] {
		var bit reached
		bit[i/64] = 1 << (i % 64)
		all[i/64] |= bit[i/64]
		named, err := s.named(&heads[i])
		if err != nil {
			return nil, err
		}
		for _, id := range named {
			add(id, bit)
		}
	}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		r := by[id]
		delete(by, id)
		if r == all {
			return s.openChange(id)
		}
		named, err := s.log.Named(id)
		if err != nil {
			return nil, err
		}
		for _, n := range named {
			add(n, r)
		}
	}
	return nil, nil
}

// secondName returns a name for a version that is to be kept beside another of
// the same record: "name (device, date)", and a number where that is taken.
func secondName(name string, r *Record, taken func(string) (bool, error), maxLen int) (string, error) {
	for n := 1; ; n++ {
		suffix := fmt.Sprintf(" (%s, %s)", r.Device, r.Time.UTC().Format("2006-01-02"))
		if n > 1 {
			suffix = fmt.Sprintf(" (%s, %s, %d)", r.Device, r.Time.UTC().Format("2006-01-02"), n)
		}
		base := name
		if over := len(base) + len(suffix) - maxLen; over > 0 {
			base = strings.ToValidUTF8(base[:max(len(base)-over, 0)], "")
		}
		second := base + suffix
		if is, err := taken(second); err != nil || !is {
			return second, err
		}
	}
}
