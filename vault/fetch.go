package vault

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/wire"
)

type fetchRequest struct {
	id     commitlog.ChangeID
	object bool
	hash   commitlog.Hash
	size   uint64
	offset uint64
}

// A lateBlob is a blob that came after its commit.
type lateBlob struct {
	id   commitlog.ChangeID
	blob []byte
}

// fetch asks for content that did not come with its commit: for a window of
// blobs, which are stored together, and for the next piece of one object.
func (e *engine) fetch() (out []wire.Message, err error) {
	for err == nil && len(out) == 0 && len(e.fetching) == 0 && e.wanting > 0 {
		if !e.planned {
			err = e.plan()
		}
		if err == nil {
			out, err = e.nextFetches()
		}
	}
	return out, err
}

// nextFetches is fetch for what stands first on the list; it takes off the list
// what is found to be here.
func (e *engine) nextFetches() (out []wire.Message, err error) {
	var settled []commitlog.ChangeID
	err = e.v.view(func(s *state) error {
		looked := 0
		object := false
		return s.missing.Scan(nil, func(k, noted []byte) (bool, error) {
			looked++
			id := parseChangeKey(k)
			ch, blob, err := s.log.Entry(id)
			if err != nil {
				return false, err
			}
			what, err := s.lacks(id, &ch, blob != nil, noted[0]&wantAsked)
			if err != nil {
				return false, err
			}
			if what == 0 {
				settled = append(settled, id)
			}
			if what&wantBlob != 0 {
				out = append(out, e.ask(fetchRequest{id: id, size: uint64(ch.BlobSize)}, ch.BlobSize))
			}
			if what&wantObject != 0 && !object {
				object = true
				have, err := s.v.objects.Write(ch.ObjectHash, int64(ch.ObjectSize), 0, nil)
				if err != nil {
					return false, err
				}
				r := fetchRequest{id: id, object: true, hash: ch.ObjectHash, size: ch.ObjectSize, offset: uint64(have)}
				if r.offset < r.size {
					out = append(out, e.ask(r, uint32(min(ch.ObjectSize-r.offset, fetchPageSize))))
				} else {
					settled = append(settled, id)
				}
			}
			return len(out) < fetchWindow && looked < fetchLook, nil
		})
	})
	if err == nil && len(out) == 0 {
		err = e.settle(settled)
	}
	return out, err
}

// plan counts what has to be fetched.
func (e *engine) plan() error {
	var sum uint64
	err := e.v.view(func(s *state) error {
		sum = 0
		return s.missing.Scan(nil, func(k, what []byte) (bool, error) {
			ch, _, err := s.log.Entry(parseChangeKey(k))
			if err != nil {
				return false, err
			}
			if what[0]&wantBlob != 0 {
				sum += uint64(ch.BlobSize)
			}
			if what[0]&wantObject != 0 {
				have, _, err := s.v.objects.Have(ch.ObjectHash)
				if err != nil {
					return false, err
				}
				sum += ch.ObjectSize - min(uint64(have), ch.ObjectSize)
			}
			return true, nil
		})
	})
	e.missingBytes, e.planned = sum, err == nil
	return err
}

func (e *engine) ask(r fetchRequest, length uint32) wire.Message {
	e.request++
	e.fetching[e.request] = r
	return &wire.Fetch{Request: e.request, Commit: r.id.Commit, Index: r.id.Index, Object: r.object, Offset: r.offset, Length: max(length, 1)}
}

// settle takes off the list what is here by now.
func (e *engine) settle(ids []commitlog.ChangeID) error {
	return e.v.update(func(s *state) error {
		for _, id := range ids {
			if err := s.found(id); err != nil {
				return err
			}
		}
		e.wants(s)
		return nil
	})
}

func (e *engine) onBlobs(b *wire.Blobs) error {
	r, ok := e.fetching[b.Request]
	if !ok {
		return fmt.Errorf("%w: BLOBS that were not asked for", wire.ErrProtocol)
	}
	delete(e.fetching, b.Request)
	e.missingBytes -= min(e.missingBytes, uint64(len(b.Data)))
	e.pulledBytes += uint64(len(b.Data))
	var err error
	switch {
	case b.Absent:
		err = e.absent(r)
	case b.Size != r.size || len(b.Data) == 0:
		err = &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrBlob, Reason: fmt.Sprintf("the content of change %v has another size", r.id)}
	case r.object:
		err = e.objectPart(r, b.Data)
	default:
		e.late = append(e.late, lateBlob{r.id, b.Data})
	}
	if err != nil || len(e.fetching) > 0 {
		return err
	}
	return e.storeLate()
}

// absent takes the answer that content is no longer kept. It may be so where it
// was superseded while it was asked for. If what does so is announced and has not
// come, that has to come first, before anything is asked for again.
func (e *engine) absent(r fetchRequest) error {
	return e.v.view(func(s *state) error {
		if s.missing.Get(changeKey(r.id)) == nil {
			return nil
		}
		if e.size < e.announced {
			e.first, e.need = max(e.first, e.announced), max(e.need, e.announced)
			return nil
		}
		return &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("the content of change %v is live and was not sent", r.id)}
	})
}

func (e *engine) objectPart(r fetchRequest, data []byte) error {
	have, err := e.v.objects.Write(r.hash, int64(r.size), int64(r.offset), data)
	if errors.Is(err, commitlog.ErrBlob) {
		return &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrBlob, Reason: fmt.Sprintf("the object of change %v is another", r.id)}
	}
	if err != nil || uint64(have) < r.size {
		return err
	}
	return e.settle([]commitlog.ChangeID{r.id})
}

// storeLate stores and indexes the blobs that have come and are still missing.
func (e *engine) storeLate() error {
	if len(e.late) == 0 {
		return nil
	}
	var done applied
	err := e.v.update(func(s *state) error {
		done = applied{}
		for _, l := range e.late {
			if s.missing.Get(changeKey(l.id)) == nil {
				continue
			}
			if err := s.late(l.id, l.blob, &done); err != nil {
				return err
			}
			if err := s.found(l.id); err != nil {
				return err
			}
		}
		e.wants(s)
		return nil
	})
	e.late = nil
	e.report.Pulled += done.changes
	e.report.Conflicts += done.conflicts
	return err
}

// late stores the blob of a change whose commit is in the log, and indexes it if
// the change is live. It does nothing where the namespace is not kept.
func (s *state) late(id commitlog.ChangeID, blob []byte, done *applied) error {
	raw, err := s.log.Header(id.Commit)
	if err != nil {
		return err
	}
	h, err := commitlog.ParseHeader(raw)
	if err != nil {
		return fmt.Errorf("%w: commit %d: %v", ErrDamaged, id.Commit, err)
	}
	if k, err := s.keeping(); err != nil || !k.has(h.Tag) {
		return err
	}
	ch, _, err := s.log.Entry(id)
	if err != nil {
		return err
	}
	if err := s.log.SetBlob(id, blob); errors.Is(err, commitlog.ErrBlob) {
		return &commitlog.CommitError{ID: id.Commit, Err: err}
	} else if err != nil {
		return err
	}
	if !s.log.Live(h.Tag, id) {
		return nil
	}
	var o opened
	if sealer, err := s.v.keys.sealer(h.Tag, h.Epoch); err != nil {
		o.reason = err.Error()
	} else {
		s.v.openOne(&o, sealer, h.Tag, &ch, blob, new(seal.Payload), nil)
	}
	ix := &indexer{s: s, done: done}
	if err := ix.add(id, &ch, &o, true, 0, false); err != nil {
		return err
	}
	return ix.flush()
}
