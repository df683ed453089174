package vault

import (
	"fmt"
	"slices"
)

// A listener tells Config.Conflict of what is in the bucket "raised". The bucket
// has each record once, so that however slow the listener is, nothing piles up,
// and what a crash kept from it is told after the next start.
type listener struct {
	v    *Vault
	work chan struct{} // has one element if there is work
}

// listenBatch bounds how many records are told of before that is noted: each of
// these may be told again after a crash.
const listenBatch = 32

func (l *listener) start(v *Vault) {
	if v.conf.Conflict == nil {
		return
	}
	l.v, l.work = v, make(chan struct{}, 1)
	l.wake()
	go l.run()
}

// wake has the listener look at what was raised.
func (l *listener) wake() {
	select {
	case l.work <- struct{}{}:
	default: // there is no listener, or it will look anyway
	}
}

// run ends when the vault is closed. Close does not wait for it: the listener
// may be slow, or may have closed the vault itself.
func (l *listener) run() {
	for {
		select {
		case <-l.work:
		case <-l.v.closed:
			return
		}
		for more := true; more; {
			var err error
			if more, err = l.tell(); err != nil {
				select {
				case <-l.v.closed:
					return
				default:
				}
				l.v.conf.Logger.Warn("conflicts were not reported", "err", err)
				more = false
			}
		}
	}
}

// tell tells of some records, and reports whether there are more.
func (l *listener) tell() (more bool, err error) {
	type raised struct {
		key recordKey
		why byte
	}
	var batch []raised
	err = l.v.view(func(s *state) error {
		return s.raised.Scan(nil, func(k, b []byte) (bool, error) {
			if len(b) == 1 {
				batch = append(batch, raised{recordKey(k), b[0]})
			}
			return len(batch) < listenBatch, nil
		})
	})
	if err != nil || len(batch) == 0 {
		return false, err
	}
	for _, r := range batch {
		select {
		case <-l.v.closed:
			return false, ErrClosed
		default:
		}
		c, err := l.v.conflict(r.key, true)
		if err != nil {
			l.v.conf.Logger.Warn("a conflict cannot be read", "err", err)
		}
		if c == nil || err != nil {
			continue // it was settled meanwhile
		}
		if r.why&raisedResolver != 0 {
			c.Err = l.v.resolvers.failure(r.key)
		}
		l.call(*c)
	}
	return len(batch) == listenBatch, l.v.update(func(s *state) error {
		for _, r := range batch {
			// What was raised meanwhile for another reason stays.
			if b := s.raised.Get(r.key[:]); len(b) == 1 && b[0] == r.why {
				if err := s.raised.Delete(slices.Clone(r.key[:])); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (l *listener) call(c Conflict) {
	defer func() {
		if p := recover(); p != nil {
			// Its text is the app's, and may hold what a log must not.
			l.v.conf.Logger.Warn("the listener for conflicts panicked", "type", fmt.Sprintf("%T", p))
		}
	}()
	l.v.conf.Conflict(c)
}
