package vault

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/wire"
)

// enrolled reports whether the verified log admits this device, and
// [ErrRevoked] if it shuts it out.
func (s *state) enrolled() (bool, error) {
	a, err := s.log.Author(s.v.keys.device)
	if err != nil || a == nil {
		return false, err
	}
	if a.Revoked != 0 {
		return true, ErrRevoked
	}
	return true, nil
}

// enrolment returns the control commit that admits this device as the next
// commit of the log, with a genesis statement if the log is empty. It is signed
// once and kept until the log has grown: what was sent is only sent again as it
// was, and a control commit is valid at one place alone.
func (s *state) enrolment(a keys.Authority, now time.Time) (*commitlog.Bundle, error) {
	size := s.log.Size()
	if kept := s.meta.Get(metaEnrol); kept != nil {
		b, err := commitlog.ParseBundle(slices.Clone(kept))
		if err != nil {
			return nil, fmt.Errorf("%w: kept control commit: %v", ErrDamaged, err)
		}
		if b.Commit.Header.SeenSize == size {
			return b, nil
		}
	}
	statements, err := s.admission(a, now, size == 0)
	if err != nil {
		return nil, err
	}
	b, err := s.controlCommit(a, now, statements)
	if err != nil {
		return nil, err
	}
	encoded, _ := b.AppendBinary(nil)
	return b, s.meta.Put(metaEnrol, encoded)
}

// controlCommit returns the next commit of the log, signed by the authority, with
// these statements.
func (s *state) controlCommit(a keys.Authority, now time.Time, statements []*commitlog.Statement) (*commitlog.Bundle, error) {
	size, head := s.log.Size(), s.controlHead()
	epoch, err := s.epoch()
	if err != nil {
		return nil, err
	}
	root, err := s.log.RootAt(size)
	if err != nil {
		return nil, err
	}
	authority, err := s.log.Author(keys.DeviceID{})
	if err != nil {
		return nil, err
	}
	sealer, err := s.v.keys.sealer(s.v.keys.control, epoch)
	if err != nil {
		return nil, err
	}
	b := &commitlog.Bundle{}
	var changes []commitlog.Change
	for _, st := range statements {
		st.Number, st.Previous = head.Number+1, head.Hash
		value, err := st.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		head = head.Next(value)
		blob, err := sealer.Seal(nil, &seal.Payload{Form: seal.FormInline, HLC: tick(now, 0), Value: value})
		if err != nil {
			return nil, err
		}
		b.Blobs = append(b.Blobs, blob)
		changes = append(changes, commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256Sum(blob), BlobSize: uint32(len(blob))})
	}
	b.Commit, err = commitlog.Build(commitlog.Header{
		Kind: commitlog.KindControl, Epoch: epoch, Tag: s.v.keys.control,
		Seq: authority.LastSeq + 1, PrevLeaf: authority.LastLeaf, SeenSize: size, SeenRoot: root,
	}, changes, func(m []byte) [64]byte { return a.Sign.Sign(keys.PurposeControl, s.v.keys.vault, m) })
	return b, err
}

// admission returns the statements that admit this device, which are not numbered yet.
func (s *state) admission(a keys.Authority, now time.Time, genesis bool) (out []*commitlog.Statement, err error) {
	if genesis {
		g := &commitlog.Genesis{Vault: s.v.keys.vault, Authority: a.Public(), Created: millis(now)}
		out = append(out, &commitlog.Statement{Genesis: g})
	}
	cert, err := keys.NewCertificate(a, s.v.keys.own, s.deviceName(s.v.keys.device), nil, now)
	if err != nil {
		return nil, err
	}
	grant, err := seal.SealGrant(s.v.keys.own.Public().KEM, s.v.keys.vault, s.v.keys.device,
		&seal.Grant{TagSecret: &s.v.device.TagSecret, Epochs: s.v.device.Epochs})
	if err != nil {
		return nil, err
	}
	return append(out, &commitlog.Statement{AddDevice: &commitlog.AddDevice{Certificate: cert, Grant: grant}}), nil
}

// Enrolled reports whether the verified log admits this device. Where it has
// shut it out again, the error is [ErrRevoked].
func (v *Vault) Enrolled() (ok bool, err error) {
	err = v.view(func(s *state) error {
		ok, err = s.enrolled()
		return err
	})
	return ok, err
}

// ownerMode is a session of the vault's owner, which admits this device.
type ownerMode struct {
	authority keys.Authority
	now       time.Time
	create    bool // an empty log is to be begun
	floor     *keyfile.Checkpoint
	unmet     error       // not nil: what is below the base is not the floor's log
	refill    *refillMode // not nil: it fills the secondary again, and admits nobody
	merge     *mergeMode  // not nil: it brings two histories together
	move      *moveMode   // not nil: it moves the vault, and admits nobody
	whole     bool        // the whole log, and not from a checkpoint on
	tried     bool        // a control commit was sent …
	at        uint64      // … for a log of this size
}

