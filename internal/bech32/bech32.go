// Package bech32 encodes short binary values as text with a checksum, as in
// BIP-173, without its limit of 90 characters:
//
//	KIST-ROOT-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SMN47TK
//	└────────┘│└─────────────────────── data ─────────────────────┘└────┘
//	   HRP    separator                                            checksum
//
// A text is all upper or all lower case. Beyond 90 characters the checksum no
// longer promises to find any four wrong characters; it still misses a random
// error only once in 2³⁰.
package bech32

import (
	"errors"
	"strings"
)

// MaxLen is the length of the longest text in characters: more than any use
// here, and cheap to check.
const MaxLen = 4096

const (
	charset     = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	checksumLen = 6
)

// Errors of Encode and Decode. None of them tells what the text was: it may be
// a secret.
var (
	errLength   = errors.New("bech32: text too long or too short")
	errHRP      = errors.New("bech32: unusable human-readable part")
	errCase     = errors.New("bech32: upper and lower case mixed")
	errChar     = errors.New("bech32: character that does not belong in the text")
	errChecksum = errors.New("bech32: wrong checksum: a character is missing or mistyped")
	errPadding  = errors.New("bech32: bits left over at the end of the data")
)

// Encode returns the text for data under the human-readable part hrp, which is
// all upper or all lower case and sets the case of the whole.
func Encode(hrp string, data []byte) (string, error) {
	lower, err := checkHRP(hrp)
	if err != nil {
		return "", err
	}
	if len(hrp)+1+(len(data)*8+4)/5+checksumLen > MaxLen {
		return "", errLength
	}
	values := toFive(data)
	sum := checksum(lower, values)
	var b strings.Builder
	b.WriteString(lower)
	b.WriteByte('1')
	for _, v := range append(values, sum[:]...) {
		b.WriteByte(charset[v])
	}
	if lower != hrp {
		return strings.ToUpper(b.String()), nil
	}
	return b.String(), nil
}

// Decode returns the human-readable part of s, in the case of s, and the data.
// What it accepts encodes to the same text.
func Decode(s string) (hrp string, data []byte, err error) {
	hrp, values, err := decodeValues(s)
	if err != nil {
		return "", nil, err
	}
	data, err = toEight(values)
	if err != nil {
		return "", nil, err
	}
	return hrp, data, nil
}

// decodeValues returns the human-readable part of s and the data as values of
// five bits, without the checksum, which is good.
func decodeValues(s string) (hrp string, values []byte, err error) {
	if len(s) > MaxLen {
		return "", nil, errLength
	}
	for i := range len(s) {
		if s[i] < 33 || s[i] > 126 { // beyond ASCII, other characters have a lower case in it
			return "", nil, errChar
		}
	}
	sep := strings.LastIndexByte(s, '1')
	if sep < 1 || len(s)-sep-1 < checksumLen {
		return "", nil, errLength
	}
	lower := strings.ToLower(s)
	if s != lower && s != strings.ToUpper(s) {
		return "", nil, errCase
	}
	hrp = s[:sep]
	if _, err := checkHRP(hrp); err != nil {
		return "", nil, err
	}
	values = make([]byte, 0, len(s)-sep-1)
	for _, c := range []byte(lower[sep+1:]) {
		v := strings.IndexByte(charset, c)
		if v < 0 {
			return "", nil, errChar
		}
		values = append(values, byte(v))
	}
	values, sum := values[:len(values)-checksumLen], values[len(values)-checksumLen:]
	if want := checksum(lower[:sep], values); string(want[:]) != string(sum) {
		return "", nil, errChecksum
	}
	return hrp, values, nil
}

// checkHRP returns hrp in lower case. It must have characters 33 to 126 only,
// of one case.
func checkHRP(hrp string) (lower string, err error) {
	if len(hrp) == 0 {
		return "", errHRP
	}
	for i := range len(hrp) {
		if hrp[i] < 33 || hrp[i] > 126 {
			return "", errHRP
		}
	}
	lower = strings.ToLower(hrp)
	if hrp != lower && hrp != strings.ToUpper(hrp) {
		return "", errCase
	}
	return lower, nil
}

// toFive cuts data into values of five bits, the last filled up with zeros.
func toFive(data []byte) []byte {
	values := make([]byte, 0, (len(data)*8+4)/5+checksumLen)
	acc, bits := uint(0), 0
	for _, b := range data {
		acc = acc<<8 | uint(b)
		for bits += 8; bits >= 5; {
			bits -= 5
			values = append(values, byte(acc>>bits&31))
		}
	}
	if bits > 0 {
		values = append(values, byte(acc<<(5-bits)&31))
	}
	return values
}

// toEight joins values of five bits to bytes. At most four bits may be left
// over, all zero.
func toEight(values []byte) ([]byte, error) {
	data := make([]byte, 0, len(values)*5/8)
	acc, bits := uint(0), 0
	for _, v := range values {
		acc = acc<<5 | uint(v)
		if bits += 5; bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
		}
	}
	if bits >= 5 || acc&(1<<bits-1) != 0 {
		return nil, errPadding
	}
	return data, nil
}

// checksum is bech32_create_checksum of BIP-173. lower is the human-readable
// part in lower case.
func checksum(lower string, values []byte) (sum [checksumLen]byte) {
	chk := uint32(1)
	for i := range len(lower) {
		chk = polymodStep(chk, lower[i]>>5)
	}
	chk = polymodStep(chk, 0)
	for i := range len(lower) {
		chk = polymodStep(chk, lower[i]&31)
	}
	for _, v := range values {
		chk = polymodStep(chk, v)
	}
	for range sum {
		chk = polymodStep(chk, 0)
	}
	chk ^= 1
	for i := range sum {
		sum[i] = byte(chk >> (5 * (5 - i)) & 31)
	}
	return sum
}

// polymodStep is one round of bech32_polymod of BIP-173.
func polymodStep(chk uint32, v byte) uint32 {
	top := chk >> 25
	chk = chk&0x1ffffff<<5 ^ uint32(v)
	for i, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			chk ^= g
		}
	}
	return chk
}
