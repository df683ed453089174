package vault

import (
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// control opens and applies the statements of a control commit. None is applied
// that is not whole, understood and in its chain, and nothing after it is.
// log is that in use, or the one below the base, head the key of its head.
func (s *state) control(log *store.Log, headKey []byte, b *commitlog.Bundle) error {
	var statements []*commitlog.Statement
	head, err := s.v.keys.follow(log, parseControlHead(s.meta.Get(headKey)), b, func(st *commitlog.Statement) error {
		statements = append(statements, st)
		if st.Kind() != commitlog.StatementAddDevice {
			return nil
		}
		cert := st.AddDevice.Certificate
		return s.devices.Put(slices.Clone(cert.Device[:]), s.v.keys.local.Seal(nil, []byte(cert.Name), cert.Device[:]))
	})
	if err != nil {
		return err
	}
	if err := s.meta.Put(headKey, append(be.AppendUint64(nil, head.Number), head.Hash[:]...)); err != nil || log != s.log {
		return err
	}
	lost, err := lostBy(statements)
	if err != nil || len(lost) == 0 {
		return err
	}
	return s.afterReset(lost)
}

// A controlled is what control statements change: a log, or the replay of one.
type controlled interface {
	Size() uint64
	Authority() keys.AuthorityKeys
	EpochAt(size uint64) (uint32, error)
	Author(id keys.DeviceID) (*commitlog.Author, error)
	SetAuthor(id keys.DeviceID, a *commitlog.Author) error
	Authors(fn func(id keys.DeviceID, a *commitlog.Author) error) error
	AddReset(id commitlog.CommitID) error
}

// follow applies the statements of a control commit, which l holds already, to it,
// and returns the head of the control log behind it. each is called with each.
func (k *keyring) follow(l controlled, head commitlog.ControlHead, b *commitlog.Bundle, each func(*commitlog.Statement) error) (commitlog.ControlHead, error) {
	c := b.Commit
	refuse := func(err error) (commitlog.ControlHead, error) {
		return head, &commitlog.CommitError{ID: b.ID, Err: err}
	}
	if c.Header.Tag != k.control {
		return refuse(commitlog.ErrControlFork)
	}
	sealer, err := k.sealer(c.Header.Tag, c.Header.Epoch)
	if err != nil {
		return refuse(fmt.Errorf("%w: %v", commitlog.ErrVersion, err))
	}
	var open *commitlog.LostLog // a reset whose next part has to come
	for i, blob := range b.Blobs {
		if blob == nil {
			return refuse(fmt.Errorf("%w: content of a control statement", commitlog.ErrOmission))
		}
		p, err := sealer.Open(blob)
		if err != nil {
			return refuse(fmt.Errorf("%w: statement %d does not open", commitlog.ErrControlFork, i))
		}
		if p.Form != seal.FormInline || p.Name != "" || p.ContentType != "" {
			return refuse(fmt.Errorf("%w: statement of form %d, or with a name", commitlog.ErrVersion, p.Form))
		}
		st, err := commitlog.ParseStatement(p.Value)
		if err != nil {
			return refuse(err)
		}
		if open, err = goesOn(open, st); err != nil {
			return refuse(err)
		}
		epoch, err := l.EpochAt(l.Size())
		if err != nil {
			return head, err
		}
		active, err := activeDevices(l)
		if err != nil {
			return head, err
		}
		if err := head.Follow(st, k.vault, l.Authority(), epoch, active, l.Author); err != nil {
			return refuse(err)
		}
		if err := applyStatement(l, b.ID, st); err != nil {
			return head, err
		}
		if err := each(st); err != nil {
			return head, err
		}
		head = head.Next(p.Value)
	}
	if open != nil {
		return refuse(fmt.Errorf("%w: a reset that does not end", commitlog.ErrControlFork))
	}
	return head, nil
}

// goesOn checks that a reset in several statements goes on, and returns what has
// come of one that has not ended.
func goesOn(open *commitlog.LostLog, st *commitlog.Statement) (*commitlog.LostLog, error) {
	switch {
	case st.Reset == nil && open != nil:
		return nil, fmt.Errorf("%w: a reset that does not end", commitlog.ErrControlFork)
	case st.Reset == nil:
		return nil, nil
	case open == nil:
		open = &commitlog.LostLog{}
	}
	if err := open.Add(st.Reset); err != nil || !st.Reset.More {
		return nil, err
	}
	return open, nil
}

// activeDevices counts the devices that are admitted and not revoked.
func activeDevices(l controlled) (n int, err error) {
	err = l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			n++
		}
		return nil
	})
	return n, err
}

func applyStatement(l controlled, id commitlog.CommitID, st *commitlog.Statement) error {
	switch st.Kind() {
	case commitlog.StatementAddDevice:
		cert := st.AddDevice.Certificate
		return l.SetAuthor(cert.Device, &commitlog.Author{Sign: cert.Sign, Auth: cert.Auth, Scope: cert.Scope})
	case commitlog.StatementRevoke:
		a, err := l.Author(st.Revoke.Device)
		if err != nil {
			return err
		}
		revoked := *a
		revoked.Revoked = id
		return l.SetAuthor(st.Revoke.Device, &revoked)
	case commitlog.StatementReset:
		if !st.Reset.More {
			return l.AddReset(id)
		}
	}
	return nil
}
