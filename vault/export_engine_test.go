package vault

import (
	"errors"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// A Stepper is the engine of a session, without a driver: a test says what comes.
type Stepper struct{ e *engine }

// NewStepper begins a session of the vault.
func NewStepper(v *Vault, full bool, now time.Time) (*Stepper, error) {
	v.held = heldBack{}
	e := &engine{v: v, full: full, now: now}
	_, err := e.bind()
	return &Stepper{e}, err
}

// Acknowledged reports whether the secondary has acknowledged a commit that has not
// come back.
func Acknowledged(v *Vault) (yes bool, err error) {
	err = v.view(func(s *state) error {
		id, err := s.lastAcked()
		yes = id > 0
		return err
	})
	return yes, err
}

// Mark asks whether everything has come.
func (s *Stepper) Mark() { s.e.sendMark() }

// Receive lets the engine take a message and go on as far as it can.
func (s *Stepper) Receive(m wire.Message) error {
	if err := s.e.receive(m); err != nil {
		return err
	}
	return s.Pump()
}

// Pump lets the engine go on.
func (s *Stepper) Pump() error {
	for range 1000 {
		out, err := s.e.pump()
		if err != nil {
			return err
		}
		if len(out) == 0 {
			break
		}
	}
	done, err := s.e.inStep()
	if err != nil {
		return err
	}
	s.e.progress(s.e.state(done))
	return nil
}

// Root returns the size of the vault's log, and the root of its first commits, at
// most as many as upTo.
func Root(v *Vault, upTo uint64) (size uint64, root commitlog.Hash, err error) {
	err = v.view(func(s *state) error {
		size = s.log.Size()
		root, err = s.log.RootAt(min(size, upTo))
		return err
	})
	return size, root, err
}

// CopyDir copies a directory to where nothing is yet.
var CopyDir = simCopy

// UnknownStub is what a session ends with that is held again with own commits in
// full.
var UnknownStub = errUnknownStub

// TakePast verifies commits below the base as a session does that is cut before it
// has looked at what they come to.
func TakePast(v *Vault, items []wire.Item) error {
	return v.update(func(s *state) error {
		past, err := s.tx.Past(bucketLog, true)
		if err != nil {
			return err
		}
		for _, item := range items {
			b, err := commitlog.ParseBundle(item.Data)
			if err != nil {
				return err
			}
			in := &incoming{bundle: b}
			v.openAll([]*incoming{in})
			if err := s.applyPast(past, in); err != nil {
				return err
			}
		}
		return nil
	})
}

// IndexSize counts records and their versions.
func IndexSize(v *Vault) (n int, err error) {
	err = v.view(func(s *state) error {
		count := func(_, _ []byte) (bool, error) { n++; return true, nil }
		return errors.Join(s.records.Scan(nil, count), s.versions.Scan(nil, count), s.feed.Scan(nil, count))
	})
	return n, err
}
