package seal

import (
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"fmt"

	"github.com/kistvault/kist/keys"
)

// Grant is what the authority hands to a device so that it can read: secrets
// sealed for the device's KEM key, inside a signed statement of the control
// log. It is of one of two kinds, and the other kind's fields are empty.
//
//	Len      Field
//	1        kind = 1: the whole vault
//	32       tag secret
//	2        number of epochs, 1…
//	n × 36   u32 epoch, epoch secret 32; epochs strictly ascending
//
//	1        kind = 2: some namespaces
//	2        number of namespaces, 1…
//	m ×      tag 16; u16 number of epochs, 1…; n × (u32 epoch, namespace secret 32);
//	         tags and epochs strictly ascending
//
// The sealed form is HPKE in base mode (RFC 9180) with the KEM MLKEM768-X25519,
// HKDF-SHA256 and AES-256-GCM, without associated data:
//
//	info = "kist/v1/grant" ‖ 00 ‖ vault id ‖ device id
//
//	Pos   Len  Field
//	0     1120 encapsulated key
//	1120  …    ciphertext, with its tag of 16 bytes
//
// See SPEC.md, "Grants".
type Grant struct {
	TagSecret *keys.TagSecret // the whole vault; nil: some namespaces
	Epochs    []keys.Epoch    // the whole vault

	Namespaces []NamespaceGrant // some namespaces, strictly ascending by tag
}

// NamespaceGrant is what a device gets for one namespace.
type NamespaceGrant struct {
	Tag    keys.Tag
	Epochs []keys.NamespaceEpoch // strictly ascending by number
}

const (
	grantVault      = 1
	grantNamespaces = 2

	infoGrant = "kist/v1/grant\x00"

	encapsulatedSize = 1120 // MLKEM768-X25519
	grantOverhead    = encapsulatedSize + 16
)

func grantInfo(vault keys.VaultID, device keys.DeviceID) []byte {
	b := append([]byte(infoGrant), vault[:]...)
	return append(b, device[:]...)
}

// SealGrant seals g for the device whose KEM public key is pub. It returns an
// error wrapping [ErrPayload] if g is of no kind or not in order, and one
// wrapping [ErrLimit] if it is longer than [MaxGrant].
func SealGrant(pub []byte, vault keys.VaultID, device keys.DeviceID, g *Grant) ([]byte, error) {
	plain, err := g.marshal()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if len(plain)+grantOverhead > MaxGrant {
		return nil, fmt.Errorf("%w: grant of %d bytes, at most %d", ErrLimit, len(plain)+grantOverhead, MaxGrant)
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("sealing grant: %w: unusable KEM key", ErrPayload)
	}
	b, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), grantInfo(vault, device), plain)
	if err != nil {
		return nil, fmt.Errorf("sealing grant: %w", err)
	}
	return b, nil
}

// OpenGrant opens a grant with the device's own KEM key. The error is [ErrOpen]
// if it was not sealed for this device of this vault, and wraps [ErrPayload] if
// its content is malformed.
func OpenGrant(priv hpke.PrivateKey, vault keys.VaultID, device keys.DeviceID, b []byte) (*Grant, error) {
	if len(b) < grantOverhead || len(b) > MaxGrant {
		return nil, ErrOpen
	}
	plain, err := hpke.Open(priv, hpke.HKDFSHA256(), hpke.AES256GCM(), grantInfo(vault, device), b)
	if err != nil {
		return nil, ErrOpen
	}
	defer clear(plain)
	return parseGrant(plain)
}

func (g *Grant) marshal() ([]byte, error) {
	var b []byte
	switch {
	case g.TagSecret != nil && len(g.Namespaces) == 0:
		b = append(b, grantVault)
		s := g.TagSecret.Bytes()
		b = append(b, s[:]...)
		if err := checkCount(len(g.Epochs)); err != nil {
			return nil, err
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(g.Epochs)))
		last := uint32(0)
		for _, e := range g.Epochs {
			if err := checkEpoch(&last, e.Number); err != nil {
				return nil, err
			}
			b = binary.BigEndian.AppendUint32(b, e.Number)
			s := e.Secret.Bytes()
			b = append(b, s[:]...)
		}
	case g.TagSecret == nil && len(g.Epochs) == 0:
		b = append(b, grantNamespaces)
		if err := checkCount(len(g.Namespaces)); err != nil {
			return nil, err
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(g.Namespaces)))
		for i, n := range g.Namespaces {
			if i > 0 && bytes.Compare(g.Namespaces[i-1].Tag[:], n.Tag[:]) >= 0 {
				return nil, fmt.Errorf("%w: tags not in ascending order", ErrPayload)
			}
			b = append(b, n.Tag[:]...)
			if err := checkCount(len(n.Epochs)); err != nil {
				return nil, err
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(n.Epochs)))
			last := uint32(0)
			for _, e := range n.Epochs {
				if err := checkEpoch(&last, e.Number); err != nil {
					return nil, err
				}
				b = binary.BigEndian.AppendUint32(b, e.Number)
				s := e.Secret.Bytes()
				b = append(b, s[:]...)
			}
		}
	default:
		return nil, fmt.Errorf("%w: grant of two kinds", ErrPayload)
	}
	return b, nil
}

func checkCount(n int) error {
	if n < 1 || n > 1<<16-1 {
		return fmt.Errorf("%w: grant of %d secrets", ErrPayload, n)
	}
	return nil
}

// checkEpoch checks that an epoch follows the last one, and makes it the last.
func checkEpoch(last *uint32, e uint32) error {
	if e <= *last || e > keys.MaxEpoch {
		return fmt.Errorf("%w: epochs not in ascending order", ErrPayload)
	}
	*last = e
	return nil
}

// parseGrant parses an opened grant. What it accepts marshals to the same
// bytes.
func parseGrant(b []byte) (*Grant, error) {
	r := grantReader{b: b}
	g := new(Grant)
	switch kind := r.take(1)[0]; kind {
	case grantVault:
		s := keys.NewTagSecret([32]byte(r.take(32)))
		g.TagSecret = &s
		for range r.epochs() {
			g.Epochs = append(g.Epochs, keys.Epoch{Number: r.u32(), Secret: keys.NewEpochSecret([32]byte(r.take(32)))})
		}
	case grantNamespaces:
		for range r.u16() {
			if r.short {
				break
			}
			n := NamespaceGrant{Tag: keys.Tag(r.take(16))}
			for range r.epochs() {
				n.Epochs = append(n.Epochs, keys.NamespaceEpoch{Number: r.u32(), Secret: keys.NewNamespaceSecret([32]byte(r.take(32)))})
			}
			g.Namespaces = append(g.Namespaces, n)
		}
	default:
		return nil, fmt.Errorf("%w: grant of kind %d", ErrPayload, kind)
	}
	if r.short || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: grant of wrong length", ErrPayload)
	}
	// Order and counts are checked where they are written.
	again, err := g.marshal()
	if err != nil {
		return nil, err
	}
	clear(again)
	return g, nil
}

// grantReader takes fields off the front of b. After the end it delivers zeros
// and sets short.
type grantReader struct {
	b     []byte
	short bool
	zero  [32]byte
}

func (r *grantReader) take(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return r.zero[:n]
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *grantReader) u16() int    { return int(binary.BigEndian.Uint16(r.take(2))) }
func (r *grantReader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

// epochs returns how many epochs follow, and 0 if there are not the bytes for
// so many.
func (r *grantReader) epochs() int {
	n := r.u16()
	if len(r.b) < n*36 {
		r.short = true
		return 0
	}
	return n
}
