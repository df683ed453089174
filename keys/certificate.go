package keys

import (
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Certificate admits a device to a vault. The authority signs it; the device
// proves in it that it holds its two signing keys.
//
//	Len    Field
//	1      version = 1
//	16     vault id
//	16     device id
//	32     signing key of the device
//	32     auth key of the device
//	2      length of the KEM public key = 1216
//	1216   KEM public key
//	1      length of the name, 1…64
//	…      name, UTF-8 without control characters
//	8      time of issue, Unix milliseconds, below 2⁴⁸
//	2      number n of scope entries, 0…1024; 0: everything
//	n × 17 tag 16, access 1 (1 read, 2 read and write); tags strictly ascending
//	64     proof_sign: the signing key over all bytes before it, "device-sign-proof"
//	64     proof_auth: the auth key over the same bytes, "device-auth-proof"
//	64     signature: the authority over all bytes before it, "certificate"
//
// Numbers are big-endian. See SPEC.md, "Certificates".
type Certificate struct {
	Vault      VaultID
	Device     DeviceID
	Sign, Auth VerifyKey
	KEM        []byte       // KEMPublicSize bytes
	Name       string       // the device's name, chosen by its owner
	Scope      []ScopeEntry // strictly ascending by tag; nil: everything, read and write
	Issued     uint64       // Unix milliseconds

	ProofSign, ProofAuth [SignatureSize]byte // by the device
	Signature            [SignatureSize]byte // by the authority
}

// ScopeEntry lets a device read one namespace, and write it if Write is set.
type ScopeEntry struct {
	Tag   Tag
	Write bool
}

const (
	certificateVersion = 1

	accessRead      = 1
	accessReadWrite = 2

	certificateFixed = 1 + 16 + 16 + 32 + 32 + 2 + KEMPublicSize + 1 + 8 + 2 + 3*SignatureSize

	// MaxCertificate is the length of the longest certificate in bytes.
	MaxCertificate = certificateFixed + MaxDeviceName + MaxScope*17
)

// ErrCertificate is returned for bytes that are not a certificate in its one
// form, and wrapped with the reason.
var ErrCertificate = errors.New("not a certificate")

// Errors of [Certificate.Verify]: the certificate has its form and is not good.
var (
	ErrCertificateVault     = errors.New("certificate is for another vault")
	ErrCertificateDevice    = errors.New("certificate names a device that does not have its keys")
	ErrCertificateProof     = errors.New("certificate without proof that the device holds its keys")
	ErrCertificateSignature = errors.New("certificate is not signed by this vault's authority")
)

// ErrDeviceName is returned by [ValidDeviceName].
var ErrDeviceName = errors.New("not a device name")

// ValidDeviceName returns nil if name can stand in a certificate: 1 to 64 bytes
// of UTF-8 without control characters. Otherwise the error wraps
// [ErrDeviceName].
//
// Control characters are those of the two ASCII and Latin-1 blocks, U+0000 to
// U+001F and U+007F to U+009F: a rule that needs no table and so is the same in
// every version of Unicode.
func ValidDeviceName(name string) error {
	if len(name) == 0 || len(name) > MaxDeviceName {
		return fmt.Errorf("%w: it has %d bytes, not 1 to %d", ErrDeviceName, len(name), MaxDeviceName)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%w: it is not UTF-8", ErrDeviceName)
	}
	for _, r := range name {
		if r < 0x20 || 0x7f <= r && r <= 0x9f {
			return fmt.Errorf("%w: it has the control character U+%04X", ErrDeviceName, r)
		}
	}
	return nil
}

// NewCertificate returns a certificate for the device with keys d, with its
// proofs and the authority's signature. A nil scope admits to everything; a
// scope that is empty and not nil is an error, because its encoding would be
// the same. issued is cut to milliseconds.
func NewCertificate(a Authority, d *DeviceKeys, name string, scope []ScopeEntry, issued time.Time) (*Certificate, error) {
	if scope != nil && len(scope) == 0 {
		return nil, fmt.Errorf("%w: the scope is empty; nil means everything", ErrCertificate)
	}
	pub := d.Public()
	c := &Certificate{
		Vault:  a.Public().VaultID(),
		Device: pub.ID(),
		Sign:   pub.Sign,
		Auth:   pub.Auth,
		KEM:    pub.KEM,
		Name:   name,
		Scope:  scope,
		Issued: uint64(issued.UnixMilli()),
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	body := c.appendBody(nil)
	c.ProofSign = d.Sign.Sign(PurposeDeviceSign, c.Vault, body)
	c.ProofAuth = d.Auth.Sign(PurposeDeviceAuth, c.Vault, body)
	c.Signature = a.Sign.Sign(PurposeCertificate, c.Vault, c.appendProofs(body))
	return c, nil
}

// check returns an error if c has a value that no certificate can have.
func (c *Certificate) check() error {
	if !c.Sign.Valid() || !c.Auth.Valid() {
		return fmt.Errorf("%w: unusable verify key", ErrCertificate)
	}
	if len(c.KEM) != KEMPublicSize {
		return fmt.Errorf("%w: KEM key of %d bytes", ErrCertificate, len(c.KEM))
	}
	if err := ValidDeviceName(c.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if c.Issued > maxTime {
		return fmt.Errorf("%w: time of issue out of range", ErrCertificate)
	}
	if len(c.Scope) > MaxScope {
		return fmt.Errorf("%w: %d namespaces in scope, at most %d", ErrCertificate, len(c.Scope), MaxScope)
	}
	for i := 1; i < len(c.Scope); i++ {
		if bytes.Compare(c.Scope[i-1].Tag[:], c.Scope[i].Tag[:]) >= 0 {
			return fmt.Errorf("%w: scope not in ascending order", ErrCertificate)
		}
	}
	return nil
}

func (c *Certificate) appendBody(b []byte) []byte {
	b = append(b, certificateVersion)
	b = append(b, c.Vault[:]...)
	b = append(b, c.Device[:]...)
	b = append(b, c.Sign[:]...)
	b = append(b, c.Auth[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.KEM)))
	b = append(b, c.KEM...)
	b = append(b, byte(len(c.Name)))
	b = append(b, c.Name...)
	b = binary.BigEndian.AppendUint64(b, c.Issued)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Scope)))
	for _, e := range c.Scope {
		b = append(b, e.Tag[:]...)
		if e.Write {
			b = append(b, accessReadWrite)
		} else {
			b = append(b, accessRead)
		}
	}
	return b
}

