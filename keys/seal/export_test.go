package seal

import (
	"io"

	"github.com/kistvault/kist/keys"
)

// What the tests of this package see of its inside: sealing with given random
// bytes, and the encodings without the sealing.

func (k *Key) SealWith(dst []byte, p *Payload, random [32]byte) ([]byte, error) {
	st := k.get()
	defer k.put(st)
	return k.seal(st, dst, p, &random)
}

func (k *Key) SealObjectWith(dst io.Writer, src io.Reader, device keys.DeviceID, counter uint64, maxLength int64, random [32]byte) (ObjectInfo, error) {
	st := k.get()
	defer k.put(st)
	return k.sealObject(st, dst, src, device, counter, maxLength, &random)
}

// SealPlain seals bytes that need not be a payload, as a faulty device would.
func (k *Key) SealPlain(plain []byte, random [32]byte) []byte {
	st := k.get()
	defer k.put(st)
	out := st.deriver.SealHeader(&st.cipher, nil, st.changeSalt(&random, k.change, plain), k.change)
	return st.cipher.Seal(out, plain)
}

// SealPlainObject seals bytes that need not be padded as an object.
func (k *Key) SealPlainObject(plain []byte, random [32]byte) []byte {
	st := k.get()
	defer k.put(st)
	out := st.deriver.SealHeader(&st.cipher, nil, st.objectSalt(&random, k.object, keys.DeviceID{}, 0), k.object)
	return st.cipher.Seal(out, plain)
}

func ParsePayload(b []byte) (*Payload, error) {
	p := new(Payload)
	return p, p.parse(b, MaxInline)
}

func (p *Payload) Append(b []byte) []byte { return p.append(b) }

func (g *Grant) Marshal() ([]byte, error) { return g.marshal() }

var (
	ParseGrant = parseGrant
	Padded     = padded
)

const GrantOverhead = grantOverhead
