package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A Checked is what [Vault.Check] has looked at.
type Checked struct {
	Verified          // zero where the history is not all here yet
	Records  int      // in the index
	Pending  int      // changes in the outbox
	Objects  int      // files of long values
	Spoilt   []string // long values whose file is damaged: "namespace/name"
}

// Check looks through all that this device keeps: every page of the store, the
// log as [Vault.VerifyLog] does, the index against the log, the outbox, and the
// files of long values. The first damage is the error, [ErrDamaged]; but for
// files of long values, which a full sync gets again: they are in the report.
//
// Nothing can be written while the pages are read.
func (v *Vault) Check(ctx context.Context, progress func(done, total uint64)) (*Checked, error) {
	c := &Checked{}
	if err := v.storeError(v.db.Check()); err != nil {
		return nil, err
	}
	switch r, err := v.VerifyLog(ctx, progress); {
	case err == nil:
		c.Verified = *r
	case !errors.Is(err, ErrIncomplete):
		return nil, err
	}
	objects := make(map[commitlog.Hash]string)
	err := v.view(func(s *state) error {
		if err := s.checkOutbox(ctx, c); err != nil {
			return err
		}
		if err := s.checkRecords(ctx, c, objects); err != nil {
			return err
		}
		return errors.Join(s.checkVersions(ctx), s.checkLive(ctx))
	})
	if err != nil {
		return nil, err
	}
	for hash, name := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, whole, err := v.objects.Have(hash)
		if err != nil {
			return nil, err
		}
		if !whole {
			continue // it is at the secondary
		}
		c.Objects++
		good, err := v.objects.Verify(hash)
		if err != nil {
			return nil, err
		}
		if !good {
			c.Spoilt = append(c.Spoilt, name)
		}
	}
	slices.Sort(c.Spoilt)
	return c, nil
}

// checkOutbox looks at what is not in the log yet.
func (s *state) checkOutbox(ctx context.Context, c *Checked) error {
	return s.outbox.Scan(nil, func(k, b []byte) (bool, error) {
		p, err := parsePending(be.Uint64(k), b)
		if err != nil {
			if s.aside.Get(k) != nil {
				return true, nil // it is known, and told as a problem
			}
			return false, err
		}
		h, err := s.openPending(p)
		if err != nil {
			return false, err
		}
		e, err := s.record(p.key)
		if err != nil {
			return false, err
		}
		if e == nil || e.name != h.payload.Name || !slices.Contains(e.pending, p.local) {
			return false, fmt.Errorf("%w: outbox entry %d is not in the index", store.ErrDamaged, p.local)
		}
		if !s.isUnsent(p) && !s.isAside(p) && s.built.Get(localKey(p.local)) == nil {
			return false, fmt.Errorf("%w: outbox entry %d is in no list", store.ErrDamaged, p.local)
		}
		c.Pending++
		return true, ctx.Err()
	})
}

// checkRecords looks at each entry of the index.
func (s *state) checkRecords(ctx context.Context, c *Checked, objects map[commitlog.Hash]string) error {
	return s.records.Scan(nil, func(k, b []byte) (bool, error) {
		if len(k) != len(recordKey{}) {
			return false, fmt.Errorf("%w: index entry", store.ErrDamaged)
		}
		key := recordKey(k)
		e, err := s.v.keys.parseEntry(key, b)
		if err != nil {
			return false, err
		}
		c.Records++
		heads, err := s.heads(e)
		if err != nil {
			return false, err
		}
		for _, id := range e.live {
			if !s.log.Live(key.tag(), id) {
				return false, fmt.Errorf("%w: the index lists change %v, which is not live", store.ErrDamaged, id)
			}
		}
		for _, h := range heads {
			if h.payload.Object != nil {
				objects[h.object] = s.namespaceName(key.tag()) + "/" + e.name
			}
		}
		if place := s.feed.Get(be.AppendUint64(nil, uint64(e.rev))); e.rev != 0 && string(place) != string(k) {
			return false, fmt.Errorf("%w: a record is not at its revision", store.ErrDamaged)
		}
		return true, ctx.Err()
	})
}

// checkVersions looks whether each version is under the record that it is about.
func (s *state) checkVersions(ctx context.Context) error {
	return s.versions.Scan(nil, func(k, _ []byte) (bool, error) {
		return true, errors.Join(s.placed(k), ctx.Err())
	})
}

// checkLive looks whether each live change that opens is in the index.
func (s *state) checkLive(ctx context.Context) error {
	return s.log.Namespaces(func(tag keys.Tag) error {
		if tag == s.v.keys.control {
			return nil
		}
		return s.log.EachLive(tag, func(id commitlog.ChangeID) error {
			h, err := s.openChange(id)
			if err != nil || h == nil {
				return err
			}
			e, err := s.record(s.v.keys.recordKey(tag, h.payload.Name))
			if err == nil && (e == nil || !slices.Contains(e.live, id)) {
				err = fmt.Errorf("%w: change %v is live, and not in the index", store.ErrDamaged, id)
			}
			return errors.Join(err, ctx.Err())
		})
	})
}
