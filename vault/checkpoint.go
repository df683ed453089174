package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
)

// A device whose log is whole posts a checkpoint now and then, for new devices to
// begin with, and looks at those of the others: they may show a fork before a
// commit does, and they are signs of life (SPEC.md, "Checkpoints").

const (
	checkpointTime    = 24 * time.Hour // between two
	checkpointCommits = 1000           // … or so many, and a share of what is live
	checkpointShare   = 4

	staleTime = 7 * 24 * time.Hour
	maxAhead  = 24 * time.Hour // a time further ahead of this device's clock is not believed
)

// checkpointSession is the part of a session that posts a checkpoint and looks at
// another device's.
type checkpointSession struct {
	request uint32 // under way; 0: none
	posted  bool   // nothing more is posted in this session …
	looked  bool   // … or looked at
	posting *commitlog.Checkpoint
	again   bool             // the newest one was this device's own …
	below   *wire.Checkpoint // … and this asks for the one before
}

// A posted checkpoint is remembered as size u64 ‖ time u64 ‖ live changes u64.
type postedCheckpoint struct{ size, time, live uint64 }

func (s *state) postedCheckpoint() (p postedCheckpoint) {
	if b := s.meta.Get(metaPosted); len(b) == 24 {
		p = postedCheckpoint{be.Uint64(b), be.Uint64(b[8:]), be.Uint64(b[16:])}
	}
	return p
}

// checkpointDue reports whether a checkpoint is to be posted.
func (e *engine) checkpointDue(s *state) bool {
	c := &e.checkpoint
	if e.owner != nil || e.errand || e.mode == PullOnly || e.bottom > 0 || c.posted || c.request != 0 || s.log.Size() == 0 {
		return false
	}
	p, now := s.postedCheckpoint(), millis(s.v.conf.Now())
	grown := s.log.Size() - min(p.size, s.log.Size())
	return p.size == 0 || now < p.time || now-p.time >= uint64(checkpointTime.Milliseconds()) ||
		grown > checkpointCommits && grown > p.live/checkpointShare
}

// lookDue reports whether a checkpoint of another device is to be looked at.
func (e *engine) lookDue(s *state) bool {
	c := &e.checkpoint
	if e.owner != nil || e.errand || c.looked || c.request != 0 {
		return false
	}
	last, now := metaTime(s, metaLooked), millis(s.v.conf.Now())
	return now < last || now-last >= uint64(checkpointTime.Milliseconds())
}

func metaTime(s *state, key []byte) uint64 {
	if b := s.meta.Get(key); len(b) == 8 {
		return be.Uint64(b)
	}
	return 0
}

// checkpoints returns what is to be sent about checkpoints, nil if nothing is.
func (e *engine) checkpoints() (out []wire.Message, err error) {
	c := &e.checkpoint
	if c.below != nil {
		out, c.below = []wire.Message{c.below}, nil
		return out, nil
	}
	err = e.v.view(func(s *state) error {
		switch {
		case e.checkpointDue(s):
			made, err := s.makeCheckpoint()
			if errors.Is(err, commitlog.ErrLimit) {
				c.posted = true // there are too many namespaces for one
				return nil
			}
			if err != nil {
				return err
			}
			c.posting = made
			e.request++
			c.request = e.request
			out = []wire.Message{&wire.Checkpoint{Request: c.request, Data: made.Raw}}
		case e.lookDue(s):
			e.request++
			c.request = e.request
			out = []wire.Message{&wire.Checkpoint{Request: c.request}}
		}
		return nil
	})
	return out, err
}

// makeCheckpoint signs what the log comes to.
func (s *state) makeCheckpoint() (*commitlog.Checkpoint, error) {
	c, err := s.log.Comes(s.log.Size())
	if err != nil {
		return nil, err
	}
	c.Device, c.Time, c.Control = s.v.keys.device, millis(s.v.conf.Now()), s.controlHead()
	return c, c.Sign(func(m []byte) [64]byte { return s.v.keys.own.Sign.Sign(keys.PurposeCheckpoint, s.v.keys.vault, m) })
}

