package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// Fetch brings a record's value here, if it was left at the secondary: see
// [Selection]. It stays until the selection changes. Fetch syncs, receiving only,
// and returns the error of that sync; the value is then fetched by the next one.
// Where there is nothing to fetch it asks nobody. o.Mode is not used.
func (n *Namespace) Fetch(ctx context.Context, name string, o SyncOptions) error {
	o.Mode = PullOnly
	for range 4 { // while it is fetched, another may take its place
		here, err := n.ask(name)
		if err == nil && !here {
			_, err = n.v.Sync(ctx, o)
		}
		if err != nil || here {
			return opError("fetch", n.name, name, err)
		}
	}
	here, err := n.ask(name)
	if err == nil && !here {
		err = ErrNotHere
	}
	return opError("fetch", n.name, name, err)
}

// ask puts the value that a record shows on the list of what is to be fetched,
// unless it is here.
func (n *Namespace) ask(name string) (here bool, err error) {
	if err := (&change{namespace: n.name, name: name}).check(); err != nil {
		return false, err
	}
	var h *head
	err = n.v.view(func(s *state) (err error) {
		_, h, _, err = s.show(n.name, name)
		if err == nil {
			here, err = s.valueHere(h.payload)
		}
		if err == nil && !here && h.unread != (commitlog.ChangeID{}) {
			err = fmt.Errorf("%w: it is the value of an earlier version, which is not fetched any more", ErrNotHere)
		}
		if err == nil && !here && h.local != 0 {
			err = fmt.Errorf("%w: a value that was not sent is gone", ErrDamaged)
		}
		return err
	})
	if err != nil || here {
		return here, err
	}
	return false, n.v.update(func(s *state) error {
		s.queued = true // wakes a session
		return s.missing.Put(changeKey(h.id), []byte{wantObject | wantAsked})
	})
}

// valueHere reports whether a value is on this device.
func (s *state) valueHere(p *seal.Payload) (bool, error) {
	if p.Object == nil {
		return true, nil
	}
	_, whole, err := s.v.objects.Have(commitlog.Hash(p.Object.Hash))
	return whole, err
}

// show returns a record's entry and the head that it shows, and how many stand
// beside that.
func (s *state) show(namespace, name string) (e *entry, h *head, siblings int, err error) {
	tag := s.v.keys.tag(namespace)
	e, err = s.find(s.v.keys.recordKey(tag, name))
	if err != nil {
		return nil, nil, 0, err
	}
	if e == nil {
		return nil, nil, 0, s.unknown(tag)
	}
	if e.hidden(millis(s.v.conf.Now())) {
		return nil, nil, 0, ErrNotFound
	}
	heads, err := s.heads(e)
	if err != nil {
		return nil, nil, 0, err
	}
	if len(heads) == 0 {
		return nil, nil, 0, s.absence(e)
	}
	return e, &heads[0], len(distinct(heads)) - 1, nil
}

// unknown says why there is no entry for a record: there is no such record, or
// its namespace is not kept on this device.
func (s *state) unknown(tag keys.Tag) error {
	k, err := s.keeping()
	if err != nil {
		return err
	}
	if !k.has(tag) {
		return ErrNotSelected
	}
	if is, _ := s.rebuilding(); is {
		return ErrIncomplete
	}
	return ErrNotFound
}

// selected returns [ErrNotSelected] if the namespace is not kept, for those who
// have told somebody all that is here of it.
func (n *Namespace) selected() error {
	return n.v.view(func(s *state) error {
		tag := n.v.keys.tag(n.name)
		if err := s.unknown(tag); !errors.Is(err, ErrNotFound) {
			return err
		}
		return s.beside(tag[:])
	})
}
