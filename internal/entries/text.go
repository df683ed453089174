package entries

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const bom = "\ufeff"

var errUTF16 = errors.New("text has the byte order mark of UTF-16 but is not valid UTF-16")

// decodeText returns b as UTF-8 without byte order mark, and the same with the
// mark if it had one in UTF-8. UTF-16 that cannot be turned back into the same
// bytes is refused. Text in other encodings passes as it is.
func decodeText(b []byte) (text, raw []byte, err error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte(bom)):
		return b[len(bom):], b, nil
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return b, b, nil
	}
	b = b[2:]
	if len(b)%2 != 0 {
		return nil, nil, errUTF16
	}
	text = make([]byte, 0, len(b)/2+len(b)/8)
	for i := 0; i < len(b); i += 2 {
		r := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i += 2; i == len(b) {
				return nil, nil, errUTF16
			}
			if r = utf16.DecodeRune(r, rune(order.Uint16(b[i:]))); r == utf8.RuneError {
				return nil, nil, errUTF16
			}
		}
		text = utf8.AppendRune(text, r)
	}
	return text, text, nil
}

// span is a run of whole lines.
type span struct {
	start, end int // bytes, with the last line's end
	line, last int // line numbers, from 1
}

func (s span) of(data []byte) []byte { return data[s.start:s.end:s.end] }

// to returns the lines from s to t.
func (s span) to(t span) span {
	if s.line == 0 {
		return t
	}
	return span{s.start, t.end, s.line, t.last}
}

// line is one physical line.
type line struct {
	span
	text []byte // without line end, and without a byte order mark left by joining files
}

// scanner yields lines. They end with LF or CRLF; with CR only if the whole
// text has no LF.
type scanner struct {
	data []byte
	pos  int
	n    int // lines so far
	eol  byte
}

func newScanner(data []byte) *scanner {
	s := &scanner{data: data, eol: '\n'}
	if bytes.IndexByte(data, '\n') < 0 {
		s.eol = '\r'
	}
	return s
}

func (s *scanner) next() (line, bool) {
	if s.pos >= len(s.data) {
		return line{}, false
	}
	rest := s.data[s.pos:]
	text, size := rest, len(rest)
	if i := bytes.IndexByte(rest, s.eol); i >= 0 {
		text, size = rest[:i], i+1
	}
	s.n++
	l := line{span{s.pos, s.pos + size, s.n, s.n}, bytes.TrimRight(text, "\r")}
	s.pos += size
	if bytes.HasPrefix(l.text, []byte(bom)) {
		l.text = l.text[len(bom):]
		l.start += len(bom)
	}
	return l, true
}

// unfold takes the continuation lines of l, which begin with a space or a tab,
// and returns l with them.
func (s *scanner) unfold(l line) line {
	own := false
	for s.pos < len(s.data) && (s.data[s.pos] == ' ' || s.data[s.pos] == '\t') {
		more, _ := s.next()
		if !own {
			l.text, own = bytes.Clone(l.text), true
		}
		l.text = append(l.text, more.text[1:]...)
		l.span = l.to(more.span)
	}
	return l
}

func blank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }

// boundary reads a BEGIN or END line: the upper-case name of what begins or
// ends, and which. The name is empty if the line is neither.
func boundary(text []byte) (name string, begin bool) {
	before, after, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(text) > 100 || len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		return "", false
	}
	name = strings.ToUpper(string(bytes.TrimSpace(after)))
	switch strings.ToUpper(string(bytes.TrimSpace(before))) {
	case "BEGIN":
		return name, true
	case "END":
		return name, false
	}
	return "", false
}

// foldedBoundary is boundary for a line that was folded. What follows a blank
// line is a stray continuation and makes no boundary.
func foldedBoundary(first, unfolded []byte) (name string, begin bool) {
	if blank(first) {
		return "", false
	}
	return boundary(unfolded)
}

// property is a content line of a card or a calendar, RFC 6350 section 3.3 and
// RFC 5545 section 3.1.
type property struct {
	name   string // upper case, without group
	params string // as written: ;A=b;C="d:e"
	value  []byte // as written
}

// parseProperty reads an unfolded line. It reports whether it is one.
func parseProperty(text []byte) (property, bool) {
	colon := -1
	quoted := false
	for i, c := range text {
		if c == '"' {
			quoted = !quoted
		} else if c == ':' && !quoted {
			colon = i
			break
		}
	}
	if colon < 0 {
		// An odd quote hides the colon: version 2.1 knows no quotes.
		if colon = bytes.IndexByte(text, ':'); colon < 0 {
			return property{}, false
		}
	}
	head := string(text[:colon])
	params := ""
	if i := strings.IndexByte(head, ';'); i >= 0 {
		head, params = head[:i], head[i:]
	}
	if i := strings.LastIndexByte(head, '.'); i >= 0 {
		head = head[i+1:]
	}
	head = strings.TrimSpace(head)
	if head == "" {
		return property{}, false
	}
	for i := range len(head) {
		c := head[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return property{}, false
		}
	}
	return property{strings.ToUpper(head), params, text[colon+1:]}, true
}

// param returns the value of the first parameter of this upper-case name,
// without quotes. In version 2.1 a parameter may be a value alone: its name is
// then the value, and the result empty.
func (p property) param(name string) (string, bool) {
	for rest := p.params; rest != ""; {
		rest = rest[1:] // the semicolon
		end, quoted := len(rest), false
		for i := range len(rest) {
			if rest[i] == '"' {
				quoted = !quoted
			} else if rest[i] == ';' && !quoted {
				end = i
				break
			}
		}
		key, value, _ := strings.Cut(rest[:end], "=")
		if strings.ToUpper(strings.TrimSpace(key)) == name {
			return strings.Trim(strings.TrimSpace(value), `"`), true
		}
		rest = rest[end:]
	}
	return "", false
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\;`, `;`, `\:`, `:`, `\n`, "\n", `\N`, "\n")

// text returns the value as text, without surrounding space.
func (p property) text() string {
	return strings.TrimSpace(unescaper.Replace(string(p.value)))
}
