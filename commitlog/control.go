package commitlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/kistvault/kist/keys"
)

// StatementKind is what a control statement says. The numbers are stored.
type StatementKind uint8

const (
	StatementGenesis   StatementKind = 1 // the vault begins
	StatementAddDevice StatementKind = 2 // a device is admitted
	StatementRevoke    StatementKind = 3 // a device is shut out
	StatementRotate    StatementKind = 4 // a new epoch begins
	StatementPolicy    StatementKind = 5 // retention, minimum version
	StatementMove      StatementKind = 6 // another secondary takes over
	StatementReset     StatementKind = 7 // this log goes on, and another one has ended
)

// A Statement is one entry of the control log: what the authority says about
// the vault. Each control commit carries one or more, one a change, sealed.
// Encoded, big-endian:
//
//	version u8 = 1 ‖ kind u8 ‖ number u64 ‖ previous 32 ‖ body
//
// number counts the vault's statements from 1; previous is the SHA-256 of the
// encoded statement before, zeros for the first. Exactly the field of the
// statement's kind is set.
type Statement struct {
	Number   uint64
	Previous Hash

	Genesis   *Genesis
	AddDevice *AddDevice
	Revoke    *Revoke
	Rotate    *Rotate
	Policy    *Policy
	Move      *Move
	Reset     *Reset
}

// Genesis begins a vault: vault id 16 ‖ authority sign key 32 ‖ authority auth
// key 32 ‖ created u64 (Unix ms). Epoch 1 begins with it.
type Genesis struct {
	Vault     keys.VaultID
	Authority keys.AuthorityKeys
	Created   uint64 // Unix ms
}

// AddDevice admits a device: lp16 certificate ‖ lp32 grant. The grant is the
// device's secrets for all epochs so far, sealed to its KEM key.
type AddDevice struct {
	Certificate *keys.Certificate
	Grant       []byte
}

// Revoke shuts a device out from the next commit on: device id 16 ‖ reason u8 ‖
// time u64 (Unix ms). Reasons: 1 retired, 2 lost, 3 stolen or misused.
type Revoke struct {
	Device keys.DeviceID
	Reason uint8
	Time   uint64
}

// Rotate ends the epoch it is sealed in: epoch u32 ‖ n u16 ‖ n × (device id 16 ‖
// lp32 grant), device ids ascending.
type Rotate struct {
	Epoch  uint32 // the new one
	Grants []DeviceGrant
}

// A DeviceGrant is one device's grant in a rotation.
type DeviceGrant struct {
	Device keys.DeviceID
	Grant  []byte
}

// Policy sets rules for the vault: retention u32 (days; 0 the secondary's
// default) ‖ minimum version u16 (of formats; 0 none).
type Policy struct {
	RetentionDays  uint32
	MinimumVersion uint16
}

// Move names the secondary that takes over: server key 32 ‖ lp16 URL ‖ binding u8
// (0 none, 1 exporter). It is the last commit that the old one accepts (SPEC.md,
// "Moves").
type Move struct {
	ServerKey keys.VerifyKey
	URL       string
	Binding   uint8
}

// Kind returns the statement's kind, zero if nothing is set.
func (s *Statement) Kind() StatementKind {
	switch {
	case s.Genesis != nil:
		return StatementGenesis
	case s.AddDevice != nil:
		return StatementAddDevice
	case s.Revoke != nil:
		return StatementRevoke
	case s.Rotate != nil:
		return StatementRotate
	case s.Policy != nil:
		return StatementPolicy
	case s.Move != nil:
		return StatementMove
	case s.Reset != nil:
		return StatementReset
	}
	return 0
}

