package term_test

import (
	"testing"

	"github.com/kistvault/kist/internal/term"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"ada":                        "ada",
		"a\x1b[31mb":                 "a[31mb",
		"a\tb\nc\rd":                 "abcd",
		"\u202eevil\u2066":           "evil",
		"a\u2028b\u0085c":            "abc",
		"bad\xff":                    "bad\ufffd",
		"日本語 🎶 e\u0301 \u05d0\u05d1": "日本語 🎶 e\u0301 \u05d0\u05d1",
	} {
		if got := term.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBinary(t *testing.T) {
	for in, want := range map[string]bool{
		"":              false,
		"text\r\n\tü":   false,
		"cut \xe2\x82":  false,
		"\xe2\x82 more": true,
		"a\x00b":        true,
		"\x1b]0;x\x07":  true,
		"\u009b31m":     true,
	} {
		if got := term.Binary([]byte(in)); got != want {
			t.Errorf("Binary(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		n, total uint64
		want     string
	}{
		{0, 10, "[                    ]"},
		{5, 10, "[=========>          ]"},
		{10, 10, "[====================]"},
		{11, 10, "[====================]"},
		{0, 0, "[                    ]"},
	} {
		if got := term.Bar(c.n, c.total); got != c.want {
			t.Errorf("Bar(%d, %d) = %q, want %q", c.n, c.total, got, c.want)
		}
	}
}
