package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/bech32"
	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/keys"
)

// x is the function X of SPEC.md, a second time: with its labels written where
// they are used, so that a label changed by mistake is found.
func x(t *testing.T, prk []byte, label string, ctx []byte, n int) []byte {
	t.Helper()
	b, err := hkdf.Expand(sha256.New, prk, "kist/v1/"+label+"\x00"+string(ctx), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func extract(t *testing.T, ikm []byte, salt string) []byte {
	t.Helper()
	b, err := hkdf.Extract(sha256.New, ikm, []byte(salt))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rootOf(t *testing.T, b []byte) keys.Root {
	t.Helper()
	text, err := bech32.Encode("KIST-ROOT-", b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := keys.ParseRoot(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counting returns n bytes that count up from first.
func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func bytesOf(b [32]byte) golden.Hex { return b[:] }

func public(seed []byte) golden.Hex {
	return golden.Hex(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
}

type deriveVectors struct {
	Comment string         `json:"comment"`
	Roots   []rootVector   `json:"roots"`
	Devices []deviceVector `json:"devices"`
}

type rootVector struct {
	Root              golden.Hex        `json:"root"`
	RootText          string            `json:"root_text"`
	PRK               golden.Hex        `json:"prk"`
	AuthoritySignSeed golden.Hex        `json:"authority_sign_seed"`
	AuthoritySign     golden.Hex        `json:"authority_sign"`
	AuthoritySignText string            `json:"authority_sign_text"`
	AuthorityAuthSeed golden.Hex        `json:"authority_auth_seed"`
	AuthorityAuth     golden.Hex        `json:"authority_auth"`
	VaultID           golden.Hex        `json:"vault_id"`
	VaultIDText       string            `json:"vault_id_text"`
	VaultIDShort      string            `json:"vault_id_short"`
	TagSecret         golden.Hex        `json:"tag_secret"`
	Epochs            []epochVector     `json:"epochs"`
	Namespaces        []namespaceVector `json:"namespaces"`
}

type epochVector struct {
	Epoch  uint32     `json:"epoch"`
	Secret golden.Hex `json:"secret"`
}

type namespaceVector struct {
	Name   string     `json:"name"`
	Tag    golden.Hex `json:"tag"`
	Epoch  uint32     `json:"epoch"`
	Secret golden.Hex `json:"secret"`
	Seal   golden.Hex `json:"seal"`
	Salt   golden.Hex `json:"salt"`
}

type deviceVector struct {
	Seed         golden.Hex    `json:"seed"`
	PRK          golden.Hex    `json:"prk"`
	SignSeed     golden.Hex    `json:"sign_seed"`
	Sign         golden.Hex    `json:"sign"`
	AuthSeed     golden.Hex    `json:"auth_seed"`
	Auth         golden.Hex    `json:"auth"`
	KEMPrivate   golden.Hex    `json:"kem_private"`
	KEMPublic    golden.Hex    `json:"kem_public"`
	DeviceID     golden.Hex    `json:"device_id"`
	DeviceIDText string        `json:"device_id_text"`
	LocalKey     golden.Hex    `json:"local_key"`
	Local        []localVector `json:"local"`
}

type localVector struct {
	Label string     `json:"label"`
	Key   golden.Hex `json:"key"`
}

// TestGoldenDerive derives everything twice, with the package and by the
// formulas, and compares both with the vectors.
func TestGoldenDerive(t *testing.T) {
	v := deriveVectors{Comment: "SPEC.md, Keys: every value that comes from a root or a device seed."}
	for _, b := range [][]byte{counting(0, 32), bytes.Repeat([]byte{0xff}, 32)} {
		v.Roots = append(v.Roots, deriveRoot(t, b))
	}
	for _, b := range [][]byte{counting(0x80, 32), bytes.Repeat([]byte{0x5a}, 32)} {
		v.Devices = append(v.Devices, deriveDevice(t, b))
	}
	golden.Check(t, "keys/derive.json", v)
}

func deriveRoot(t *testing.T, b []byte) rootVector {
	t.Helper()
	prk := extract(t, b, "kist/v1/root")
	v := rootVector{
		Root:              b,
		PRK:               prk,
		AuthoritySignSeed: x(t, prk, "authority-sign", nil, 32),
		AuthorityAuthSeed: x(t, prk, "authority-auth", nil, 32),
		TagSecret:         x(t, prk, "tag-secret", nil, 32),
	}
	v.AuthoritySign, v.AuthorityAuth = public(v.AuthoritySignSeed), public(v.AuthorityAuthSeed)
	id := sha256.Sum256([]byte("kist/v1/vault-id\x00" + string(v.AuthoritySign) + string(v.AuthorityAuth)))
	v.VaultID = id[:16]

	root := rootOf(t, b)
	v.RootText = root.Text()
	v.VaultIDText, v.VaultIDShort = root.VaultID().String(), root.VaultID().Short()
	v.AuthoritySignText = root.Authority().Public().Sign.String()
	a := root.Authority()
	same(t, "authority sign seed", bytesOf(a.Sign.Seed()), v.AuthoritySignSeed)
	same(t, "authority auth seed", bytesOf(a.Auth.Seed()), v.AuthorityAuthSeed)
	vault := root.VaultID()
	same(t, "vault id", vault[:], v.VaultID)
	same(t, "tag secret", bytesOf(root.TagSecret().Bytes()), v.TagSecret)

	for _, e := range []uint32{1, 2, 258, keys.MaxEpoch} {
		secret := x(t, prk, "epoch", binary.BigEndian.AppendUint32(nil, e), 32)
		same(t, "epoch secret", bytesOf(root.Epoch(e).Bytes()), secret)
		v.Epochs = append(v.Epochs, epochVector{e, secret})
	}
	for _, name := range []string{"contacts", "_ctl", "org.example.notes"} {
		for i, e := range v.Epochs[:2] {
			n := namespaceVector{Name: name, Epoch: e.Epoch, Tag: x(t, v.TagSecret, "tag", []byte(name), 16)}
			n.Secret = x(t, v.Epochs[i].Secret, "namespace", n.Tag, 32)
			n.Seal = x(t, n.Secret, "seal", nil, 32)
			n.Salt = x(t, n.Secret, "salt", nil, 32)
			tag := root.TagSecret().Tag(name)
			secret := root.Epoch(e.Epoch).Namespace(tag)
			same(t, "tag", tag[:], n.Tag)
			same(t, "namespace secret", bytesOf(secret.Bytes()), n.Secret)
			same(t, "seal key", bytesOf(secret.SealKey()), n.Seal)
			same(t, "salt key", bytesOf(secret.SaltKey()), n.Salt)
			v.Namespaces = append(v.Namespaces, n)
		}
	}
	return v
}

func deriveDevice(t *testing.T, b []byte) deviceVector {
	t.Helper()
	prk := extract(t, b, "kist/v1/device")
	v := deviceVector{
		Seed:       b,
		PRK:        prk,
		SignSeed:   x(t, prk, "device-sign", nil, 32),
		AuthSeed:   x(t, prk, "device-auth", nil, 32),
		KEMPrivate: x(t, prk, "device-kem", nil, 32),
		LocalKey:   x(t, prk, "local-store", nil, 32),
	}
	v.Sign, v.Auth = public(v.SignSeed), public(v.AuthSeed)
	kem, err := hpke.MLKEM768X25519().NewPrivateKey(v.KEMPrivate)
	if err != nil {
		t.Fatal(err)
	}
	v.KEMPublic = kem.PublicKey().Bytes()
	kemHash := sha256.Sum256(v.KEMPublic)
	id := sha256.Sum256([]byte("kist/v1/device-id\x00" + string(v.Sign) + string(v.Auth) + string(kemHash[:])))
	v.DeviceID = id[:16]

	d, err := keys.NewDeviceSeed([32]byte(b)).Keys()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "device sign seed", bytesOf(d.Sign.Seed()), v.SignSeed)
	same(t, "device auth seed", bytesOf(d.Auth.Seed()), v.AuthSeed)
	private, err := d.KEM.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "KEM private key", private, v.KEMPrivate)
	same(t, "KEM public key", d.Public().KEM, v.KEMPublic)
	device := d.ID()
	same(t, "device id", device[:], v.DeviceID)
	v.DeviceIDText = device.String()
	same(t, "local key", bytesOf(d.Local.Bytes()), v.LocalKey)
	for _, label := range []string{"names", "points"} {
		key := x(t, v.LocalKey, "local", []byte(label), 32)
		same(t, "local sub-key", bytesOf(d.Local.Derive(label)), key)
		v.Local = append(v.Local, localVector{label, key})
	}
	return v
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, by the formula %x", what, got, want)
	}
}

type signVectors struct {
	Comment string       `json:"comment"`
	Cases   []signVector `json:"cases"`
}

type signVector struct {
	Name      string     `json:"name"`
	Seed      golden.Hex `json:"seed,omitempty"` // of valid cases
	Public    golden.Hex `json:"public"`
	Purpose   string     `json:"purpose"`
	VaultID   golden.Hex `json:"vault_id"`
	Message   golden.Hex `json:"message"`
	Signature golden.Hex `json:"signature"`
	Expect    string     `json:"expect"` // valid, invalid
}

var purposes = []keys.Purpose{
	keys.PurposeCommit, keys.PurposeControl, keys.PurposeCertificate, keys.PurposeDeviceSign,
	keys.PurposeDeviceAuth, keys.PurposeServerHello, keys.PurposeClientAuth, keys.PurposeCheckpoint,
}

func TestGoldenSign(t *testing.T) {
	v := signVectors{Comment: `SPEC.md, Signatures: Ed25519 over "kist/v1/sig/" ‖ purpose ‖ 00 ‖ vault id ‖ message.`}
	seed := counting(0x20, 32)
	k := keys.NewSigningKey([32]byte(seed))
	pub := k.Public()
	vault := keys.VaultID(counting(0x40, 16))
	message := []byte("message")
	add := func(name, expect string, pub keys.VerifyKey, p string, vault keys.VaultID, message, sig []byte) {
		c := signVector{Name: name, Public: pub[:], Purpose: p, VaultID: vault[:], Message: message, Signature: sig, Expect: expect}
		if expect == "valid" {
			c.Seed = seed
		}
		v.Cases = append(v.Cases, c)
	}
	for _, p := range purposes {
		vault := vault
		if p == keys.PurposeServerHello {
			vault = keys.VaultID{}
		}
		sig := k.Sign(p, vault, message)
		add("purpose "+string(p), "valid", pub, string(p), vault, message, sig[:])
	}
	empty := k.Sign(keys.PurposeCommit, vault, nil)
	add("empty message", "valid", pub, "commit", vault, nil, empty[:])

	sig := k.Sign(keys.PurposeCommit, vault, message)
	add("other purpose", "invalid", pub, "control", vault, message, sig[:])
	add("unknown purpose", "invalid", pub, "commits", vault, message, sig[:])
	add("other vault", "invalid", pub, "commit", keys.VaultID(counting(0x41, 16)), message, sig[:])
	add("other message", "invalid", pub, "commit", vault, []byte("messagf"), sig[:])
	add("other key", "invalid", keys.NewSigningKey([32]byte(counting(0x21, 32))).Public(), "commit", vault, message, sig[:])
	add("cut short", "invalid", pub, "commit", vault, message, sig[:63])
	add("empty", "invalid", pub, "commit", vault, message, nil)
	// The bytes that were signed, moved between purpose, vault and message.
	moved := ed25519.Sign(ed25519.NewKeyFromSeed(seed), append([]byte("kist/v1/sig/commit"), message...))
	add("without separator and vault", "invalid", pub, "commit", vault, message, moved)
	plain := ed25519.Sign(ed25519.NewKeyFromSeed(seed), message)
	add("plain Ed25519", "invalid", pub, "commit", vault, message, plain)

	golden.Check(t, "keys/sign.json", v)
	golden.Load(t, "keys/sign.json", &v)
	for _, c := range v.Cases {
		ok := keys.VerifyKey(c.Public).Verify(keys.Purpose(c.Purpose), keys.VaultID(c.VaultID), c.Message, c.Signature)
		if got := map[bool]string{true: "valid", false: "invalid"}[ok]; got != c.Expect {
			t.Errorf("%s: %s, want %s", c.Name, got, c.Expect)
		}
	}
}

type certificateVectors struct {
	Comment string              `json:"comment"`
	Valid   []certificateVector `json:"valid"`
	Invalid []certificateBroken `json:"invalid"`
}

type certificateVector struct {
	Name        string        `json:"name"`
	Root        golden.Hex    `json:"root"`
	DeviceSeed  golden.Hex    `json:"device_seed"`
	DeviceName  string        `json:"device_name"`
	Issued      uint64        `json:"issued"`
	Scope       []scopeVector `json:"scope"`
	Certificate golden.Hex    `json:"certificate"`
}

type scopeVector struct {
	Tag   golden.Hex `json:"tag"`
	Write bool       `json:"write"`
}

type certificateBroken struct {
	Name          string     `json:"name"`
	Certificate   golden.Hex `json:"certificate"`
	VaultID       golden.Hex `json:"vault_id"`
	AuthoritySign golden.Hex `json:"authority_sign"`
	Expect        string     `json:"expect"` // malformed, vault, device, proof, signature
}

var certificateClass = map[string]error{
	"malformed": keys.ErrCertificate,
	"vault":     keys.ErrCertificateVault,
	"device":    keys.ErrCertificateDevice,
	"proof":     keys.ErrCertificateProof,
	"signature": keys.ErrCertificateSignature,
}

// Offsets in a certificate whose device is called "laptop" and has no scope.
const (
	offVault     = 1
	offDevice    = 17
	offSign      = 33
	offAuth      = 65
	offKEM       = 99
	offName      = offKEM + keys.KEMPublicSize
	offIssued    = offName + 1 + len("laptop")
	offScope     = offIssued + 8
	offProofSign = offScope + 2
	offProofAuth = offProofSign + 64
	offSignature = offProofAuth + 64
	certLen      = offSignature + 64
)

func TestGoldenCertificate(t *testing.T) {
	rootBytes, seed := counting(0, 32), counting(0x80, 32)
	a := rootOf(t, rootBytes).Authority()
	d, err := keys.NewDeviceSeed([32]byte(seed)).Keys()
	if err != nil {
		t.Fatal(err)
	}
	issued := time.UnixMilli(1795193940123)
	v := certificateVectors{Comment: "SPEC.md, Certificates."}
	valid := func(name, device string, scope []keys.ScopeEntry) []byte {
		c, err := keys.NewCertificate(a, d, device, scope, issued)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		cv := certificateVector{Name: name, Root: rootBytes, DeviceSeed: seed, DeviceName: device, Issued: c.Issued, Certificate: b}
		for _, e := range scope {
			cv.Scope = append(cv.Scope, scopeVector{e.Tag[:], e.Write})
		}
		v.Valid = append(v.Valid, cv)
		return b
	}
	good := valid("whole vault", "laptop", nil)
	if len(good) != certLen {
		t.Fatalf("certificate of %d bytes, want %d", len(good), certLen)
	}
	valid("two namespaces", "Ada's phone ☎", []keys.ScopeEntry{{Tag: keys.Tag{1}}, {Tag: keys.Tag{1, 1}, Write: true}})

	vault, authority := a.Public().VaultID(), a.Public().Sign
	broken := func(name, expect string, b []byte) {
		v.Invalid = append(v.Invalid, certificateBroken{name, b, vault[:], authority[:], expect})
	}
	// resigned is a certificate with a changed body that is signed anew by the
	// given keys: for faults that no signature shows.
	resigned := func(change func(c *keys.Certificate), sign, auth, authority keys.SigningKey) []byte {
		c, err := keys.ParseCertificate(good)
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		b, err := c.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		body := b[:offProofSign]
		c.ProofSign = sign.Sign(keys.PurposeDeviceSign, c.Vault, body)
		c.ProofAuth = auth.Sign(keys.PurposeDeviceAuth, c.Vault, body)
		b, _ = c.AppendBinary(nil)
		c.Signature = authority.Sign(keys.PurposeCertificate, c.Vault, b[:offSignature])
		b, _ = c.AppendBinary(nil)
		return b
	}
	edit := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		return b
	}
	flip := func(at int) []byte { return edit(at, good[at]^1) }
	other := keys.NewSigningKey([32]byte(counting(7, 32)))

	broken("empty", "malformed", nil)
	broken("cut short", "malformed", good[:len(good)-1])
	broken("trailing byte", "malformed", append(bytes.Clone(good), 0))
	broken("version 2", "malformed", edit(0, 2))
	broken("KEM key of another length", "malformed", edit(offKEM-2, 0x04, 0xbf))
	broken("empty name", "malformed", append(append(bytes.Clone(good[:offName]), 0), good[offIssued:]...))
	broken("control character in the name", "malformed", edit(offName+1, '\n'))
	broken("name not UTF-8", "malformed", edit(offName+1, 0xff))
	broken("time beyond 48 bits", "malformed", edit(offIssued, 0, 1))
	broken("signing key of small order", "malformed", edit(offSign, append([]byte{1}, make([]byte, 31)...)...))
	broken("scope entry missing", "malformed", edit(offScope, 0, 1))
	scoped := v.Valid[1].Certificate
	n := len(scoped) - 3*64 - 2*17
	swapped := bytes.Clone(scoped)
	copy(swapped[n:], scoped[n+17:n+34])
	copy(swapped[n+17:], scoped[n:n+17])
	broken("scope not ascending", "malformed", swapped)
	noAccess := bytes.Clone(scoped)
	noAccess[n+16] = 3
	broken("unknown access", "malformed", noAccess)

	broken("KEM key that the KEM refuses", "malformed", resigned(func(c *keys.Certificate) {
		copy(c.KEM, bytes.Repeat([]byte{0xff}, 100)) // coefficients over the modulus
		c.Device = c.Public().ID()
	}, d.Sign, d.Auth, a.Sign))

	broken("other vault", "vault", flip(offVault))
	broken("other device id", "device", flip(offDevice))
	broken("other KEM key", "device", flip(offKEM+1200))
	broken("other device id, signed", "device", resigned(func(c *keys.Certificate) { c.Device[0] ^= 1 }, d.Sign, d.Auth, a.Sign))
	broken("name changed", "proof", edit(offName+1, 'L'))
	broken("everything made scoped, signature only", "proof", flip(offProofSign))
	broken("proof of the auth key changed", "proof", flip(offProofAuth))
	broken("proofs by one key", "proof", resigned(func(c *keys.Certificate) {}, d.Sign, d.Sign, a.Sign))
	broken("proof by another key", "proof", resigned(func(c *keys.Certificate) {}, other, d.Auth, a.Sign))
	broken("signature changed", "signature", flip(offSignature))
	broken("signed by the auth key of the authority", "signature", resigned(func(c *keys.Certificate) {}, d.Sign, d.Auth, a.Auth))
	broken("signed by another", "signature", resigned(func(c *keys.Certificate) {}, d.Sign, d.Auth, other))

	golden.Check(t, "keys/certificate.json", v)

	v = certificateVectors{}
	golden.Load(t, "keys/certificate.json", &v)
	for _, c := range v.Valid {
		a := rootOf(t, c.Root).Authority().Public()
		got, err := keys.ParseCertificate(c.Certificate)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if err := got.Verify(a.VaultID(), a.Sign); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if got.Name != c.DeviceName || got.Issued != c.Issued || len(got.Scope) != len(c.Scope) {
			t.Errorf("%s: got %q, %d, %v", c.Name, got.Name, got.Issued, got.Scope)
		}
	}
	for _, c := range v.Invalid {
		got, err := keys.ParseCertificate(c.Certificate)
		if err == nil {
			err = got.Verify(keys.VaultID(c.VaultID), keys.VerifyKey(c.AuthoritySign))
		}
		if !errors.Is(err, certificateClass[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

type textVectors struct {
	Comment string       `json:"comment"`
	Cases   []textVector `json:"cases"`
}

type textVector struct {
	Kind  string     `json:"kind"` // vault-id, verify-key, root, namespace
	Text  string     `json:"text"`
	Value golden.Hex `json:"value,omitempty"`
	Valid bool       `json:"valid"`
	Why   string     `json:"why,omitempty"`
}

func TestGoldenText(t *testing.T) {
	root := rootOf(t, counting(0, 32))
	vault, key := root.VaultID(), root.Authority().Public().Sign
	id, rootText, keyText := vault.String(), root.Text(), key.String()
	replace := func(s string, at int, c byte) string { return s[:at] + string(c) + s[at+1:] }
	v := textVectors{Comment: "SPEC.md, Text forms. value is the bytes of a valid text."}
	add := func(kind, text string, value []byte, why string) {
		v.Cases = append(v.Cases, textVector{kind, text, value, value != nil || kind == "namespace" && why == "", why})
	}
	add("vault-id", id, vault[:], "")
	add("vault-id", string(bytes.ToLower([]byte(id))), vault[:], "")
	add("vault-id", id[:4]+"-"+id[4:8]+"-"+id[8:], vault[:], "")
	add("vault-id", id[:25], nil, "too short")
	add("vault-id", id+"0", nil, "too long")
	add("vault-id", replace(id, 3, 'U'), nil, "U is not in the alphabet")
	add("vault-id", replace(id, 3, 'O'), nil, "O is not in the alphabet")
	add("vault-id", replace(id, 25, '1'), nil, "bits left over in the last character")
	add("vault-id", "", nil, "empty")

	add("verify-key", keyText, key[:], "")
	add("verify-key", keyText[:42], nil, "too short")
	add("verify-key", keyText+"=", nil, "padding")
	add("verify-key", replace(keyText, 42, keyText[42]+1), nil, "bits left over in the last character")
	add("verify-key", replace(keyText, 5, '\n'), nil, "line break")
	add("verify-key", keys.VerifyKey{1}.String(), nil, "small order")
	add("verify-key", keys.VerifyKey{}.String(), nil, "small order")

	add("root", rootText, counting(0, 32), "")
	add("root", string(bytes.ToLower([]byte(rootText))), nil, "lower case")
	add("root", replace(rootText, 11, 'P'), nil, "wrong character")
	add("root", rootText[:len(rootText)-1], nil, "too short")
	other, _ := bech32.Encode("KIST-ROOD-", counting(0, 32))
	add("root", other, nil, "another prefix")
	short, _ := bech32.Encode("KIST-ROOT-", counting(0, 31))
	add("root", short, nil, "31 bytes")

	for _, name := range []string{"contacts", "0", "a.b_c-d", "org.example.notes", string(bytes.Repeat([]byte("n"), 64))} {
		add("namespace", name, nil, "")
	}
	add("namespace", "", nil, "empty")
	add("namespace", "_ctl", nil, "the control log")
	add("namespace", "-a", nil, "begins with a hyphen")
	add("namespace", "Contacts", nil, "upper case")
	add("namespace", "a/b", nil, "slash")
	add("namespace", "ä", nil, "not ASCII")
	add("namespace", string(bytes.Repeat([]byte("n"), 65)), nil, "65 bytes")

	golden.Check(t, "keys/text.json", v)
	v = textVectors{}
	golden.Load(t, "keys/text.json", &v)
	for _, c := range v.Cases {
		var value []byte
		var err error
		switch c.Kind {
		case "vault-id":
			var id keys.VaultID
			id, err = keys.ParseVaultID(c.Text)
			value = id[:]
		case "verify-key":
			var k keys.VerifyKey
			k, err = keys.ParseVerifyKey(c.Text)
			value = k[:]
		case "root":
			_, err = keys.ParseRoot(c.Text)
			value = c.Value
		case "namespace":
			err = keys.ValidNamespace(c.Text)
		}
		if (err == nil) != c.Valid {
			t.Errorf("%s %q: %v, want valid %v", c.Kind, c.Text, err, c.Valid)
		}
		if c.Valid && !bytes.Equal(value, c.Value) {
			t.Errorf("%s %q: value %x, want %x", c.Kind, c.Text, value, c.Value)
		}
	}
}
