package wire

import (
	"github.com/kistvault/kist/keys"
)

// Binding says how a sign-in is bound to its connection. The numbers are sent,
// and stored in invites.
type Binding uint8

const (
	// BindingNone: TLS ends before the secondary, in a proxy, or there is none.
	// The certificate is checked as usual.
	BindingNone Binding = 0
	// BindingExporter: TLS ends in the secondary, and its exporter is part of
	// what both sides sign. The certificate is not looked at.
	BindingExporter Binding = 1
)

func (b Binding) String() string {
	switch b {
	case BindingNone:
		return "none"
	case BindingExporter:
		return "exporter"
	}
	return "unknown binding"
}

// ParseBinding parses what String gives.
func ParseBinding(s string) (Binding, error) {
	switch s {
	case "none":
		return BindingNone, nil
	case "exporter":
		return BindingExporter, nil
	}
	return 0, malformed("binding %q", s)
}

// Role says as whom a client signs in. The numbers are signed and sent.
type Role uint8

const (
	RoleDevice Role = 1 // a device, with its auth key
	RoleOwner  Role = 2 // the owner, with the authority's auth key
	RoleCreate Role = 3 // the owner of a vault that is to be made; only signed
)

// Hello is the first message of a session: HELLO.
type Hello struct {
	_        struct{} `cbor:",toarray"`
	Proto    uint16
	Nonce    [32]byte
	Audience string // the address that was dialled, in the form of [CanonicalURL]
}

func (*Hello) Type() Type { return TypeHello }

// check leaves Proto alone: a secondary answers another version with ERROR.
func (h *Hello) check() error {
	if url, err := CanonicalURL(h.Audience); err != nil || url != h.Audience {
		return malformed("audience %q", h.Audience)
	}
	return nil
}

// SHello is the secondary's proof: SHELLO. The signature is over
// [Transcript.Bytes], for keys.PurposeServerHello and no vault.
type SHello struct {
	_         struct{} `cbor:",toarray"`
	Server    keys.VerifyKey
	Nonce     [32]byte
	Binding   Binding
	Time      uint64 // the secondary's clock, Unix ms
	Signature [64]byte
}

func (*SHello) Type() Type { return TypeSHello }

func (s *SHello) check() error { return s.Binding.check() }

func (b Binding) check() error {
	if b > BindingExporter {
		return malformed("binding %d", b)
	}
	return nil
}

// Auth signs a device or the owner in: AUTH. The signature is over
// [Transcript.ClientBytes] of role and key, for keys.PurposeClientAuth and the
// vault.
type Auth struct {
	_         struct{} `cbor:",toarray"`
	Vault     keys.VaultID
	Role      Role
	Device    keys.DeviceID // zero for the owner
	Signature [64]byte
}

func (*Auth) Type() Type { return TypeAuth }

func (a *Auth) check() error {
	if a.Role != RoleDevice && a.Role != RoleOwner || (a.Role == RoleOwner) != a.Device.IsZero() {
		return malformed("role %d", a.Role)
	}
	return nil
}

// Create makes the vault of an authority, with an invite, and signs the owner
// in: CREATE. With the invite that made the vault it may be repeated. The
// signature is the authority's auth key's, over [Transcript.ClientBytes] of
// [RoleCreate] and the token, for keys.PurposeClientAuth and the vault.
type Create struct {
	_         struct{} `cbor:",toarray"`
	Token     Token
	Sign      keys.VerifyKey
	Auth      keys.VerifyKey
	Signature [64]byte
}

func (*Create) Type() Type { return TypeCreate }

// Authority returns the keys of the vault's authority.
func (c *Create) Authority() keys.AuthorityKeys {
	return keys.AuthorityKeys{Sign: c.Sign, Auth: c.Auth}
}

func (c *Create) check() error {
	if !c.Sign.Valid() || !c.Auth.Valid() {
		return malformed("unusable authority key")
	}
	return nil
}

// OK says that the client is signed in.
type OK struct {
	_ struct{} `cbor:",toarray"`
}

func (*OK) Type() Type   { return TypeOK }
func (*OK) check() error { return nil }

// Fail refuses a sign-in, and is the session's last message: FAIL. It is the
// same for every reason that would tell who or what exists.
type Fail struct {
	_    struct{} `cbor:",toarray"`
	Code Code     // denied, invite, or revoked once the device has proved itself
}

func (*Fail) Type() Type { return TypeFail }

func (f *Fail) check() error {
	switch f.Code {
	case CodeDenied, CodeInvite, CodeRevoked, CodeSuspended:
		return nil
	}
	return malformed("code %d", f.Code)
}

// Transcript is what sign-in signs: all that both sides said so far, and what
// they share with the connection.
type Transcript struct {
	Audience    string
	Proto       uint16
	ClientNonce [32]byte
	ServerNonce [32]byte
	Server      keys.VerifyKey
	Binding     Binding
	Exporter    []byte // ExporterSize bytes, or none
	Time        uint64 // Unix ms
}

// Bytes returns T1, which the secondary signs:
//
//	lp16 audience ‖ proto u16 ‖ client nonce 32 ‖ server nonce 32 ‖ server key 32 ‖
//	binding u8 ‖ lp16 exporter ‖ time u64
func (t *Transcript) Bytes() []byte {
	b := be.AppendUint16(make([]byte, 0, 2+len(t.Audience)+2+32+32+32+1+2+len(t.Exporter)+8), uint16(len(t.Audience)))
	b = append(b, t.Audience...)
	b = be.AppendUint16(b, t.Proto)
	b = append(b, t.ClientNonce[:]...)
	b = append(b, t.ServerNonce[:]...)
	b = append(b, t.Server[:]...)
	b = append(b, byte(t.Binding))
	b = be.AppendUint16(b, uint16(len(t.Exporter)))
	b = append(b, t.Exporter...)
	return be.AppendUint64(b, t.Time)
}

// ClientBytes returns what the client signs: role u8 ‖ key 16 ‖ T1. The key is
// the device's id, zeros for the owner, or the invite's token.
func (t *Transcript) ClientBytes(role Role, key [16]byte) []byte {
	return append(append([]byte{byte(role)}, key[:]...), t.Bytes()...)
}
