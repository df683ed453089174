package vault

import (
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// control opens and applies the statements of a control commit. None is applied
// that is not whole, understood and in its chain, and nothing after it is.
func (s *state) control(b *commitlog.Bundle) error {
	c := b.Commit
	refuse := func(err error) error {
		return &commitlog.CommitError{ID: b.ID, Err: err}
	}
	if c.Header.Tag != s.v.keys.control {
		return refuse(commitlog.ErrControlFork)
	}
	sealer, err := s.v.keys.sealer(c.Header.Tag, c.Header.Epoch)
	if err != nil {
		return refuse(fmt.Errorf("%w: %v", commitlog.ErrVersion, err))
	}
	head := s.controlHead()
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
		epoch, err := s.epoch()
		if err != nil {
			return err
		}
		active, err := s.activeDevices()
		if err != nil {
			return err
		}
		if err := head.Follow(st, s.v.keys.vault, s.log.Authority(), epoch, active, s.log.Author); err != nil {
			return refuse(err)
		}
		if err := s.applyStatement(b.ID, st); err != nil {
			return err
		}
		head = head.Next(p.Value)
	}
	return s.meta.Put(metaControl, append(be.AppendUint64(nil, head.Number), head.Hash[:]...))
}

// activeDevices counts the devices that are admitted and not revoked.
func (s *state) activeDevices() (n int, err error) {
	err = s.log.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			n++
		}
		return nil
	})
	return n, err
}

func (s *state) applyStatement(id commitlog.CommitID, st *commitlog.Statement) error {
	switch st.Kind() {
	case commitlog.StatementAddDevice:
		cert := st.AddDevice.Certificate
		if err := s.log.SetAuthor(cert.Device, &commitlog.Author{Sign: cert.Sign, Auth: cert.Auth, Scope: cert.Scope}); err != nil {
			return err
		}
		return s.devices.Put(slices.Clone(cert.Device[:]), s.v.keys.local.Seal(nil, []byte(cert.Name), cert.Device[:]))
	case commitlog.StatementRevoke:
		a, err := s.log.Author(st.Revoke.Device)
		if err != nil {
			return err
		}
		revoked := *a
		revoked.Revoked = id
		return s.log.SetAuthor(st.Revoke.Device, &revoked)
	}
	return nil
}