// AppendBinary appends the encoded statement to dst. It fails where a field is
// too long for its length, or none is set.
func (s *Statement) AppendBinary(dst []byte) ([]byte, error) {
	start := len(dst)
	be := binary.BigEndian
	dst = append(dst, Version, byte(s.Kind()))
	dst = be.AppendUint64(dst, s.Number)
	dst = append(dst, s.Previous[:]...)
	switch s.Kind() {
	case StatementGenesis:
		dst = append(dst, s.Genesis.Vault[:]...)
		dst = append(dst, s.Genesis.Authority.Sign[:]...)
		dst = append(dst, s.Genesis.Authority.Auth[:]...)
		dst = be.AppendUint64(dst, s.Genesis.Created)
	case StatementAddDevice:
		cert, err := s.AddDevice.Certificate.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		if len(cert) > 1<<16-1 {
			return nil, fmt.Errorf("%w: certificate of %d bytes", ErrLimit, len(cert))
		}
		dst = be.AppendUint16(dst, uint16(len(cert)))
		dst = append(dst, cert...)
		dst = be.AppendUint32(dst, uint32(len(s.AddDevice.Grant)))
		dst = append(dst, s.AddDevice.Grant...)
	case StatementRevoke:
		dst = append(dst, s.Revoke.Device[:]...)
		dst = append(dst, s.Revoke.Reason)
		dst = be.AppendUint64(dst, s.Revoke.Time)
	case StatementRotate:
		dst = be.AppendUint32(dst, s.Rotate.Epoch)
		dst = be.AppendUint16(dst, uint16(len(s.Rotate.Grants)))
		for _, g := range s.Rotate.Grants {
			dst = append(dst, g.Device[:]...)
			dst = be.AppendUint32(dst, uint32(len(g.Grant)))
			dst = append(dst, g.Grant...)
		}
	case StatementPolicy:
		dst = be.AppendUint32(dst, s.Policy.RetentionDays)
		dst = be.AppendUint16(dst, s.Policy.MinimumVersion)
	case StatementMove:
		if len(s.Move.URL) > 1<<16-1 {
			return nil, fmt.Errorf("%w: URL of %d bytes", ErrLimit, len(s.Move.URL))
		}
		dst = append(dst, s.Move.ServerKey[:]...)
		dst = be.AppendUint16(dst, uint16(len(s.Move.URL)))
		dst = append(dst, s.Move.URL...)
		dst = append(dst, s.Move.Binding)
	case StatementReset:
		return s.Reset.append(dst)
	default:
		return nil, fmt.Errorf("%w: empty statement", ErrMalformed)
	}
	if n := len(dst) - start; n > MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes", ErrLimit, n)
	}
	return dst, nil
}

// ParseStatement decodes a statement. It returns [ErrVersion] for a version or
// kind that it does not know, [ErrMalformed] or [ErrLimit] for anything that is
// not canonical.
func ParseStatement(b []byte) (*Statement, error) {
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes", ErrLimit, len(b))
	}
	r := reader{b: b}
	if v := r.u8(); r.err == nil && v != Version {
		return nil, fmt.Errorf("%w: statement version %d", ErrVersion, v)
	}
	kind := StatementKind(r.u8())
	s := &Statement{Number: r.u64(), Previous: r.hash()}
	switch kind {
	case StatementGenesis:
		g := &Genesis{}
		r.copy(g.Vault[:])
		r.copy(g.Authority.Sign[:])
		r.copy(g.Authority.Auth[:])
		g.Created = r.u64()
		s.Genesis = g
	case StatementAddDevice:
		cert := r.take(int(r.u16()))
		grant := r.take(int(r.u32()))
		if r.err == nil {
			c, err := keys.ParseCertificate(cert)
			if err != nil {
				return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
			}
			s.AddDevice = &AddDevice{Certificate: c, Grant: bytes.Clone(grant)}
		}
	case StatementRevoke:
		v := &Revoke{}
		r.copy(v.Device[:])
		v.Reason = r.u8()
		v.Time = r.u64()
		if r.err == nil && (v.Reason < 1 || v.Reason > 3) {
			return nil, fmt.Errorf("%w: reason %d", ErrVersion, v.Reason)
		}
		s.Revoke = v
	case StatementRotate:
		v := &Rotate{Epoch: r.u32()}
		n := int(r.u16())
		if n > MaxDevices {
			return nil, fmt.Errorf("%w: %d grants", ErrLimit, n)
		}
		for range n {
			var g DeviceGrant
			r.copy(g.Device[:])
			g.Grant = bytes.Clone(r.take(int(r.u32())))
			if k := len(v.Grants); k > 0 && bytes.Compare(v.Grants[k-1].Device[:], g.Device[:]) >= 0 {
				return nil, fmt.Errorf("%w: grants do not ascend", ErrMalformed)
			}
			v.Grants = append(v.Grants, g)
		}
		s.Rotate = v
	case StatementPolicy:
		s.Policy = &Policy{RetentionDays: r.u32(), MinimumVersion: r.u16()}
	case StatementMove:
		v := &Move{}
		r.copy(v.ServerKey[:])
		v.URL = string(r.take(int(r.u16())))
		v.Binding = r.u8()
		if v.Binding > 1 {
			return nil, fmt.Errorf("%w: binding %d", ErrVersion, v.Binding)
		}
		s.Move = v
	case StatementReset:
		var err error
		if s.Reset, err = parseReset(&r); err != nil {
			return nil, err
		}
	default:
		if r.err == nil {
			return nil, fmt.Errorf("%w: statement kind %d", ErrVersion, kind)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after a statement", ErrMalformed, len(r.b))
	}
	return s, nil
}

