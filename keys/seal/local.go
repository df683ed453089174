package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"log/slog"
)

// LocalSealer seals what a device stores for itself alone: AES-256-GCM with a
// random nonce in front.
//
//	nonce 12 ‖ ciphertext ‖ tag 16
//
// It does not hide lengths, and it is not for more than 2³² seals under one
// key: beyond that a nonce might repeat. Safe for concurrent use.
type LocalSealer struct{ aead *localAEAD }

// localAEAD is behind a pointer, so that it is not printed.
type localAEAD struct{ cipher.AEAD }

// LocalOverhead is the number of bytes that [LocalSealer.Seal] adds.
const LocalOverhead = 12 + 16

// NewLocalSealer returns a sealer with this key, as [keys.LocalKey.Derive]
// makes it for one use.
func NewLocalSealer(key [32]byte) *LocalSealer {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("seal: internal error: " + err.Error()) // unreachable: the key has 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("seal: internal error: " + err.Error()) // unreachable: AES has the block size of GCM
	}
	return &LocalSealer{&localAEAD{aead}}
}

// Seal appends the sealed plaintext to dst. It opens only with the same ad,
// which is not stored: the place where it belongs, so that it cannot be moved.
func (s *LocalSealer) Seal(dst, plaintext, ad []byte) []byte {
	return s.aead.Seal(dst, nil, plaintext, ad)
}

// Open appends the opened plaintext to dst. Every failure is [ErrOpen].
func (s *LocalSealer) Open(dst, sealed, ad []byte) ([]byte, error) {
	dst, err := s.aead.Open(dst, nil, sealed, ad)
	if err != nil {
		return nil, ErrOpen
	}
	return dst, nil
}

// String returns a fixed word. So do GoString, Format and LogValue.
func (s *LocalSealer) String() string { return redactedLocal }

// GoString returns a fixed word.
func (s *LocalSealer) GoString() string { return redactedLocal }

// Format writes a fixed word for every verb.
func (s *LocalSealer) Format(f fmt.State, verb rune) { io.WriteString(f, redactedLocal) }

// LogValue returns a fixed word.
func (s *LocalSealer) LogValue() slog.Value { return slog.StringValue(redactedLocal) }

const redactedLocal = "[local sealer]"
