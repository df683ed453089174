package commitlog

import (
	"fmt"
	"strings"
)

// maxMoveURL is the length of the address in a move: what a key file and a device
// file take.
const maxMoveURL = 255

// check returns an error unless a device can go to the secondary that is named.
func (m *Move) check() error {
	bad := func(what string, args ...any) error {
		return fmt.Errorf("%w: move: %s", ErrMalformed, fmt.Sprintf(what, args...))
	}
	if !m.ServerKey.Valid() {
		return bad("key %x", m.ServerKey[:])
	}
	if len(m.URL) > maxMoveURL {
		return bad("address of %d bytes", len(m.URL))
	}
	for i := range len(m.URL) {
		if c := m.URL[i]; c <= ' ' || c > '~' {
			return bad("address %q", m.URL)
		}
	}
	scheme, rest, ok := strings.Cut(m.URL, "://")
	switch {
	case !ok || rest == "" || rest[0] == '/':
		return bad("address %q", m.URL)
	case scheme != "ws" && scheme != "wss":
		return fmt.Errorf("%w: move: address %q", ErrVersion, m.URL)
	}
	return nil
}