func (c *Certificate) appendProofs(b []byte) []byte {
	b = append(b, c.ProofSign[:]...)
	return append(b, c.ProofAuth[:]...)
}

// AppendBinary appends the encoding of c to dst. It returns an error if c has a
// value that no certificate can have.
func (c *Certificate) AppendBinary(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return dst, err
	}
	dst = c.appendBody(dst)
	dst = c.appendProofs(dst)
	return append(dst, c.Signature[:]...), nil
}

// ParseCertificate parses an encoded certificate. It checks the form and
// nothing else; see [Certificate.Verify]. What it accepts encodes to the same
// bytes. The result does not share memory with b.
func ParseCertificate(b []byte) (*Certificate, error) {
	if len(b) < certificateFixed+1 || len(b) > MaxCertificate {
		return nil, fmt.Errorf("%w: %d bytes", ErrCertificate, len(b))
	}
	r := reader{b}
	if v := r.u8(); v != certificateVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrCertificate, v, certificateVersion)
	}
	c := &Certificate{
		Vault:  VaultID(r.take(16)),
		Device: DeviceID(r.take(16)),
		Sign:   VerifyKey(r.take(32)),
		Auth:   VerifyKey(r.take(32)),
	}
	if n := r.u16(); n != KEMPublicSize {
		return nil, fmt.Errorf("%w: KEM key of %d bytes", ErrCertificate, n)
	}
	c.KEM = bytes.Clone(r.take(KEMPublicSize))
	// From here on lengths come from b: what is left has to be looked at.
	n := int(r.u8())
	if len(r.b) < n+8+2+3*SignatureSize {
		return nil, fmt.Errorf("%w: cut short", ErrCertificate)
	}
	c.Name = string(r.take(n))
	c.Issued = r.u64()
	n = int(r.u16())
	if len(r.b) != n*17+3*SignatureSize {
		return nil, fmt.Errorf("%w: wrong length", ErrCertificate)
	}
	for range n {
		e := ScopeEntry{Tag: Tag(r.take(16))}
		switch access := r.u8(); access {
		case accessRead:
		case accessReadWrite:
			e.Write = true
		default:
			return nil, fmt.Errorf("%w: access %d", ErrCertificate, access)
		}
		c.Scope = append(c.Scope, e)
	}
	c.ProofSign = [SignatureSize]byte(r.take(SignatureSize))
	c.ProofAuth = [SignatureSize]byte(r.take(SignatureSize))
	c.Signature = [SignatureSize]byte(r.take(SignatureSize))
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// Verify returns nil if c admits its device to this vault: it names the vault,
// its device id is the hash of its keys, the KEM key is one, the device proved
// that it holds its signing keys, and the authority signed all of it.
//
// It does not say that the device was not revoked since; the control log does.
func (c *Certificate) Verify(vault VaultID, authority VerifyKey) error {
	if err := c.check(); err != nil {
		return err
	}
	if _, err := hpke.MLKEM768X25519().NewPublicKey(c.KEM); err != nil {
		return fmt.Errorf("%w: unusable KEM key", ErrCertificate)
	}
	if c.Vault != vault {
		return ErrCertificateVault
	}
	if c.Public().ID() != c.Device {
		return ErrCertificateDevice
	}
	body := c.appendBody(nil)
	if !c.Sign.Verify(PurposeDeviceSign, vault, body, c.ProofSign[:]) ||
		!c.Auth.Verify(PurposeDeviceAuth, vault, body, c.ProofAuth[:]) {
		return ErrCertificateProof
	}
	if !authority.Valid() || !authority.Verify(PurposeCertificate, vault, c.appendProofs(body), c.Signature[:]) {
		return ErrCertificateSignature
	}
	return nil
}

// Public returns the device's public keys.
func (c *Certificate) Public() DevicePublic {
	return DevicePublic{Sign: c.Sign, Auth: c.Auth, KEM: c.KEM}
}

// Unscoped reports whether the certificate admits to the whole vault.
func (c *Certificate) Unscoped() bool { return len(c.Scope) == 0 }

// reader takes fields off the front of b. The caller has looked at the length.
type reader struct{ b []byte }

func (r *reader) take(n int) []byte {
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
