package keys

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every secret prints, whatever the verb.
const redacted = "[secret]"

var errSecret = errors.New("keys: a secret is not marshalled")

// secret is 32 bytes that must not be printed. It is embedded in every secret
// type and gives it the methods that redact.
//
// The bytes are behind two pointers because fmt cannot call methods on
// unexported fields. It would print an array there, and with a verb that does
// not fit also what a pointer points to; of a pointer to a pointer it prints
// the address.
type secret struct{ p **[32]byte }

func newSecret(b [32]byte) secret {
	p := &b
	return secret{&p}
}

func randomSecret() secret {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return newSecret(b)
}

// use returns the bytes for derivation. They are not to be changed.
func (s secret) use() []byte {
	if s.p == nil {
		panic("keys: internal error: use of an empty secret")
	}
	return (*s.p)[:]
}

func (s secret) equal(t secret) bool {
	return subtle.ConstantTimeCompare(s.use(), t.use()) == 1
}

// IsZero reports whether the secret was never set.
func (s secret) IsZero() bool { return s.p == nil }

// String returns a fixed word.
func (s secret) String() string { return redacted }

// GoString returns a fixed word.
func (s secret) GoString() string { return redacted }

// Format writes a fixed word for every verb.
func (s secret) Format(f fmt.State, verb rune) { io.WriteString(f, redacted) }

// LogValue returns a fixed word.
func (s secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns an error: secrets leave a program only through the key
// file and the device file.
func (s secret) MarshalText() ([]byte, error) { return nil, errSecret }

// MarshalBinary returns an error, like MarshalText.
func (s secret) MarshalBinary() ([]byte, error) { return nil, errSecret }