// ControlHead is the end of the control log: the number and hash of its newest
// statement. The zero value is the log before genesis.
type ControlHead struct {
	Number uint64
	Hash   Hash
}

// Next returns the head after the statement.
func (c ControlHead) Next(encoded []byte) ControlHead {
	return ControlHead{Number: c.Number + 1, Hash: sha256.Sum256(encoded)}
}

// Follow checks that the statement continues the control log of the vault at
// head c, in a log whose epoch is epoch, with active devices that are not
// revoked, and in which author returns what is known of a device (nil: nothing). It returns [ErrControlFork], [ErrNoGenesis],
// [ErrVaultIDMismatch], [ErrSignature] or [ErrLimit] if not, and [ErrVersion]
// for a statement that is well formed and that this program cannot act on yet.
func (c ControlHead) Follow(s *Statement, vault keys.VaultID, authority keys.AuthorityKeys, epoch uint32, active int, author func(keys.DeviceID) (*Author, error)) error {
	if s.Number != c.Number+1 || s.Previous != c.Hash {
		if c.Number == 0 {
			return fmt.Errorf("%w: the first statement is number %d", ErrNoGenesis, s.Number)
		}
		return fmt.Errorf("%w: statement %d after %d", ErrControlFork, s.Number, c.Number)
	}
	if (s.Number == 1) != (s.Genesis != nil) {
		return fmt.Errorf("%w: statement %d is of kind %d", ErrNoGenesis, s.Number, s.Kind())
	}
	switch s.Kind() {
	case StatementGenesis:
		if s.Genesis.Vault != vault || s.Genesis.Authority != authority {
			return fmt.Errorf("%w: genesis names vault %s", ErrVaultIDMismatch, s.Genesis.Vault)
		}
	case StatementAddDevice:
		cert := s.AddDevice.Certificate
		if err := cert.Verify(vault, authority.Sign); err != nil {
			return fmt.Errorf("%w: certificate of device %s: %v", ErrSignature, cert.Device, err)
		}
		if active >= MaxDevices {
			return fmt.Errorf("%w: %d active devices", ErrLimit, active)
		}
		known, err := author(cert.Device)
		if err != nil {
			return err
		}
		if known != nil {
			return fmt.Errorf("%w: device %s is there already", ErrControlFork, cert.Device)
		}
	case StatementRevoke:
		if s.Revoke.Device.IsZero() {
			return fmt.Errorf("%w: revokes the authority", ErrControlFork)
		}
		known, err := author(s.Revoke.Device)
		if err != nil {
			return err
		}
		if known == nil || known.Revoked != 0 {
			return fmt.Errorf("%w: revokes device %s, which is not active", ErrControlFork, s.Revoke.Device)
		}
	case StatementRotate:
		if s.Rotate.Epoch != epoch+1 {
			return fmt.Errorf("%w: epoch %d after %d", ErrControlFork, s.Rotate.Epoch, epoch)
		}
		return fmt.Errorf("%w: rotation of the epoch", ErrVersion)
	case StatementPolicy:
		if s.Policy.MinimumVersion > Version {
			return fmt.Errorf("%w: the vault asks for version %d, this program has %d", ErrVersion, s.Policy.MinimumVersion, Version)
		}
	case StatementMove:
		return s.Move.check()
	case StatementReset:
	default:
		return fmt.Errorf("%w: control statement of kind %d", ErrVersion, s.Kind())
	}
	return nil
}

// A reader takes fields off the front of b; after an error all are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) { // n < 0: a 32-bit int
		if r.err == nil {
			r.err = fmt.Errorf("%w: ends within a field", ErrMalformed)
		}
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) copy(dst []byte) { copy(dst, r.take(len(dst))) }

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) hash() (h Hash) { r.copy(h[:]); return h }
