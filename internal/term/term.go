// Package term is what a command-line program needs to know of terminals:
// whether there is one, colours, text that is safe to show, a line of progress,
// a passphrase without echo.
package term

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// IsTerminal reports whether v is a terminal: a file that is one, or what says
// so of itself.
func IsTerminal(v any) bool {
	switch v := v.(type) {
	case *os.File:
		return term.IsTerminal(int(v.Fd()))
	case interface{ IsTerminal() bool }:
		return v.IsTerminal()
	}
	return false
}

// Width returns the columns of the terminal v, 80 if it has none or does not say.
func Width(v any) int {
	w := 0
	switch v := v.(type) {
	case *os.File:
		w, _, _ = term.GetSize(int(v.Fd()))
	case interface{ Width() int }:
		w = v.Width()
	}
	if w <= 0 {
		w = 80
	}
	return w
}

// Clean returns s without what could move the cursor, change colours or turn
// the direction of what follows. Bytes that are not UTF-8 become U+FFFD.
func Clean(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unsafe(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// unsafe reports whether r is a control character, a line or paragraph
// separator, or one of the marks that order bidirectional text.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Binary reports whether b is not text that a terminal can be given: it has
// control characters other than tab and line ends, or is not UTF-8. A character
// that is cut at the end of b is none of these.
func Binary(b []byte) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1:
			if utf8.FullRune(b) {
				return true
			}
			return false
		case unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r':
			return true
		}
		b = b[size:]
	}
	return false
}

// A Style colours text. The zero value leaves it as it is.
type Style struct{ On bool }

// NewStyle returns the style for what is written to w. mode is "always",
// "never" or "auto": colours on a terminal, unless the environment has NO_COLOR,
// or TERM is "dumb" there.
func NewStyle(mode string, w io.Writer, env func(string) string) Style {
	switch mode {
	case "always":
		return Style{true}
	case "never":
		return Style{}
	}
	return Style{env("NO_COLOR") == "" && env("TERM") != "dumb" && IsTerminal(w)}
}

func (s Style) with(code, text string) string {
	if !s.On || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold, Dim, Red, Green and Yellow return text in that manner.
func (s Style) Bold(text string) string   { return s.with("1", text) }
func (s Style) Dim(text string) string    { return s.with("2", text) }
func (s Style) Red(text string) string    { return s.with("31", text) }
func (s Style) Green(text string) string  { return s.with("32", text) }
func (s Style) Yellow(text string) string { return s.with("33", text) }

// ErrNoTerminal is returned by ReadPassphrase where there is nobody to ask.
var ErrNoTerminal = errors.New("no terminal to ask on")

// ReadPassphrase asks on the terminals in and out, without echo. If ctx ends
// first, the terminal is as it was.
func ReadPassphrase(ctx context.Context, in io.Reader, out io.Writer, prompt string) ([]byte, error) {
	f, ok := in.(*os.File)
	if !ok || !IsTerminal(f) {
		return nil, ErrNoTerminal
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	io.WriteString(out, prompt)
	type answer struct {
		text []byte
		err  error
	}
	c := make(chan answer, 1)
	go func() { // ends with the process if nobody answers
		b, err := term.ReadPassword(fd)
		c <- answer{b, err}
	}()
	select {
	case a := <-c:
		io.WriteString(out, "\n")
		return a.text, a.err
	case <-ctx.Done():
		io.WriteString(out, "\n")
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, before))
	}
}
