package vault

import "errors"

// write runs fn, which writes records, in a transaction. While a session is in
// step, the same transaction signs what fn wrote, so that the change can go out
// at once: a second transaction for that would cost what the first did. While a
// commit is under way nothing is signed, and what is written then goes into the
// next together; while a serialised transaction waits for its place, the same.
func (v *Vault) write(fn func(*state) error) error {
	if !v.prompt.Load() || v.hold.Load() {
		return v.update(fn)
	}
	err := v.update(func(s *state) error {
		if err := fn(s); err != nil {
			return err
		}
		if !s.sent.Empty() {
			return nil
		}
		if _, err := s.build(buildBytes); err != nil {
			return notSigned{err}
		}
		return nil
	})
	if errors.As(err, new(notSigned)) {
		// What stands in the way of signing is the session's to find, and does
		// not keep the device from writing.
		return v.update(fn)
	}
	return err
}

// notSigned is an error of signing what could be written.
type notSigned struct{ error }

func (e notSigned) Unwrap() error { return e.error }
