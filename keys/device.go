package keys

import (
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

// KEMPublicSize is the length of a device's KEM public key in bytes.
const KEMPublicSize = 1216 // ML-KEM-768 encapsulation key 1184, X25519 point 32

// DeviceSeed is a device's own secret: all its keys come from it. It never
// leaves the device.
type DeviceSeed struct{ secret }

// GenerateDeviceSeed returns a fresh seed.
func GenerateDeviceSeed() DeviceSeed { return DeviceSeed{randomSecret()} }

// NewDeviceSeed returns the seed with the given bytes, as read from a device
// file.
func NewDeviceSeed(b [32]byte) DeviceSeed { return DeviceSeed{newSecret(b)} }

// Bytes returns the seed, for the device file.
func (s DeviceSeed) Bytes() [32]byte { return [32]byte(s.use()) }

// Equal reports whether both are the same seed, in constant time.
func (s DeviceSeed) Equal(t DeviceSeed) bool { return s.equal(t.secret) }

// Keys derives the device's keys. It returns an error only if the KEM refuses
// the seed, which it does for none.
func (s DeviceSeed) Keys() (*DeviceKeys, error) {
	prk := extract(s.use(), saltDevice)
	kem, err := hpke.MLKEM768X25519().NewPrivateKey(expand(prk, labelDeviceKEM, "", 32))
	if err != nil {
		return nil, fmt.Errorf("deriving device keys: %w", err)
	}
	return &DeviceKeys{
		Sign:  SigningKey{newSigning(expandSecret(prk, labelDeviceSign, ""))},
		Auth:  SigningKey{newSigning(expandSecret(prk, labelDeviceAuth, ""))},
		KEM:   kemKey{&kemBox{kem}},
		Local: LocalKey{expandSecret(prk, labelLocalStore, "")},
	}, nil
}

// DeviceKeys are the keys of one device.
type DeviceKeys struct {
	Sign  SigningKey      // signs commits
	Auth  SigningKey      // signs in at the secondary
	KEM   hpke.PrivateKey // opens grants: MLKEM768-X25519
	Local LocalKey        // local indexes
}

// Public returns the public keys.
func (d *DeviceKeys) Public() DevicePublic {
	return DevicePublic{Sign: d.Sign.Public(), Auth: d.Auth.Public(), KEM: d.KEM.PublicKey().Bytes()}
}

// ID returns the id of the device.
func (d *DeviceKeys) ID() DeviceID { return d.Public().ID() }

// DevicePublic are the public keys of one device.
type DevicePublic struct {
	Sign, Auth VerifyKey
	KEM        []byte // KEMPublicSize bytes
}

// ID returns the id of the device with these keys.
func (d DevicePublic) ID() DeviceID {
	kem := sha256.Sum256(d.KEM)
	h := sha256.New()
	h.Write([]byte(hashDeviceID + "\x00"))
	h.Write(d.Sign[:])
	h.Write(d.Auth[:])
	h.Write(kem[:])
	return DeviceID(h.Sum(nil)[:16])
}

// kemKey is an [hpke.PrivateKey] that does not print itself, as secret does not.
// The standard library's own would.
type kemKey struct{ *kemBox }

type kemBox struct{ hpke.PrivateKey }

func (kemKey) String() string                 { return redacted }
func (kemKey) GoString() string               { return redacted }
func (kemKey) Format(f fmt.State, verb rune)  { io.WriteString(f, redacted) }
func (kemKey) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (kemKey) MarshalText() ([]byte, error)   { return nil, errSecret }
func (kemKey) MarshalBinary() ([]byte, error) { return nil, errSecret }
