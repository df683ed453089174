package seal_test

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// Vectors say how opening ends: "open" for what does not open, "payload" for
// what opens and is malformed.
var class = map[string]error{"open": seal.ErrOpen, "payload": seal.ErrPayload, "": nil}

// keyVector is what a key is made from.
type keyVector struct {
	VaultID golden.Hex `json:"vault_id"`
	Epoch   uint32     `json:"epoch"`
	Tag     golden.Hex `json:"tag"`
	Secret  golden.Hex `json:"namespace_secret"`
}

func (v keyVector) key() *seal.Key {
	return seal.New(keys.VaultID(v.VaultID), v.Epoch, keys.Tag(v.Tag), keys.NewNamespaceSecret([32]byte(v.Secret)))
}

// counting returns n bytes that count up from first.
func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// vectorKey is the namespace "contacts" of the first root in keys/derive.json,
// in epoch 1.
func vectorKey(t *testing.T) keyVector {
	t.Helper()
	var derived struct {
		Roots []struct {
			VaultID    golden.Hex `json:"vault_id"`
			Namespaces []struct {
				Name   string     `json:"name"`
				Epoch  uint32     `json:"epoch"`
				Tag    golden.Hex `json:"tag"`
				Secret golden.Hex `json:"secret"`
			} `json:"namespaces"`
		} `json:"roots"`
	}
	golden.LoadLoose(t, "keys/derive.json", &derived)
	r := derived.Roots[0]
	n := r.Namespaces[0]
	if n.Name != "contacts" || n.Epoch != 1 {
		t.Fatalf("keys/derive.json begins with %q, epoch %d", n.Name, n.Epoch)
	}
	return keyVector{r.VaultID, n.Epoch, n.Tag, n.Secret}
}

type blobVectors struct {
	Comment string       `json:"comment"`
	Key     keyVector    `json:"key"`
	Valid   []blobVector `json:"valid"`
	Invalid []blobBroken `json:"invalid"`
}

type blobVector struct {
	Name       string        `json:"name"`
	Random     golden.Hex    `json:"random"`
	Payload    payloadVector `json:"payload"`
	Understood bool          `json:"understood"`
	Plaintext  golden.Hex    `json:"plaintext"` // padded
	Blob       golden.Hex    `json:"blob"`
}

type payloadVector struct {
	Form         uint8      `json:"form"`
	HLC          uint64     `json:"hlc"`
	Expires      uint64     `json:"expires"`
	Available    uint64     `json:"available"`
	ContentType  string     `json:"content_type"`
	Name         string     `json:"name"`
	Value        golden.Hex `json:"value"`
	ObjectHash   golden.Hex `json:"object_hash,omitempty"`
	ObjectLength uint64     `json:"object_length,omitempty"`
}

type blobBroken struct {
	Name   string     `json:"name"`
	Key    *keyVector `json:"key,omitempty"` // where it is not that of the file
	Blob   golden.Hex `json:"blob"`
	Expect string     `json:"expect"` // open, payload
}

func payloadToVector(p *seal.Payload) payloadVector {
	v := payloadVector{uint8(p.Form), p.HLC, p.Expires, p.Available, p.ContentType, p.Name, p.Value, nil, 0}
	if p.Object != nil {
		v.ObjectHash, v.ObjectLength = p.Object.Hash[:], p.Object.Length
	}
	return v
}

func (v payloadVector) payload() *seal.Payload {
	p := &seal.Payload{Form: seal.Form(v.Form), HLC: v.HLC, Expires: v.Expires, Available: v.Available, ContentType: v.ContentType, Name: v.Name}
	if len(v.Value) > 0 {
		p.Value = v.Value
	}
	if v.ObjectHash != nil {
		p.Object = &seal.ObjectRef{Hash: [32]byte(v.ObjectHash), Length: v.ObjectLength}
	}
	return p
}

