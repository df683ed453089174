// Package words turns the state of a log into six words that people can read to
// each other, to see whether two devices hold the same (SPEC.md, "Words for
// comparing").
//
// english.txt is the English list of BIP-39 (Bitcoin Improvement Proposal 39, MIT
// licence), unchanged: 2048 common words, of which no two begin with the same four
// letters.
package words

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed english.txt
var english string

var list = strings.Fields(english)

const (
	// Count is how many words there are. Each stands for 11 bits.
	Count = 6
	// rounds make it dear to search for two logs with the same words.
	rounds = 1 << 16
	label  = "kist/v1/words"
	// letters of a word tell it from all others.
	letters = 4
)

// ErrWords is returned by Parse for what are not six words of the list.
var ErrWords = errors.New("not six words of the list")

// Of returns the words of a log of size commits with this root. It takes some
// milliseconds.
func Of(size uint64, root [32]byte) ([]string, error) {
	salt := binary.BigEndian.AppendUint64([]byte(label+"\x00"), size)
	key, err := pbkdf2.Key(sha256.New, string(root[:]), salt, rounds, (11*Count+7)/8)
	if err != nil {
		return nil, err
	}
	out := make([]string, Count)
	for i := range out {
		n := 0
		for bit := 11 * i; bit < 11*(i+1); bit++ {
			n = n<<1 | int(key[bit/8]>>(7-bit%8)&1)
		}
		out[i] = list[n]
	}
	return out, nil
}

// Parse returns the six words in a text that a person has typed: in either case,
// with any space or commas between them, and each as short as its first four letters.
func Parse(text string) ([]string, error) {
	fields := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' })
	if len(fields) != Count {
		return nil, fmt.Errorf("%w: there are %d", ErrWords, len(fields))
	}
	for i, f := range fields {
		at, found := slices.BinarySearch(list, f)
		if !found && (len(f) < letters || at == len(list) || !strings.HasPrefix(list[at], f)) {
			return nil, fmt.Errorf("%w: %q is none", ErrWords, f)
		}
		fields[i] = list[at]
	}
	return fields, nil
}
