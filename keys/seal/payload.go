package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// Form says what a payload's value is. The numbers are stored; 0 is no form.
// Other forms than these may come from later versions: they are kept, and not
// understood.
type Form uint8

// The forms.
const (
	FormInline   Form = 1 // the value itself
	FormObject   Form = 2 // hash and length of an object
	FormDocument Form = 3 // part of a document: reserved, not yet understood
	FormDelete   Form = 4 // no value: the record was deleted
)

// Payload is what a blob holds when it is open.
//
//	Len   Field
//	1     form
//	8     hybrid logical clock
//	8     expires
//	8     available
//	1 + … length of the content type, and it
//	2 + … length of the name, and it
//	4 + … length of the value, and it; FormObject: hash 32, length 8
//	…     zeros
//
// Numbers are big-endian. See SPEC.md, "Sealed blobs".
type Payload struct {
	Form        Form
	HLC         uint64     // 48 bits of Unix milliseconds, 16 bits of counter
	Expires     uint64     // Unix milliseconds, below 2⁴⁸; 0: never
	Available   uint64     // Unix milliseconds, below 2⁴⁸; 0: at once
	ContentType string     // UTF-8, at most MaxContentType bytes
	Name        string     // any bytes, at most MaxName
	Value       []byte     // nil for FormObject and FormDelete
	Object      *ObjectRef // for FormObject only
}

// ObjectRef names an object, the form of values over [MaxInline].
type ObjectRef struct {
	Hash   [32]byte // SHA-256 of the sealed bytes
	Length uint64   // bytes of the value, as it was before sealing
}

// Understood reports whether this version knows what the payload means. A
// payload that it does not know is authentic and is kept, but shows nothing:
// its form is of a later version, or its clock is beyond 2⁶³.
func (p *Payload) Understood() bool {
	switch p.Form {
	case FormInline, FormObject, FormDelete:
		return p.HLC < 1<<63
	}
	return false
}

const (
	payloadFixed  = 1 + 8 + 8 + 8 + 1 + 2 + 4
	objectRefSize = 32 + 8

	maxTime = 1<<48 - 1 // Unix milliseconds
)

func (p *Payload) valueLen() int {
	if p.Form == FormObject {
		return objectRefSize
	}
	return len(p.Value)
}

// size returns the length of p without padding.
func (p *Payload) size() int {
	return payloadFixed + len(p.ContentType) + len(p.Name) + p.valueLen()
}

// check returns an error wrapping [ErrLimit] if a part of p is too long, and
// one wrapping [ErrPayload] if p is not canonical. What it passes is what parse
// accepts.
func (p *Payload) check(maxValue int) error {
	switch {
	case len(p.ContentType) > MaxContentType:
		return fmt.Errorf("%w: content type of %d bytes, at most %d", ErrLimit, len(p.ContentType), MaxContentType)
	case len(p.Name) > MaxName:
		return fmt.Errorf("%w: name of %d bytes, at most %d", ErrLimit, len(p.Name), MaxName)
	case len(p.Value) > maxValue:
		return fmt.Errorf("%w: value of %d bytes, at most %d", ErrLimit, len(p.Value), maxValue)
	case p.Form == FormObject && p.Object != nil && p.Object.Length > MaxObject:
		return fmt.Errorf("%w: object of %d bytes, at most %d", ErrLimit, p.Object.Length, MaxObject)

	case p.Form == 0:
		return fmt.Errorf("%w: no form", ErrPayload)
	case p.Expires > maxTime || p.Available > maxTime:
		return fmt.Errorf("%w: time out of range", ErrPayload)
	case !utf8.ValidString(p.ContentType):
		return fmt.Errorf("%w: content type is not UTF-8", ErrPayload)
	case (p.Form == FormObject) != (p.Object != nil):
		return fmt.Errorf("%w: form and object do not agree", ErrPayload)
	case p.Form == FormObject && len(p.Value) != 0:
		return fmt.Errorf("%w: object with a value", ErrPayload)
	case p.Form == FormDelete && (len(p.Value) != 0 || p.ContentType != "" || p.Expires != 0 || p.Available != 0):
		return fmt.Errorf("%w: delete with more than a clock and a name", ErrPayload)
	}
	return nil
}

