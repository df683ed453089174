package keys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Every label of the derivation. SPEC.md, "Keys".
//
//	X(prk, label, ctx, n) = HKDF-Expand-SHA256(prk, "kist/v1/" ‖ label ‖ 00 ‖ ctx, n)
const (
	labelPrefix = "kist/v1/"

	saltRoot   = "kist/v1/root"   // root → PRK
	saltDevice = "kist/v1/device" // device seed → PRKd

	labelAuthoritySign = "authority-sign" // PRK → Ed25519 seed
	labelAuthorityAuth = "authority-auth" // PRK → Ed25519 seed
	labelTagSecret     = "tag-secret"     // PRK → tag secret
	labelEpoch         = "epoch"          // PRK, u32 epoch → epoch secret
	labelTag           = "tag"            // tag secret, namespace name → tag, 16 bytes
	labelNamespace     = "namespace"      // epoch secret, tag → namespace secret
	labelSeal          = "seal"           // namespace secret → input key of sealing
	labelSalt          = "salt"           // namespace secret → key of the hedged salts
	labelDeviceSign    = "device-sign"    // PRKd → Ed25519 seed
	labelDeviceAuth    = "device-auth"    // PRKd → Ed25519 seed
	labelDeviceKEM     = "device-kem"     // PRKd → MLKEM768-X25519 private key
	labelLocalStore    = "local-store"    // PRKd → local key
	labelLocal         = "local"          // local key, name of the use → sub-key

	hashVaultID  = "kist/v1/vault-id"  // authority public keys → vault id
	hashDeviceID = "kist/v1/device-id" // device public keys → device id

	signaturePrefix = "kist/v1/sig/" // before every signed message
)

// expand is the function X of SPEC.md.
func expand(prk []byte, label, ctx string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, prk, labelPrefix+label+"\x00"+ctx, n)
	if err != nil {
		panic("keys: internal error: " + err.Error()) // unreachable: n is 16 or 32
	}
	return out
}

func expandSecret(prk []byte, label, ctx string) secret {
	return newSecret([32]byte(expand(prk, label, ctx, 32)))
}

func extract(ikm []byte, salt string) []byte {
	prk, err := hkdf.Extract(sha256.New, ikm, []byte(salt))
	if err != nil {
		panic("keys: internal error: " + err.Error()) // unreachable: the salt is a constant of sufficient length
	}
	return prk
}

func u32(n uint32) string {
	return string(binary.BigEndian.AppendUint32(nil, n))
}

// TagSecret turns the names of namespaces into tags. Devices that may see the
// whole vault hold it; a device admitted to some namespaces does not.
type TagSecret struct{ secret }

// NewTagSecret returns the tag secret with the given bytes, as read from a
// device file or a grant.
func NewTagSecret(b [32]byte) TagSecret { return TagSecret{newSecret(b)} }

// Bytes returns the secret, for a device file or a grant.
func (t TagSecret) Bytes() [32]byte { return [32]byte(t.use()) }

// Equal reports whether both are the same secret, in constant time.
func (t TagSecret) Equal(u TagSecret) bool { return t.equal(u.secret) }

// Tag returns the tag of the namespace with this name. The name is not checked;
// see [ValidNamespace].
func (t TagSecret) Tag(namespace string) Tag {
	return Tag(expand(t.use(), labelTag, namespace, 16))
}

// EpochSecret is the root of all namespace secrets of one epoch.
type EpochSecret struct{ secret }

// NewEpochSecret returns the epoch secret with the given bytes.
func NewEpochSecret(b [32]byte) EpochSecret { return EpochSecret{newSecret(b)} }

// Bytes returns the secret, for a device file or a grant.
func (e EpochSecret) Bytes() [32]byte { return [32]byte(e.use()) }

// Equal reports whether both are the same secret, in constant time.
func (e EpochSecret) Equal(f EpochSecret) bool { return e.equal(f.secret) }

// Namespace returns the secret of the namespace with this tag in this epoch.
func (e EpochSecret) Namespace(tag Tag) NamespaceSecret {
	return NamespaceSecret{expandSecret(e.use(), labelNamespace, string(tag[:]))}
}

// Epoch is an epoch's number with its secret.
type Epoch struct {
	Number uint32 // 1, 2, …
	Secret EpochSecret
}

// NamespaceSecret seals the records of one namespace in one epoch.
type NamespaceSecret struct{ secret }

// NewNamespaceSecret returns the namespace secret with the given bytes.
func NewNamespaceSecret(b [32]byte) NamespaceSecret { return NamespaceSecret{newSecret(b)} }

// Bytes returns the secret, for a grant.
func (n NamespaceSecret) Bytes() [32]byte { return [32]byte(n.use()) }

// Equal reports whether both are the same secret, in constant time.
func (n NamespaceSecret) Equal(m NamespaceSecret) bool { return n.equal(m.secret) }

// SealKey returns the input key of sealing. Package seal is its only user.
func (n NamespaceSecret) SealKey() [32]byte {
	return [32]byte(expand(n.use(), labelSeal, "", 32))
}

// SaltKey returns the key of the hedged salts. Package seal is its only user.
func (n NamespaceSecret) SaltKey() [32]byte {
	return [32]byte(expand(n.use(), labelSalt, "", 32))
}

// NamespaceEpoch is a namespace secret with the number of its epoch.
type NamespaceEpoch struct {
	Number uint32 // 1, 2, …
	Secret NamespaceSecret
}

// LocalKey keys what a device stores for itself alone: local indexes and the
// names in them.
type LocalKey struct{ secret }

// NewLocalKey returns the local key with the given bytes, as read from a
// keyring or a test.
func NewLocalKey(b [32]byte) LocalKey { return LocalKey{newSecret(b)} }

// Bytes returns the key.
func (l LocalKey) Bytes() [32]byte { return [32]byte(l.use()) }

// Equal reports whether both are the same key, in constant time.
func (l LocalKey) Equal(m LocalKey) bool { return l.equal(m.secret) }

// Derive returns the sub-key for one use, named by label. Sub-keys of different
// labels are independent of each other.
func (l LocalKey) Derive(label string) [32]byte {
	return [32]byte(expand(l.use(), labelLocal, label, 32))
}

// ControlNamespace is the name of the control log. Apps cannot use it: it is
// not a [ValidNamespace].
const ControlNamespace = "_ctl"

// ErrNamespace is returned for a name that no namespace may have.
var ErrNamespace = errors.New("not a namespace name")

// ValidNamespace returns nil if name can be a namespace of an app:
// [a-z0-9][a-z0-9._-]{0,63}. Otherwise the error wraps [ErrNamespace].
func ValidNamespace(name string) error {
	if len(name) == 0 || len(name) > MaxNamespace {
		return fmt.Errorf("%w: it has %d bytes, not 1 to %d", ErrNamespace, len(name), MaxNamespace)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return fmt.Errorf("%w: %q: use a-z, 0-9 and, not first, '.', '_', '-'", ErrNamespace, name)
		}
	}
	return nil
}
