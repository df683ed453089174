package words

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kistvault/kist/internal/golden"
)

// The list is that of BIP-39, sorted, and four letters tell its words apart.
func TestList(t *testing.T) {
	sum := sha256.Sum256([]byte(english))
	if got := hex.EncodeToString(sum[:]); got != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" {
		t.Errorf("the list is another: %s", got)
	}
	if len(list) != 2048 || !slices.IsSorted(list) {
		t.Errorf("%d words, or not sorted", len(list))
	}
	seen := make(map[string]bool)
	for _, w := range list {
		short := w[:min(len(w), letters)]
		if seen[short] {
			t.Errorf("two words begin with %q", short)
		}
		seen[short] = true
	}
}

func TestGolden(t *testing.T) {
	type vector struct {
		Size  uint64     `json:"size"`
		Root  golden.Hex `json:"root"`
		Words string     `json:"words"`
	}
	empty := sha256.Sum256(nil)
	var count [32]byte
	for i := range count {
		count[i] = byte(i)
	}
	var vectors []vector
	for _, c := range []struct {
		size uint64
		root [32]byte
	}{{0, empty}, {1, count}, {2, count}, {1<<40 - 1, count}, {1, [32]byte{}}} {
		w, err := Of(c.size, c.root)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, vector{c.size, c.root[:], strings.Join(w, " ")})
	}
	golden.Check(t, "words/compare.json", vectors)
}

func TestParse(t *testing.T) {
	want := []string{"abandon", "zoo", "act", "action", "word", "wrestle"}
	for _, text := range []string{
		"abandon zoo act action word wrestle",
		" ABAN, Zoo,act acti\tword\nwres ",
	} {
		if got, err := Parse(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "abandon zoo act action word", "abandon zoo act action word wrestle zoo",
		"abandon zoo act action word wrestler", "aba zoo act action word wrestle", "abandon zoo act action word zzzz"} {
		if got, err := Parse(text); !errors.Is(err, ErrWords) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