// append appends the encoding of p, which passed check, without padding.
func (p *Payload) append(b []byte) []byte {
	b = append(b, byte(p.Form))
	b = binary.BigEndian.AppendUint64(b, p.HLC)
	b = binary.BigEndian.AppendUint64(b, p.Expires)
	b = binary.BigEndian.AppendUint64(b, p.Available)
	b = append(b, byte(len(p.ContentType)))
	b = append(b, p.ContentType...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Name)))
	b = append(b, p.Name...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.valueLen()))
	if p.Form == FormObject {
		b = append(b, p.Object.Hash[:]...)
		return binary.BigEndian.AppendUint64(b, p.Object.Length)
	}
	return append(b, p.Value...)
}

// parse sets p to the payload in b, padding included. Every error wraps
// [ErrPayload]. p.Value shares the memory of b. Strings that p has already are
// kept where they are the same, so that one p used again and again costs no
// memory for a content type.
func (p *Payload) parse(b []byte, maxValue int) error {
	if len(b) < payloadFixed {
		return fmt.Errorf("%w: %d bytes", ErrPayload, len(b))
	}
	p.Form = Form(b[0])
	p.HLC = binary.BigEndian.Uint64(b[1:])
	p.Expires = binary.BigEndian.Uint64(b[9:])
	p.Available = binary.BigEndian.Uint64(b[17:])
	p.Value, p.Object = nil, nil
	b = b[25:]

	// Each length is looked at together with the length fields still to come.
	n := int(b[0])
	if len(b) < 1+n+2+4 {
		return fmt.Errorf("%w: content type cut short", ErrPayload)
	}
	setString(&p.ContentType, b[1:1+n])
	b = b[1+n:]

	n = int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n+4 {
		return fmt.Errorf("%w: name cut short", ErrPayload)
	}
	setString(&p.Name, b[2:2+n])
	b = b[2+n:]

	v := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(v) > uint64(len(b)) {
		return fmt.Errorf("%w: value cut short", ErrPayload)
	}
	value, padding := b[:v:v], b[v:]
	switch p.Form {
	case FormObject:
		if len(value) != objectRefSize {
			return fmt.Errorf("%w: object reference of %d bytes", ErrPayload, len(value))
		}
		p.Object = &ObjectRef{Hash: [32]byte(value), Length: binary.BigEndian.Uint64(value[32:])}
	case FormDelete:
		if len(value) != 0 {
			return fmt.Errorf("%w: delete with a value", ErrPayload)
		}
	default:
		p.Value = value
	}
	if len(padding) > MaxPadding {
		return fmt.Errorf("%w: %d bytes of padding", ErrPayload, len(padding))
	}
	if !isZero(padding) {
		return fmt.Errorf("%w: padding is not zero", ErrPayload)
	}
	err := p.check(maxValue)
	if errors.Is(err, ErrLimit) {
		err = fmt.Errorf("%w: %v", ErrPayload, err)
	}
	return err
}

// setString sets *s to b without allocating if it is b already.
func setString(s *string, b []byte) {
	if *s != string(b) {
		*s = string(b)
	}
}

func isZero(b []byte) bool {
	var or byte
	for _, c := range b {
		or |= c
	}
	return or == 0
}

// padded returns the length that n bytes of plaintext are padded to:
// Padmé(max(n, 256)).
func padded(n uint64) uint64 { return padme(max(n, minPadded)) }

// padme returns the Padmé length for n ≥ 2: n rounded up so that its last
// ⌊log₂ n⌋ − ⌊log₂ ⌊log₂ n⌋⌋ − 1 bits are zero. At most 12 % is added, and the
// length tells O(log log n) bits about n.
//
// Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs", PoPETs 2019, section 4.
func padme(n uint64) uint64 {
	e := bits.Len64(n) - 1
	s := bits.Len(uint(e))
	mask := uint64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}
