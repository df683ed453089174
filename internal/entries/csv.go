package entries

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

var errCSVQuote = errors.New("row with a quote that does not match")

// readCSV reads a file with a header line and rows.
func (f *file) readCSV() error {
	s := newCSV(f.data)
	header, headerFields, err := s.row()
	if header.line == 0 {
		return nil // nothing at all
	}
	if err != nil {
		return fmt.Errorf("reading the header line: %w", err)
	}
	column, err := nameColumn(headerFields, f.opt.NameColumn)
	if err != nil {
		return err
	}
	return s.rows(len(headerFields), func(row span, fields []string) error {
		name := ""
		if column >= 0 {
			name = strings.TrimSpace(fields[column])
		}
		value := append(bytes.Clone(header.of(f.data)), row.of(f.data)...)
		return f.take(Files, name, typeCSV, value, value, row.line)
	}, f.problem)
}

// nameColumn returns the column that names the rows, or -1.
func nameColumn(header []string, want string) (int, error) {
	find := func(name string) int {
		for i, h := range header {
			if strings.EqualFold(strings.TrimSpace(h), strings.TrimSpace(name)) {
				return i
			}
		}
		return -1
	}
	if want != "" {
		if i := find(want); i >= 0 {
			return i, nil
		}
		return 0, fmt.Errorf("no column %q: the columns are %q", want, header)
	}
	for _, name := range []string{"id", "uid", "name"} {
		if i := find(name); i >= 0 {
			return i, nil
		}
	}
	return -1, nil
}

// csvScanner yields rows with their place: RFC 4180, with comma, semicolon or
// tab between the fields, whichever the header line has most of, and with
// quotes inside of unquoted fields taken as they are.
type csvScanner struct {
	*scanner
	comma byte
}

func newCSV(data []byte) *csvScanner {
	s := &csvScanner{newScanner(data), ','}
	first := *s.scanner
	for {
		l, ok := first.next()
		if !ok {
			break
		}
		if blank(l.text) {
			continue
		}
		best := 0
		for _, c := range []byte(",;\t") {
			if n := countUnquoted(l.text, c); n > best {
				best, s.comma = n, c
			}
		}
		break
	}
	return s
}

func countUnquoted(text []byte, c byte) (n int) {
	quoted := false
	for _, b := range text {
		if b == '"' {
			quoted = !quoted
		} else if b == c && !quoted {
			n++
		}
	}
	return n
}

// rows takes the remaining rows. Each line is in a row, reported as bad, or
// blank.
func (s *csvScanner) rows(fields int, take func(span, []string) error, bad func(span, error)) error {
	for {
		row, values, err := s.row()
		switch {
		case row.line == 0:
			return nil
		case err != nil:
			bad(row, err)
		case len(values) != fields:
			bad(row, fmt.Errorf("row with %d fields, and the header has %d", len(values), fields))
		default:
			if err := take(row, values); err != nil {
				return err
			}
		}
	}
}

// row returns the next row that is not blank; its line is 0 at the end. After
// an error the next row begins at the next line: an open quote must not swallow
// the rest of the file.
func (s *csvScanner) row() (span, []string, error) {
	var first line
	for {
		var ok bool
		if first, ok = s.next(); !ok {
			return span{}, nil, nil
		}
		if !blank(first.text) {
			break
		}
	}
	row, fields, ok := s.parse(first)
	if !ok {
		return first.span, nil, errCSVQuote
	}
	s.n += bytes.Count(s.data[first.start:row.end-1], []byte{s.eol})
	s.pos, row.last = row.end, s.n
	return row, fields, nil
}

// parse reads the row that begins with this line. It reports whether the row is
// well formed; its last line is not set. A quote is left open only up to the
// next one that is not doubled, so reading on after a bad row costs little.
func (s *csvScanner) parse(first line) (row span, fields []string, ok bool) {
	row = first.span
	p := first.start
	for {
		var field []byte
		if p < len(s.data) && s.data[p] == '"' {
			for p++; ; p++ {
				i := bytes.IndexByte(s.data[p:], '"')
				if i < 0 {
					return row, nil, false
				}
				field = append(field, s.data[p:p+i]...)
				if p += i + 1; p == len(s.data) || s.data[p] != '"' {
					break
				}
				field = append(field, '"')
			}
		} else {
			i := bytes.IndexFunc(s.data[p:], func(r rune) bool { return r == rune(s.comma) || r == rune(s.eol) })
			if i < 0 {
				i = len(s.data) - p
			}
			field = bytes.TrimRight(s.data[p:p+i], "\r")
			p += i
		}
		fields = append(fields, string(field))
		if p < len(s.data) && s.data[p] == s.comma {
			p++
			continue
		}
		for p < len(s.data) && s.data[p] == '\r' && s.eol != '\r' {
			p++
		}
		switch {
		case p == len(s.data):
			row.end = p
		case s.data[p] == s.eol:
			row.end = p + 1
		default:
			return row, nil, false
		}
		return row, fields, true
	}
}