// pump returns the control commit that admits this device, once for each size
// of the log.
func (o *ownerMode) pump(e *engine) (out []wire.Message, err error) {
	if e.frames > 0 || o.tried && o.at == e.size {
		return nil, nil
	}
	if o.merge != nil {
		return o.merge.pump(e, o)
	}
	if o.move != nil {
		return o.move.pump(e)
	}
	err = e.v.update(func(s *state) error {
		out = nil
		if ok, err := s.enrolled(); ok || err != nil {
			return err
		}
		if err := s.useless(); err != nil {
			return err
		}
		if o.unmet != nil && s.log.Resets(s.log.Size()) > o.floor.Resets {
			return errFloorReset
		}
		if o.unmet != nil {
			return o.unmet
		}
		if err := s.reaches(o.floor); err != nil {
			return err
		}
		if s.log.Size() == 0 && !o.create {
			return &commitlog.CommitError{Err: commitlog.ErrNoGenesis, Reason: "the secondary holds nothing of this vault"}
		}
		b, err := s.enrolment(o.authority, o.now)
		if err != nil {
			return err
		}
		epoch, err := s.epoch()
		if err != nil {
			return err
		}
		pub := e.v.keys.own.Public()
		data, _ := b.AppendBinary(nil)
		size := b.Commit.Header.SeenSize
		out = []wire.Message{&wire.Upload{
			Condition: &size,
			Control: &wire.Control{Epoch: epoch, Devices: []wire.Registration{{
				Device: e.v.keys.device, Sign: pub.Sign, Auth: pub.Auth, KEMHash: sha256.Sum256(pub.KEM),
			}}},
			Items: wire.Cut(data),
		}}
		return nil
	})
	if err == nil && len(out) > 0 {
		o.tried, o.at = true, e.size
		e.frames++
	}
	return out, err
}

// reaches checks the verified log against what was known beforehand: nothing is
// signed on a log that was rolled back to before it, or that is another.
func (s *state) reaches(floor *keyfile.Checkpoint) error {
	if floor == nil {
		return nil
	}
	refuse := func(err error, reason string) error {
		return &commitlog.CommitError{ID: commitlog.CommitID(floor.Size), Err: err, Reason: reason}
	}
	size := s.log.Size()
	root, err := s.log.RootAt(min(floor.Size, size))
	if err != nil {
		return err
	}
	if size < floor.Size || root != commitlog.Hash(floor.Root) {
		met, err := s.meets(floor.Size, commitlog.Hash(floor.Root), floor.Stated)
		switch {
		case err != nil || met:
			return err
		case size < floor.Size:
			return refuse(commitlog.ErrRollback, fmt.Sprintf("the secondary has %d commits, the key file knows of %d", size, floor.Size))
		}
		return refuse(commitlog.ErrFork, "the key file knows another history")
	}
	stated := uint64(0) // statements are never superseded
	err = s.log.EachLive(s.v.keys.control, func(id commitlog.ChangeID) error {
		if uint64(id.Commit) <= floor.Size {
			stated++
		}
		return nil
	})
	if err == nil && stated != floor.Stated {
		err = refuse(commitlog.ErrControlFork, fmt.Sprintf("%d control statements came up to there, the key file knows of %d", stated, floor.Stated))
	}
	return err
}

// answered takes the answer to the control commit. That the log has another
// size by now is no refusal: it is pulled, and the commit signed anew.
func (o *ownerMode) answered(e *engine, u *wire.Uploaded) error {
	for i := range u.Results {
		r := &u.Results[i]
		switch err := r.Err(); {
		case err == nil && uint64(r.ID) != o.at+1: // a control commit is valid at one place alone
			return &commitlog.CommitError{ID: r.ID, Err: commitlog.ErrOwnCommitMissing, Reason: fmt.Sprintf("acknowledged there, and it is for place %d", o.at+1)}
		case err == nil:
			e.need = max(e.need, uint64(r.ID))
		case errors.Is(err, wire.ErrCondition), errors.Is(err, commitlog.ErrOrder), errors.Is(err, commitlog.ErrEquivocation):
			// Another owner was faster.
			e.need = max(e.need, o.at+1)
		default:
			if o.merge != nil {
				return fmt.Errorf("bringing the histories together: %w", err)
			}
			return fmt.Errorf("the control commit of this device: %w", err)
		}
	}
	return nil
}
