package bech32

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors of BIP-173, section "Test vectors". Those that are invalid only
// because they have more than 90 characters are valid here.

func TestValid(t *testing.T) {
	for _, s := range []string{
		"A12UEL5L",
		"a12uel5l",
		"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
		"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
		"11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
		"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
		"?1ezyfcl",
		"an84characterslonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1569pvx", // 91 characters
	} {
		hrp, values, err := decodeValues(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		sum := checksum(strings.ToLower(hrp), values)
		again := hrp + "1"
		for _, v := range append(values, sum[:]...) {
			again += string(charset[v])
		}
		if !strings.EqualFold(again, s) {
			t.Errorf("%q encodes to %q", s, again)
		}
	}
}

func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		s    string
		want error
	}{
		{"\x201nwldj5", errChar},
		{"\x7f1axkwrx", errChar},
		{"\x801eym55h", errChar},
		{"pzry9x0s0muk", errLength},  // no separator
		{"1pzry9x0s0muk", errLength}, // empty human-readable part
		{"x1b4n0q5v", errChar},
		{"li1dgmt3", errLength}, // checksum too short
		{"de1lg7wt\xff", errChar},
		{"A1G7SGD8", errChecksum}, // made with the upper case
		{"10a06t8", errLength},
		{"1qzzfhee", errLength},

		{"", errLength},
		{"A12uEL5L", errCase},
		{"a12uel5l ", errChar},
		{"a12uel5L", errCase},
		{"a12uel5l\n", errChar},
		{"a12uel5\u212a", errChar}, // the Kelvin sign is a k in lower case
		{"a1" + strings.Repeat("q", MaxLen), errLength},
	} {
		if _, _, err := Decode(c.s); err != c.want {
			t.Errorf("%q: got %v, want %v", c.s, err, c.want)
		}
	}
}

// TestPadding makes texts with a good checksum whose last value has bits that
// belong to no byte.
func TestPadding(t *testing.T) {
	for _, c := range []struct {
		values []byte
		ok     bool
	}{
		{nil, true},
		{[]byte{0}, false},             // five bits and no byte
		{[]byte{31, 28}, true},         // ff
		{[]byte{31, 29}, false},        // ff and a bit
		{[]byte{31, 31, 16}, false},    // seven bits over
		{[]byte{31, 31, 31, 16}, true}, // ff ff
		{[]byte{31, 31, 31, 17}, false},
	} {
		sum := checksum("a", c.values)
		s := "a1"
		for _, v := range append(bytes.Clone(c.values), sum[:]...) {
			s += string(charset[v])
		}
		if _, _, err := Decode(s); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.values, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, hrp := range []string{"", "a b", "Aa", "ä", "a\x00"} {
		if s, err := Encode(hrp, nil); err == nil {
			t.Errorf("%q: %q", hrp, s)
		}
	}
	if _, err := Encode("a", make([]byte, MaxLen)); err != errLength {
		t.Errorf("too long: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hrp := rapid.StringMatching(`[a-z0-9-]{1,20}`).Draw(t, "hrp")
		if rapid.Bool().Draw(t, "upper") {
			hrp = strings.ToUpper(hrp)
		}
		data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
		s, err := Encode(hrp, data)
		if err != nil {
			t.Fatal(err)
		}
		gotHRP, got, err := Decode(s)
		if err != nil || gotHRP != hrp && strings.ToLower(hrp) != strings.ToUpper(hrp) || !bytes.Equal(got, data) {
			t.Fatalf("%q: got %q, %x, %v", s, gotHRP, got, err)
		}
		// Any one character changed is found.
		i := rapid.IntRange(len(hrp)+1, len(s)-1).Draw(t, "i")
		c := charset[rapid.IntRange(0, 31).Draw(t, "c")]
		changed := s[:i] + string(c) + s[i+1:]
		if s == strings.ToUpper(s) {
			changed = s[:i] + strings.ToUpper(string(c)) + s[i+1:]
		}
		if _, _, err := Decode(changed); changed != s && err == nil {
			t.Errorf("%q: changed at %d and accepted", changed, i)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("A12UEL5L")
	f.Add("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw")
	f.Add("?1ezyfcl")
	f.Fuzz(func(t *testing.T, s string) {
		hrp, data, err := Decode(s)
		if err != nil {
			return
		}
		again, err := Encode(hrp, data)
		// A human-readable part without letters does not tell the case.
		if err != nil || again != s && !(strings.ToLower(hrp) == strings.ToUpper(hrp) && strings.EqualFold(again, s)) {
			t.Errorf("%q encodes to %q, %v", s, again, err)
		}
	})
}
