package keys

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// crockford is Crockford's base32 alphabet: no I, L, O, U. The bits are packed
// from the front, as in RFC 4648; the last of the 26 characters of a 16-byte
// value holds 3 bits and two zeros.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

const idTextLen = 26 // characters of a 16-byte value in base32

var errIDText = errors.New("not an id: want 26 characters 0-9 A-Z without I, L, O, U")

// VaultID names a vault: a hash of its authority's public keys. It is public.
type VaultID [16]byte

// DeviceID names a device: a hash of its public keys. It is public.
type DeviceID [16]byte

// Tag stands for a namespace wherever the secondary can see it. One namespace
// has one tag for its whole life.
type Tag [16]byte

// ParseVaultID parses the text form of a vault id. It accepts lower case and
// hyphens between characters, because people type it.
func ParseVaultID(s string) (VaultID, error) {
	b, err := parseID(s)
	return VaultID(b), err
}

// ParseDeviceID parses the text form of a device id, as [ParseVaultID] does.
func ParseDeviceID(s string) (DeviceID, error) {
	b, err := parseID(s)
	return DeviceID(b), err
}

// String returns the 26 characters of the id in upper case.
func (v VaultID) String() string { return crockford.EncodeToString(v[:]) }

// String returns the 26 characters of the id in upper case.
func (d DeviceID) String() string { return crockford.EncodeToString(d[:]) }

// String returns the tag in hexadecimal.
func (t Tag) String() string { return hex.EncodeToString(t[:]) }

// Short returns the first eight characters in two groups, such as "7QX4-MM2D":
// enough for a person to tell their vaults apart, not enough to check one.
func (v VaultID) Short() string { return short(v.String()) }

// Short returns the first eight characters in two groups, such as "7QX4-MM2D".
func (d DeviceID) Short() string { return short(d.String()) }

// IsZero reports whether the id is all zeros, which names no vault.
func (v VaultID) IsZero() bool { return v == VaultID{} }

// IsZero reports whether the id is all zeros, which stands for the authority
// in commit headers.
func (d DeviceID) IsZero() bool { return d == DeviceID{} }

// IsZero reports whether the tag is all zeros, which is no namespace's.
func (t Tag) IsZero() bool { return t == Tag{} }

// MarshalText returns the text form of String.
func (v VaultID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText returns the text form of String.
func (d DeviceID) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText returns the text form of String.
func (t Tag) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText parses what [ParseVaultID] accepts.
func (v *VaultID) UnmarshalText(text []byte) error {
	id, err := ParseVaultID(string(text))
	if err != nil {
		return err
	}
	*v = id
	return nil
}

// UnmarshalText parses what [ParseDeviceID] accepts.
func (d *DeviceID) UnmarshalText(text []byte) error {
	id, err := ParseDeviceID(string(text))
	if err != nil {
		return err
	}
	*d = id
	return nil
}

// UnmarshalText parses 32 hexadecimal digits in lower case.
func (t *Tag) UnmarshalText(text []byte) error {
	var tag Tag
	if len(text) != 2*len(tag) {
		return fmt.Errorf("not a tag: %d characters, want %d", len(text), 2*len(tag))
	}
	if _, err := hex.Decode(tag[:], text); err != nil || tag.String() != string(text) {
		return errors.New("not a tag: want hexadecimal digits in lower case")
	}
	*t = tag
	return nil
}

func short(s string) string { return s[:4] + "-" + s[4:8] }

func parseID(s string) (id [16]byte, err error) {
	if len(s) > maxIDText {
		return id, errIDText
	}
	s = strings.ToUpper(strings.ReplaceAll(s, "-", ""))
	if len(s) != idTextLen {
		return id, errIDText
	}
	if _, err := crockford.Decode(id[:], []byte(s)); err != nil {
		return [16]byte{}, errIDText
	}
	if crockford.EncodeToString(id[:]) != s { // bits in the last character that belong to no byte
		return [16]byte{}, errIDText
	}
	return id, nil
}
