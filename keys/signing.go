package keys

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
)

// Purpose says what a signature is for. It is part of what is signed, so that a
// signature made for one purpose is worthless for every other.
type Purpose string

// The purposes. There are no others: signing for an unknown one panics, and no
// signature verifies for it.
const (
	PurposeCommit      Purpose = "commit"            // a device's commit header
	PurposeControl     Purpose = "control"           // the authority's commit header
	PurposeCertificate Purpose = "certificate"       // the authority on a certificate
	PurposeDeviceSign  Purpose = "device-sign-proof" // a device's signing key on its certificate
	PurposeDeviceAuth  Purpose = "device-auth-proof" // a device's auth key on its certificate
	PurposeServerHello Purpose = "server-hello"      // the secondary, before a device names its vault
	PurposeClientAuth  Purpose = "client-auth"       // a device or the owner signing in
	PurposeCheckpoint  Purpose = "checkpoint"        // a device's checkpoint
)

func (p Purpose) known() bool {
	switch p {
	case PurposeCommit, PurposeControl, PurposeCertificate, PurposeDeviceSign,
		PurposeDeviceAuth, PurposeServerHello, PurposeClientAuth, PurposeCheckpoint:
		return true
	}
	return false
}

// signed returns the bytes that a signature covers:
//
//	"kist/v1/sig/" ‖ purpose ‖ 00 ‖ vault_id ‖ message
func signed(p Purpose, vault VaultID, message []byte) []byte {
	b := make([]byte, 0, len(signaturePrefix)+len(p)+1+len(vault)+len(message))
	b = append(b, signaturePrefix...)
	b = append(b, p...)
	b = append(b, 0)
	b = append(b, vault[:]...)
	return append(b, message...)
}

// SignatureSize is the length of a signature in bytes.
const SignatureSize = ed25519.SignatureSize

// signing is an Ed25519 key: its seed, and what Ed25519 expands it to.
type signing struct {
	secret
	expanded **ed25519.PrivateKey // two pointers, as in secret
}

func newSigning(seed secret) signing {
	private := ed25519.NewKeyFromSeed(seed.use())
	p := &private
	return signing{seed, &p}
}

// SigningKey is an Ed25519 private key.
type SigningKey struct{ signing }

// NewSigningKey returns the key with the given seed.
func NewSigningKey(seed [32]byte) SigningKey { return SigningKey{newSigning(newSecret(seed))} }

// GenerateSigningKey returns a fresh key.
func GenerateSigningKey() SigningKey { return SigningKey{newSigning(randomSecret())} }

// Seed returns the seed, for storing the key.
func (k SigningKey) Seed() [32]byte { return [32]byte(k.use()) }

// Equal reports whether both are the same key, in constant time.
func (k SigningKey) Equal(l SigningKey) bool { return k.equal(l.secret) }

// Public returns the verify key.
func (k SigningKey) Public() VerifyKey {
	return VerifyKey(k.private().Public().(ed25519.PublicKey))
}

// Sign signs message for one purpose and one vault. vault is zero where no
// vault is named yet.
func (k SigningKey) Sign(p Purpose, vault VaultID, message []byte) [SignatureSize]byte {
	if !p.known() {
		panic("keys: internal error: signing for an unknown purpose")
	}
	return [SignatureSize]byte(ed25519.Sign(k.private(), signed(p, vault, message)))
}

func (k SigningKey) private() ed25519.PrivateKey {
	if k.expanded == nil {
		panic("keys: internal error: use of an empty signing key")
	}
	return **k.expanded
}

// VerifyKey is an Ed25519 public key.
type VerifyKey [32]byte

// ErrVerifyKey is returned for text or bytes that are not a usable public key.
var ErrVerifyKey = errors.New("not a verify key")

// verifyKeyText is base64url without padding, with no freedom in the last
// character.
var verifyKeyText = base64.RawURLEncoding.Strict()

// ParseVerifyKey parses the text form that String gives, and refuses a key that
// is not [VerifyKey.Valid].
func ParseVerifyKey(s string) (VerifyKey, error) {
	if len(s) != verifyKeyText.EncodedLen(32) {
		return VerifyKey{}, ErrVerifyKey
	}
	b, err := verifyKeyText.DecodeString(s)
	if err != nil || len(b) != 32 { // the decoder skips line breaks, which leaves fewer bytes
		return VerifyKey{}, ErrVerifyKey
	}
	k := VerifyKey(b)
	if !k.Valid() {
		return VerifyKey{}, ErrVerifyKey
	}
	return k, nil
}

// String returns the key in base64url, 43 characters.
func (k VerifyKey) String() string { return verifyKeyText.EncodeToString(k[:]) }

// MarshalText returns the text form of String.
func (k VerifyKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText parses what [ParseVerifyKey] accepts.
func (k *VerifyKey) UnmarshalText(text []byte) error {
	l, err := ParseVerifyKey(string(text))
	if err != nil {
		return err
	}
	*k = l
	return nil
}

// IsZero reports whether the key was never set.
func (k VerifyKey) IsZero() bool { return k == VerifyKey{} }

// Verify reports whether sig is this key's signature of message for this
// purpose and vault.
func (k VerifyKey) Verify(p Purpose, vault VaultID, message, sig []byte) bool {
	if !p.known() || len(sig) != SignatureSize {
		return false
	}
	return ed25519.Verify(k[:], signed(p, vault, message), sig)
}