func (e *engine) onCheckpoint(m *wire.Checkpoint) error {
	c := &e.checkpoint
	switch {
	case e.base != nil:
		return e.onBase(m)
	case c.request == 0 || m.Request != c.request:
		return fmt.Errorf("%w: CHECKPOINT that was not asked for", wire.ErrProtocol)
	}
	c.request = 0
	if made := c.posting; made != nil {
		c.posting, c.posted = nil, true
		if len(m.Data) > 0 {
			return fmt.Errorf("%w: a checkpoint in answer to one", wire.ErrProtocol)
		}
		live, _ := made.Live()
		return e.v.update(func(s *state) error {
			b := be.AppendUint64(be.AppendUint64(nil, made.Size), made.Time)
			return s.meta.Put(metaPosted, be.AppendUint64(b, live))
		})
	}
	return e.onLook(m)
}

// onLook takes the newest checkpoint that the secondary has. If it is this
// device's own, it asks for the one before.
func (e *engine) onLook(m *wire.Checkpoint) error {
	c := &e.checkpoint
	c.looked = true
	now := millis(e.v.conf.Now())
	looked := func(s *state) error {
		if s.meta.Get(metaHeard) == nil { // its time begins to count
			if err := s.meta.Put(metaHeard, be.AppendUint64(nil, now)); err != nil {
				return err
			}
		}
		return s.meta.Put(metaLooked, be.AppendUint64(nil, now))
	}
	if len(m.Data) == 0 {
		return e.v.update(looked)
	}
	refuse := func(err error, reason string) error {
		return &commitlog.CommitError{ID: commitlog.CommitID(m.Size), Err: err, Reason: reason}
	}
	other, err := commitlog.ParseCheckpoint(m.Data)
	if err == nil && other.Vault != e.v.keys.vault {
		err = commitlog.ErrVaultIDMismatch
	}
	if err != nil {
		return refuse(err, "a checkpoint that the secondary serves")
	}
	if other.Device == e.v.keys.device {
		if c.again {
			return fmt.Errorf("%w: this device's checkpoint again", wire.ErrProtocol)
		}
		c.again = true
		e.request++
		c.request = e.request
		c.below = &wire.Checkpoint{Request: c.request, Size: other.Size, Device: other.Device}
		return nil
	}
	err = e.v.view(func(s *state) error {
		author, err := s.log.Author(other.Device)
		switch {
		case err != nil:
			return err
		case author == nil && other.Size > s.log.Size():
			return nil // it is newer than what is known here
		case author == nil:
			return refuse(commitlog.ErrUnknownSigner, "of a checkpoint")
		case !other.Verify(author.Sign):
			return refuse(commitlog.ErrSignature, "of a checkpoint")
		case other.Size > s.log.Size() || e.bottom > 0:
			return nil
		}
		own, err := s.log.Comes(other.Size)
		if err != nil {
			return err
		}
		if own.Control, err = s.controlAt(other.Size); err != nil {
			return err
		}
		if err := other.Same(own); err != nil {
			return fmt.Errorf("device %s says otherwise: %w", s.deviceName(other.Device), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.v.update(func(s *state) error {
		if err := s.heardOf(other.Time); err != nil {
			return err
		}
		return looked(s)
	})
}

// controlAt returns the head of the control log after size commits.
func (s *state) controlAt(size uint64) (h commitlog.ControlHead, err error) {
	var last commitlog.ChangeID
	err = s.log.EachLive(s.v.keys.control, func(id commitlog.ChangeID) error {
		if uint64(id.Commit) <= size {
			h.Number++
			last = id
		}
		return nil
	})
	if err != nil || h.Number == 0 {
		return h, err
	}
	head, err := s.openChange(last)
	if err == nil && head == nil {
		err = fmt.Errorf("%w: a control statement does not open", ErrDamaged)
	}
	if err == nil {
		h = commitlog.ControlHead{Number: h.Number - 1}.Next(head.payload.Value)
	}
	return h, err
}

// heardOf takes the time of something that another device has signed.
func (s *state) heardOf(time uint64) error {
	if now := millis(s.v.conf.Now()); time > now+uint64(maxAhead.Milliseconds()) || time <= metaTime(s, metaHeard) {
		return nil
	}
	return s.meta.Put(metaHeard, be.AppendUint64(nil, time))
}

// Floor returns what a device that begins anew can be told of the log: nil where
// there is none, or where it began at a checkpoint and is not verified below.
func (v *Vault) Floor(ctx context.Context) (f *keyfile.Checkpoint, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = v.view(func(s *state) error {
		f = nil
		size := s.log.Size()
		if size == 0 || s.log.Base() != 0 {
			return nil
		}
		root, err := s.log.RootAt(size)
		f = &keyfile.Checkpoint{Size: size, Root: root, Resets: s.log.Resets(size), Stated: s.controlHead().Number}
		return err
	})
	return f, err
}
