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

// fetch asks for content that did not come with its commit.
func (e *engine) fetch() (out []wire.Message, err error) {
	if len(e.fetching) > 0 {
		return nil, nil
	}
	if !e.planned {
		if err := e.plan(); err != nil {
			return nil, err
		}
	}
	err = e.v.view(func(s *state) error {
		objects := 0
		return s.missing.Scan(nil, func(k, what []byte) (bool, error) {
			id := commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(k)), Index: be.Uint16(k[8:])}
			ch, _, err := s.log.Entry(id)
			if err != nil {
				return false, err
			}
			if what[0]&wantBlob != 0 {
				out = append(out, e.ask(fetchRequest{id: id, size: uint64(ch.BlobSize)}, ch.BlobSize))
			}
			if what[0]&wantObject != 0 && objects == 0 {
				objects++
				have, err := s.v.objects.Write(ch.ObjectHash, int64(ch.ObjectSize), 0, nil)
				if err != nil {
					return false, err
				}
				r := fetchRequest{id: id, object: true, hash: ch.ObjectHash, size: ch.ObjectSize, offset: uint64(have)}
				if r.offset < r.size {
					out = append(out, e.ask(r, uint32(min(ch.ObjectSize-r.offset, fetchPageSize))))
				}
			}
			return len(out) < fetchWindow, nil
		})
	})
	if err == nil && len(out) == 0 {
		err = e.settleMissing()
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

// settleMissing takes off the list what is here by now.
func (e *engine) settleMissing() error {
	return e.v.update(func(s *state) error {
		var have []commitlog.ChangeID
		err := s.missing.Scan(nil, func(k, _ []byte) (bool, error) {
			have = append(have, commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(k)), Index: be.Uint16(k[8:])})
			return true, nil
		})
		for _, id := range have {
			if err := e.found(s, id); err != nil {
				return err
			}
		}
		return err
	})
}

// found takes one change off the list of what is missing, if all of it is here.
func (e *engine) found(s *state, id commitlog.ChangeID) error {
	ch, blob, err := s.log.Entry(id)
	if err != nil {
		return err
	}
	if err := s.missing.Delete(changeKey(id)); err != nil {
		return err
	}
	if err := s.want(id, &ch, blob != nil); err != nil {
		return err
	}
	e.wanting = 0
	if !s.missing.Empty() {
		e.wanting = 1
	}
	return nil
}

func (e *engine) onBlobs(b *wire.Blobs) error {
	r, ok := e.fetching[b.Request]
	if !ok {
		return fmt.Errorf("%w: BLOBS that were not asked for", wire.ErrProtocol)
	}
	delete(e.fetching, b.Request)
	e.missingBytes -= min(e.missingBytes, uint64(len(b.Data)))
	e.pulledBytes += uint64(len(b.Data))
	if b.Absent {
		return &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("the content of change %v is live and was not sent", r.id)}
	}
	if b.Size != r.size || len(b.Data) == 0 {
		return &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrBlob, Reason: fmt.Sprintf("the content of change %v has another size", r.id)}
	}
	if !r.object {
		return e.lateBlob(r.id, b.Data)
	}
	have, err := e.v.objects.Write(r.hash, int64(r.size), int64(r.offset), b.Data)
	if errors.Is(err, commitlog.ErrBlob) {
		return &commitlog.CommitError{ID: r.id.Commit, Err: commitlog.ErrBlob, Reason: fmt.Sprintf("the object of change %v is another", r.id)}
	}
	if err != nil {
		return err
	}
	if uint64(have) == r.size {
		return e.v.update(func(s *state) error { return e.found(s, r.id) })
	}
	return nil
}

// lateBlob stores and indexes a blob that came after its commit.
func (e *engine) lateBlob(id commitlog.ChangeID, blob []byte) error {
	var done applied
	err := e.v.update(func(s *state) error {
		done = applied{}
		if err := s.late(id, blob, &done); err != nil {
			return err
		}
		return e.found(s, id)
	})
	e.report.Pulled += done.changes
	return err
}

// late stores the blob of a change whose commit is in the log, and indexes it if
// the change is live.
func (s *state) late(id commitlog.ChangeID, blob []byte, done *applied) error {
	raw, err := s.log.Header(id.Commit)
	if err != nil {
		return err
	}
	h, err := commitlog.ParseHeader(raw)
	if err != nil {
		return fmt.Errorf("%w: commit %d: %v", ErrDamaged, id.Commit, err)
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
