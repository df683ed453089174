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
	head := parseControlHead(s.meta.Get(headKey))
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
		epoch, err := log.EpochAt(log.Size())
		if err != nil {
			return err
		}
		active, err := activeDevices(log)
		if err != nil {
			return err
		}
		if err := head.Follow(st, s.v.keys.vault, log.Authority(), epoch, active, log.Author); err != nil {
			return refuse(err)
		}
		if err := s.applyStatement(log, b.ID, st); err != nil {
			return err
		}
		head = head.Next(p.Value)
	}
	return s.meta.Put(headKey, append(be.AppendUint64(nil, head.Number), head.Hash[:]...))
}

// activeDevices counts the devices that are admitted and not revoked.
func activeDevices(log *store.Log) (n int, err error) {
	err = log.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			n++
		}
		return nil
	})
	return n, err
}

func (s *state) applyStatement(log *store.Log, id commitlog.CommitID, st *commitlog.Statement) error {
	switch st.Kind() {
	case commitlog.StatementAddDevice:
		cert := st.AddDevice.Certificate
		if err := log.SetAuthor(cert.Device, &commitlog.Author{Sign: cert.Sign, Auth: cert.Auth, Scope: cert.Scope}); err != nil {
			return err
		}
		return s.devices.Put(slices.Clone(cert.Device[:]), s.v.keys.local.Seal(nil, []byte(cert.Name), cert.Device[:]))
	case commitlog.StatementRevoke:
		a, err := log.Author(st.Revoke.Device)
		if err != nil {
			return err
		}
		revoked := *a
		revoked.Revoked = id
		return log.SetAuthor(st.Revoke.Device, &revoked)
	}
	return nil
}
