package keys

import (
	"crypto/sha256"
	"errors"

	"github.com/kistvault/kist/internal/bech32"
)

// rootHRP is the human-readable part of a root's text form. Bech32 puts the
// character 1 behind it.
const rootHRP = "KIST-ROOT-"

// Root is the secret that a vault hangs on: who has it has everything. It lives
// in the key file and nowhere else; a device that has been set up works without
// it.
type Root struct{ secret }

// ErrRoot is returned by [ParseRoot]. It never says what the text was.
var ErrRoot = errors.New("not a root: want KIST-ROOT-1 and 58 more characters, with a checksum")

// GenerateRoot returns a fresh root.
func GenerateRoot() Root { return Root{randomSecret()} }

// ParseRoot parses the text form that [Root.Text] gives. Upper case only: there
// is one form.
func ParseRoot(s string) (Root, error) {
	hrp, data, err := bech32.Decode(s)
	if err != nil || hrp != rootHRP || len(data) != 32 {
		return Root{}, ErrRoot
	}
	return Root{newSecret([32]byte(data))}, nil
}

// Text returns the text form of the root, for the key file. It is the only way
// to get the secret out.
func (r Root) Text() string {
	s, err := bech32.Encode(rootHRP, r.use())
	if err != nil {
		panic("keys: internal error: " + err.Error()) // unreachable: a constant and 32 bytes
	}
	return s
}

// Equal reports whether both are the same root, in constant time.
func (r Root) Equal(s Root) bool { return r.equal(s.secret) }

func (r Root) prk() []byte { return extract(r.use(), saltRoot) }

// Authority returns the keys that speak for the vault's owner.
func (r Root) Authority() Authority {
	prk := r.prk()
	return Authority{
		Sign: SigningKey{newSigning(expandSecret(prk, labelAuthoritySign, ""))},
		Auth: SigningKey{newSigning(expandSecret(prk, labelAuthorityAuth, ""))},
	}
}

// VaultID returns the id of the vault that this root opens.
func (r Root) VaultID() VaultID { return r.Authority().Public().VaultID() }

// TagSecret returns the secret behind the tags of the vault's namespaces.
func (r Root) TagSecret() TagSecret {
	return TagSecret{expandSecret(r.prk(), labelTagSecret, "")}
}

// Epoch returns the secret of epoch e, counted from 1.
func (r Root) Epoch(e uint32) EpochSecret {
	if e == 0 || e > MaxEpoch {
		panic("keys: internal error: no such epoch")
	}
	return EpochSecret{expandSecret(r.prk(), labelEpoch, u32(e))}
}

// Authority is the owner's pair of signing keys. Sign makes control commits and
// certificates; Auth signs in at the secondary for what only the owner may do.
type Authority struct{ Sign, Auth SigningKey }

// Public returns the verify keys.
func (a Authority) Public() AuthorityKeys {
	return AuthorityKeys{Sign: a.Sign.Public(), Auth: a.Auth.Public()}
}

// AuthorityKeys are the public keys of a vault's owner.
type AuthorityKeys struct{ Sign, Auth VerifyKey }

// VaultID returns the id of the vault with this authority.
func (k AuthorityKeys) VaultID() VaultID {
	h := sha256.New()
	h.Write([]byte(hashVaultID + "\x00"))
	h.Write(k.Sign[:])
	h.Write(k.Auth[:])
	return VaultID(h.Sum(nil)[:16])
}