func TestGoldenBlob(t *testing.T) {
	v := blobVectors{Comment: "SPEC.md, Sealed blobs. random is the 32 bytes of the hedged salt.", Key: vectorKey(t)}
	k := v.Key.key()
	const hlc = 1795193940123<<16 | 5
	for i, c := range []struct {
		name string
		p    seal.Payload
	}{
		{"inline", seal.Payload{Form: 1, HLC: hlc, ContentType: "text/vcard", Name: "ada", Value: []byte("BEGIN:VCARD\r\nFN:Ada\r\nEND:VCARD\r\n")}},
		{"with times, name not ASCII", seal.Payload{Form: 1, HLC: hlc, Expires: 1795280340123, Available: 1795193940000, Name: "Größe ☎", Value: []byte{0}}},
		{"empty value, no name", seal.Payload{Form: 1, HLC: hlc}},
		{"reserved name", seal.Payload{Form: 1, HLC: 0, Name: "\x00about", Value: []byte("about")}},
		{"fills 256 bytes", seal.Payload{Form: 1, HLC: hlc, Value: bytes.Repeat([]byte("f"), 256-32)}},
		{"257 bytes", seal.Payload{Form: 1, HLC: hlc, Value: bytes.Repeat([]byte("f"), 257-32)}},
		{"object", seal.Payload{Form: 2, HLC: hlc, ContentType: "image/jpeg", Name: "photo", Object: &seal.ObjectRef{Hash: [32]byte(counting(0x60, 32)), Length: 70000}}},
		{"delete", seal.Payload{Form: 4, HLC: hlc, Name: "ada"}},
		{"document, not understood", seal.Payload{Form: 3, HLC: hlc, Name: "doc", Value: []byte("later")}},
		{"form of a later version, not understood", seal.Payload{Form: 77, HLC: hlc, Name: "later", Value: []byte("later")}},
		{"clock beyond 2⁶³, not understood", seal.Payload{Form: 1, HLC: 1 << 63, Name: "n", Value: []byte("v")}},
	} {
		random := [32]byte(counting(byte(i), 32))
		blob, err := k.SealWith(nil, &c.p, random)
		if err != nil {
			t.Fatal(err)
		}
		plain := c.p.Append(nil)
		plain = append(plain, make([]byte, int(seal.Padded(uint64(len(plain))))-len(plain))...)
		v.Valid = append(v.Valid, blobVector{c.name, random[:], payloadToVector(&c.p), c.p.Understood(), plain, blob})
	}

	good := v.Valid[0].Blob
	plain := v.Valid[0].Plaintext
	flip := func(at int) golden.Hex {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	broken := func(name, expect string, blob []byte) {
		v.Invalid = append(v.Invalid, blobBroken{Name: name, Blob: blob, Expect: expect})
	}
	broken("empty", "open", nil)
	broken("header only", "open", good[:56])
	broken("tag cut", "open", good[:len(good)-1])
	broken("byte added", "open", append(slices.Clone(good), 0))
	broken("salt changed", "open", flip(0))
	broken("commitment changed", "open", flip(24))
	broken("ciphertext changed", "open", flip(56))
	broken("tag changed", "open", flip(len(good)-1))
	for _, c := range []struct {
		name   string
		change func(k *keyVector)
	}{
		{"other vault", func(k *keyVector) { k.VaultID = counting(1, 16) }},
		{"other epoch", func(k *keyVector) { k.Epoch++ }},
		{"other tag", func(k *keyVector) { k.Tag = counting(1, 16) }},
		{"other secret", func(k *keyVector) { k.Secret = counting(1, 32) }},
	} {
		other := v.Key
		c.change(&other)
		v.Invalid = append(v.Invalid, blobBroken{c.name, &other, good, "open"})
	}
	sealed := func(name string, plain []byte) { broken(name, "payload", k.SealPlain(plain, [32]byte{})) }
	patch := func(at int, b ...byte) []byte {
		p := bytes.Clone(plain)
		copy(p[at:], b)
		return p
	}
	sealed("no plaintext", nil)
	sealed("form 0", patch(0, 0))
	sealed("expires beyond 48 bits", patch(9, 0, 1))
	sealed("content type runs over the end", patch(25, 0xff))
	sealed("name longer than 512 bytes", (&seal.Payload{Form: 1, Name: string(bytes.Repeat([]byte("n"), 513))}).Append(nil))
	sealed("content type not UTF-8", (&seal.Payload{Form: 1, ContentType: "\xff"}).Append(nil))
	sealed("value runs over the end", patch(25+1+10+2+3, 0xff))
	sealed("padding not zero", patch(255, 1))
	sealed("delete with a value", patch(0, 4))
	sealed("object reference of another length", patch(0, 2))

	golden.Check(t, "keys/blob.json", v)

	v = blobVectors{}
	golden.Load(t, "keys/blob.json", &v)
	k = v.Key.key()
	for _, c := range v.Valid {
		p, err := k.Open(c.Blob)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if len(p.Value) == 0 {
			p.Value = nil
		}
		if d := cmp.Diff(c.Payload.payload(), p); d != "" || p.Understood() != c.Understood {
			t.Errorf("%s: understood %v %s", c.Name, p.Understood(), d)
		}
	}
	for _, c := range v.Invalid {
		k := k
		if c.Key != nil {
			k = c.Key.key()
		}
		if _, err := k.Open(c.Blob); !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

type objectVectors struct {
	Comment string         `json:"comment"`
	Key     keyVector      `json:"key"`
	Valid   []objectVector `json:"valid"`
	Invalid []objectBroken `json:"invalid"`
}

type objectVector struct {
	Length  uint64     `json:"length"`
	Random  golden.Hex `json:"random"`
	Device  golden.Hex `json:"device_id"`
	Counter uint64     `json:"counter"`
	Size    uint64     `json:"size"`
	Hash    golden.Hex `json:"hash"`
	Header  golden.Hex `json:"header"`           // first 56 bytes
	Last    golden.Hex `json:"last_32"`          // last 32 bytes
	Object  golden.Hex `json:"object,omitempty"` // whole, where it is short
}

// objectBroken is a valid object with something done to it.
type objectBroken struct {
	Name   string     `json:"name"`
	Length uint64     `json:"length"`           // as the blob says
	Object golden.Hex `json:"object,omitempty"` // given, or else made:
	Of     uint64     `json:"of,omitempty"`     // from the valid object with this length,
	Flip   *int       `json:"flip,omitempty"`   // the lowest bit of this byte changed,
	Cut    *int       `json:"cut,omitempty"`    // cut to so many bytes,
	Append golden.Hex `json:"append,omitempty"` // with these bytes behind it,
	Swap   bool       `json:"swap,omitempty"`   // first and second chunk exchanged
	Expect string     `json:"expect"`           // open, payload
}

// vectorValue is the value of the object vectors: byte i is i mod 251.
func vectorValue(n uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestGoldenObject(t *testing.T) {
	v := objectVectors{Comment: "SPEC.md, Objects. Byte i of a value is i mod 251.", Key: vectorKey(t)}
	k := v.Key.key()
	device := keys.DeviceID(counting(0xd0, 16))
	for i, n := range []uint64{0, 1, 16383, 16384, 16385, 40000} {
		random := [32]byte(counting(byte(i), 32))
		var b bytes.Buffer
		info, err := k.SealObjectWith(&b, bytes.NewReader(vectorValue(n)), device, uint64(i)+1, int64(n), random)
		if err != nil {
			t.Fatal(err)
		}
		o := objectVector{n, random[:], device[:], uint64(i) + 1, info.Size, info.Hash[:], b.Bytes()[:56], b.Bytes()[b.Len()-32:], nil}
		if b.Len() < 1000 {
			o.Object = b.Bytes()
		}
		v.Valid = append(v.Valid, o)
	}
	at := func(n int) *int { return &n }
	v.Invalid = []objectBroken{
		{Name: "salt changed", Length: 1, Of: 1, Flip: at(0), Expect: "open"},
		{Name: "commitment changed", Length: 1, Of: 1, Flip: at(24), Expect: "open"},
		{Name: "ciphertext changed", Length: 1, Of: 1, Flip: at(56), Expect: "open"},
		{Name: "tag changed", Length: 1, Of: 1, Flip: at(56 + 256 + 15), Expect: "open"},
		{Name: "second chunk changed", Length: 40000, Of: 40000, Flip: at(56 + 16400), Expect: "open"},
		{Name: "header only", Length: 1, Of: 1, Cut: at(56), Expect: "open"},
		{Name: "tag cut", Length: 1, Of: 1, Cut: at(56 + 256 + 15), Expect: "open"},
		{Name: "last chunk missing", Length: 16384, Of: 40000, Cut: at(56 + 2*16400), Expect: "open"},
		{Name: "byte added", Length: 1, Of: 1, Append: golden.Hex{0}, Expect: "open"},
		{Name: "chunks swapped", Length: 40000, Of: 40000, Swap: true, Expect: "open"},
		{Name: "length too small", Length: 39999, Of: 40000, Expect: "payload"},
		{Name: "length too large", Length: 50000, Of: 40000, Expect: "payload"},
		{Name: "padding not zero", Length: 1, Object: k.SealPlainObject([]byte{7, 0, 0, 1}, [32]byte{}), Expect: "payload"},
		{Name: "a blob", Length: 1, Object: k.SealPlain(make([]byte, 256), [32]byte{}), Expect: "open"},
	}
	golden.Check(t, "keys/object.json", v)

	v = objectVectors{}
	golden.Load(t, "keys/object.json", &v)
	k = v.Key.key()
	whole := make(map[uint64][]byte)
	for _, c := range v.Valid {
		// What a vector leaves out is made again, and compared by its hash.
		var b bytes.Buffer
		info, err := k.SealObjectWith(&b, bytes.NewReader(vectorValue(c.Length)), keys.DeviceID(c.Device), c.Counter, int64(c.Length), [32]byte(c.Random))
		if err != nil || !bytes.Equal(info.Hash[:], c.Hash) || info.Size != c.Size {
			t.Errorf("%d bytes: %+v, %v", c.Length, info, err)
		}
		whole[c.Length] = b.Bytes()
		got, err := openObject(k, b.Bytes(), c.Length)
		if err != nil || !bytes.Equal(got, vectorValue(c.Length)) {
			t.Errorf("%d bytes: opened %d, %v", c.Length, len(got), err)
		}
	}
	for _, c := range v.Invalid {
		b := []byte(c.Object)
		if b == nil {
			b = bytes.Clone(whole[c.Of])
		}
		if c.Flip != nil {
			b[*c.Flip] ^= 1
		}
		if c.Cut != nil {
			b = b[:*c.Cut]
		}
		b = append(b, c.Append...)
		if c.Swap {
			first := bytes.Clone(b[56 : 56+16400])
			copy(b[56:], b[56+16400:56+2*16400])
			copy(b[56+16400:], first)
		}
		if _, err := openObject(k, b, c.Length); !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

type grantVectors struct {
	Comment string        `json:"comment"`
	Valid   []grantVector `json:"valid"`
	Invalid []grantBroken `json:"invalid"`
}

type grantVector struct {
	Name       string     `json:"name"`
	DeviceSeed golden.Hex `json:"device_seed"`
	VaultID    golden.Hex `json:"vault_id"`
	DeviceID   golden.Hex `json:"device_id"`
	Plaintext  golden.Hex `json:"plaintext"`
	Grant      golden.Hex `json:"grant"`
}

type grantBroken struct {
	Name       string     `json:"name"`
	DeviceSeed golden.Hex `json:"device_seed"`
	VaultID    golden.Hex `json:"vault_id"`
	DeviceID   golden.Hex `json:"device_id"`
	Grant      golden.Hex `json:"grant"`
	Expect     string     `json:"expect"` // open, payload
}

// TestGoldenGrant opens the grants of the vectors. They are made anew only with
// -update, because HPKE draws its own randomness.
func TestGoldenGrant(t *testing.T) {
	if golden.Updating() {
		golden.Write(t, "keys/grant.json", makeGrantVectors(t))
	}
	var v grantVectors
	golden.Load(t, "keys/grant.json", &v)
	open := func(seed, vault, device, grant []byte) (*seal.Grant, error) {
		d, err := keys.NewDeviceSeed([32]byte(seed)).Keys()
		if err != nil {
			t.Fatal(err)
		}
		return seal.OpenGrant(d.KEM, keys.VaultID(vault), keys.DeviceID(device), grant)
	}
	for _, c := range v.Valid {
		g, err := open(c.DeviceSeed, c.VaultID, c.DeviceID, c.Grant)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if plain, err := g.Marshal(); err != nil || !bytes.Equal(plain, c.Plaintext) {
			t.Errorf("%s: %x, %v", c.Name, plain, err)
		}
	}
	for _, c := range v.Invalid {
		if _, err := open(c.DeviceSeed, c.VaultID, c.DeviceID, c.Grant); !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

func makeGrantVectors(t *testing.T) grantVectors {
	t.Helper()
	seed := counting(0x80, 32)
	d, err := keys.NewDeviceSeed([32]byte(seed)).Keys()
	if err != nil {
		t.Fatal(err)
	}
	vault, device := vectorKey(t).VaultID, d.ID()
	v := grantVectors{Comment: "SPEC.md, Grants."}
	for _, name := range []string{"vault", "scoped"} {
		g := grants[name]
		b, err := seal.SealGrant(d.Public().KEM, keys.VaultID(vault), device, g)
		if err != nil {
			t.Fatal(err)
		}
		plain, _ := g.Marshal()
		v.Valid = append(v.Valid, grantVector{name, seed, vault, device[:], plain, b})
	}
	good := v.Valid[0].Grant
	flip := func(at int) golden.Hex {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	broken := func(name, expect string, seed, vault, device, grant []byte) {
		v.Invalid = append(v.Invalid, grantBroken{name, seed, vault, device, grant, expect})
	}
	broken("encapsulated key changed", "open", seed, vault, device[:], flip(0))
	broken("ciphertext changed", "open", seed, vault, device[:], flip(1120))
	broken("tag changed", "open", seed, vault, device[:], flip(len(good)-1))
	broken("cut", "open", seed, vault, device[:], good[:len(good)-1])
	broken("encapsulated key only", "open", seed, vault, device[:], good[:1120])
	broken("other vault", "open", seed, counting(1, 16), device[:], good)
	broken("other device", "open", seed, vault, counting(1, 16), good)
	broken("other device's key", "open", counting(0x81, 32), vault, device[:], good)
	info := fmt.Appendf(nil, "kist/v1/grant\x00%s%s", []byte(vault), device[:])
	sealed := func(name string, plain []byte) {
		key, err := hpke.MLKEM768X25519().NewPublicKey(d.Public().KEM)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
		if err != nil {
			t.Fatal(err)
		}
		broken(name, "payload", seed, vault, device[:], b)
	}
	plain := v.Valid[0].Plaintext
	patch := func(at int, b ...byte) []byte {
		p := bytes.Clone(plain)
		copy(p[at:], b)
		return p
	}
	sealed("kind 3", patch(0, 3))
	sealed("no epoch", patch(33, 0, 0)[:35])
	sealed("epoch missing", plain[:len(plain)-36])
	sealed("epoch too many", append(bytes.Clone(plain), plain[35:71]...))
	sealed("epochs not ascending", patch(35, 0, 0, 0, 9))
	sealed("epoch 0", patch(35, 0, 0, 0, 0))
	sealed("epoch of 2³¹", patch(len(plain)-36, 0x80))
	sealed("tags not ascending", func() []byte {
		p := bytes.Clone(v.Valid[1].Plaintext)
		p[3] = 9
		return p
	}())
	return v
}
