package vault

import (
	"context"
	"errors"
	"strings"

	"github.com/kistvault/kist/keys"
)

// Since makes Watch begin after a revision instead of now. Since(0) begins with
// every record there is.
func Since(r Revision) Select { return func(s *selection) { s.since, s.from = r, true } }

// A Subscription gives the changes to records, made here or elsewhere, in the
// order in which this device came to know them, and tells when a record expires
// or becomes available while it lasts. Each event is the record as it
// is then: several changes to one record that come before the reader took the
// first are one event. A slow reader holds up nothing, and costs no memory.
type Subscription struct {
	// C gives the events. It is closed when the context ends, the vault is
	// closed or an error occurs; Err tells which.
	C <-chan *Record

	err  error
	done chan struct{} // closed when err is final
}

// Err waits for the end of the subscription and returns why it ended.
func (s *Subscription) Err() error {
	<-s.done
	return s.err
}

// watchBatch bounds how many events are read from the store at a time.
const watchBatch = 256

// Watch subscribes to the changes of all namespaces, or of the named one if
// namespace is not empty. An event with Deleted set says that the record is
// gone. Record.Value is set where it is short.
//
// A record that expires is gone, and one that becomes available is there, as if
// it had been written then; its revision stays. This goes by Config.Now, which is
// looked at every minute at least. What expired before Watch was called is not
// told, and neither is what does so while the vault is closed: List is right at
// any time.
func (v *Vault) Watch(ctx context.Context, namespace string, sel ...Select) *Subscription {
	var o selection
	for _, f := range sel {
		f(&o)
	}
	if !o.from {
		_ = v.view(func(s *state) error { // an error shows again below
			o.since = Revision(s.feed.Sequence())
			return nil
		})
	}
	c := make(chan *Record)
	sub := &Subscription{C: c, done: make(chan struct{})}
	go func() {
		defer close(sub.done)
		defer close(c)
		sub.err = v.watch(ctx, namespace, o, c)
	}()
	return sub
}

func (v *Vault) watch(ctx context.Context, namespace string, o selection, c chan<- *Record) error {
	times := newMoments(v, namespace)
	if _, err := times.next(v); err != nil {
		return err
	}
	for {
		grown := v.feedGrown()
		batch, last, err := v.feedAfter(namespace, o, times)
		if err == nil && last == o.since {
			batch, err = times.due(v, o.prefix)
		}
		if errors.Is(err, ErrReadOnly) { // nothing new is known to be durable; mend wakes us
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-v.closed:
				return ErrClosed
			}
		}
		if err != nil {
			return err
		}
		for _, rec := range batch {
			select {
			case c <- rec:
			case <-ctx.Done():
				return ctx.Err()
			case <-v.closed:
				return ErrClosed
			}
		}
		if last != o.since || len(batch) > 0 {
			o.since = last
			continue
		}
		timer, stop, err := times.wait(v)
		if err != nil {
			return err
		}
		select {
		case <-grown:
		case <-timer:
		case <-ctx.Done():
			err = ctx.Err()
		case <-v.closed:
			err = ErrClosed
		}
		if stop(); err != nil {
			return err
		}
	}
}

// feedAfter returns the records that changed after o.since, at most watchBatch,
// and the revision to go on after. It notes when they expire or become
// available.
func (v *Vault) feedAfter(namespace string, o selection, times *moments) (out []*Record, last Revision, err error) {
	last = o.since
	var tag keys.Tag
	if namespace != "" {
		tag = v.keys.tag(namespace)
	}
	now := millis(v.conf.Now())
	err = v.view(func(s *state) error {
		seen := 0
		return s.feed.Scan(localKey(uint64(o.since)+1), func(k, b []byte) (bool, error) {
			last = Revision(be.Uint64(k))
			seen++
			key := recordKey(b)
			if namespace == "" || key.tag() == tag {
				rec, err := s.event(key, o.prefix, now)
				if err == nil {
					err = times.note(s, key, now)
				}
				if err != nil {
					return false, err
				}
				if rec != nil {
					out = append(out, rec)
				}
			}
			return seen < watchBatch, nil
		})
	})
	return out, last, err
}

// event returns a record as it is at a time, nil where it is not to be seen.
func (s *state) event(key recordKey, prefix string, now uint64) (*Record, error) {
	e, err := s.record(key)
	if err != nil || e == nil {
		return nil, err
	}
	if !strings.HasPrefix(e.name, prefix) || strings.HasPrefix(e.name, "\x00") {
		return nil, nil
	}
	namespace := s.namespaceName(key.tag())
	gone := &Record{Namespace: namespace, Name: e.name, Revision: e.rev, Deleted: true, Time: clockTime(e.clock)}
	if e.hidden(now) {
		return gone, nil
	}
	rec, err := s.get(namespace, e)
	if errors.Is(err, ErrNotFound) {
		return gone, nil
	}
	if errors.Is(err, ErrNotUnderstood) {
		return nil, nil
	}
	return rec, err
}
