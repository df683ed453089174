package term_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
		done, total int64
		want        string
	}{
		{0, 10, "[          ]"},
		{5, 10, "[====>     ]"},
		{10, 10, "[==========]"},
		{11, 10, "[==========]"},
		{-1, 10, "[          ]"},
		{0, 0, "[          ]"},
	} {
		if got := term.Bar(10, c.done, c.total); got != c.want {
			t.Errorf("Bar(%d, %d) = %q, want %q", c.done, c.total, got, c.want)
		}
	}
}

func TestView(t *testing.T) {
	v := term.View{Label: "receiving", Done: 999, Total: 1000, Parts: []string{"1.0 MB of 1.0 MB", "7 of 9 changes\x1b"}}
	for width, want := range map[int]string{
		100: "receiving [======================> ]  99 %  1.0 MB of 1.0 MB, 7 of 9 changes",
		60:  "receiving [======> ]  99 %  1.0 MB of 1.0 MB, 7 of 9 changes",
		59:  "receiving [=====================> ]  99 %  1.0 MB of 1.0 MB",
		44:  "receiving [======> ]  99 %  1.0 MB of 1.0 MB",
		43:  "receiving [======================> ]  99 %",
		26:  "receiving [======> ]  99 %",
		25:  "receiving  99 %",
		15:  "receiving  99 %",
		12:  "receiving",
		4:   "rece",
		0:   "",
		-1:  "",
	} {
		if got := v.Text(width); got != want {
			t.Errorf("in %d columns: %q, want %q", width, got, want)
		}
	}
	v = term.View{Label: "connecting to ä", Parts: []string{"3 so far"}}
	for width, want := range map[int]string{80: "connecting to ä  3 so far", 25: "connecting to ä  3 so far", 24: "connecting to ä"} {
		if got := v.Text(width); got != want {
			t.Errorf("in %d columns: %q, want %q", width, got, want)
		}
	}
}

// screen is a terminal of 40 columns.
type screen struct{ strings.Builder }

func (*screen) IsTerminal() bool { return true }
func (*screen) Width() int       { return 40 }

func TestLine(t *testing.T) {
	var s screen
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := term.NewLine(&s, begin)
	draws := 0
	show := func(after time.Duration, label string) {
		before := s.Len()
		l.Show(begin.Add(after), term.View{Label: label})
		if s.Len() > before {
			draws++
		}
	}
	show(999*time.Millisecond, "early")
	if s.Len() > 0 {
		t.Errorf("in the first second: %q", s.String())
	}
	l.Clear()
	if s.Len() > 0 {
		t.Errorf("cleared what never showed: %q", s.String())
	}
	// A second, a view a millisecond: ten are drawn.
	for i := range 1000 {
		show(time.Second+time.Duration(i)*time.Millisecond, fmt.Sprint(i))
	}
	if draws != 10 {
		t.Errorf("%d were drawn in a second", draws)
	}
	// The same again is not.
	show(3*time.Second, "same")
	show(4*time.Second, "same")
	if draws != 11 {
		t.Errorf("%d were drawn", draws)
	}
	l.Clear()
	if text := s.String(); !strings.HasSuffix(text, "\r\x1b[Ksame\r\x1b[K") || strings.Contains(text, "\n") {
		t.Errorf("it ends with %q", text[max(0, len(text)-30):])
	}
	var b strings.Builder // no terminal
	l = term.NewLine(&b, begin)
	l.Show(begin.Add(time.Hour), term.View{Label: "x"})
	l.Clear()
	if b.Len() > 0 || l.Shows() {
		t.Errorf("on no terminal: %q", b.String())
	}
}
