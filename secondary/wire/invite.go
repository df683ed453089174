package wire

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/kistvault/kist/internal/bech32"
	"github.com/kistvault/kist/keys"
)

// ErrInviteText: a text that is not an invite.
var ErrInviteText = errors.New("not an invite")

// Token is the secret of an invite: whoever holds it may create a vault. It
// prints as a fixed word.
type Token [16]byte

func (Token) String() string                { return "[secret]" }
func (Token) GoString() string              { return "[secret]" }
func (Token) Format(f fmt.State, verb rune) { io.WriteString(f, "[secret]") }
func (Token) LogValue() slog.Value          { return slog.StringValue("[secret]") }

// Invite says where a secondary is and how to know it, and lets its holder
// create a vault there.
type Invite struct {
	Server  keys.VerifyKey
	Token   Token
	Expires time.Time // whole milliseconds, UTC
	Binding Binding
	URL     string // in the form of [CanonicalURL]
}

// An invite as text is bech32 (BIP-173, without its length limit) with the
// human-readable part inviteHRP, of
//
//	version u8 = 1 ‖ server key 32 ‖ token 16 ‖ expires u64 (Unix ms) ‖ binding u8 ‖ lp16 URL
const (
	inviteHRP     = "kistinvite"
	inviteVersion = 1
	inviteFixed   = 1 + 32 + 16 + 8 + 1 + 2

	// maxExpires is the last time that fits 48 bits of milliseconds, as
	// elsewhere in the formats.
	maxExpires = 1<<48 - 1
)

// String returns the invite as text, which begins with "kistinvite1". It holds
// the token: it is for the person who was invited and for no log.
func (i Invite) String() string {
	b := append(make([]byte, 0, inviteFixed+len(i.URL)), inviteVersion)
	b = append(b, i.Server[:]...)
	b = append(b, i.Token[:]...)
	b = be.AppendUint64(b, uint64(i.Expires.UnixMilli()))
	b = append(b, byte(i.Binding))
	b = be.AppendUint16(b, uint16(len(i.URL)))
	s, err := bech32.Encode(inviteHRP, append(b, i.URL...))
	if err != nil {
		return "[invalid invite]" // the URL is far too long
	}
	return s
}

// ParseInvite parses what String gives. The error wraps [ErrInviteText] and
// shows nothing of the text.
func ParseInvite(s string) (Invite, error) {
	var i Invite
	hrp, b, err := bech32.Decode(s)
	switch {
	case err != nil:
		return i, fmt.Errorf("%w: %v", ErrInviteText, err)
	case hrp != inviteHRP:
		return i, fmt.Errorf("%w: it does not begin with %s1", ErrInviteText, inviteHRP)
	case len(b) == 0 || b[0] != inviteVersion:
		return i, fmt.Errorf("%w of a version that this program knows", ErrInviteText)
	case len(b) < inviteFixed || len(b) != inviteFixed+int(be.Uint16(b[inviteFixed-2:])):
		return i, fmt.Errorf("%w: it has the wrong length", ErrInviteText)
	}
	copy(i.Server[:], b[1:])
	copy(i.Token[:], b[33:])
	expires := be.Uint64(b[49:])
	i.Binding = Binding(b[57])
	i.URL = string(b[inviteFixed:])
	url, err := CanonicalURL(i.URL)
	switch {
	case err != nil || url != i.URL:
		return Invite{}, fmt.Errorf("%w: its address is malformed", ErrInviteText)
	case !i.Server.Valid():
		return Invite{}, fmt.Errorf("%w: its server key is malformed", ErrInviteText)
	case expires > maxExpires:
		return Invite{}, fmt.Errorf("%w: its expiry is malformed", ErrInviteText)
	case i.Binding.check() != nil:
		return Invite{}, fmt.Errorf("%w: its binding is unknown", ErrInviteText)
	}
	i.Expires = time.UnixMilli(int64(expires)).UTC()
	return i, nil
}
