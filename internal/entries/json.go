package entries

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

var (
	errNotJSON  = errors.New("not JSON")
	errJSONMore = errors.New("more text after the JSON value")
)

// readJSON reads a file with one JSON value.
func (f *file) readJSON() error {
	if !bytes.HasPrefix(bytes.TrimLeft(f.data, " \t\r\n"), []byte("[")) {
		if !json.Valid(f.data) {
			f.problem(span{line: 1}, errNotJSON)
			return nil
		}
		return f.take(Files, f.name, typeJSON, f.raw, f.raw, 1)
	}
	end, err := splitArray(f.data, func(start int, value []byte) error {
		return f.take(Files, jsonName(value), typeJSON, value, value, f.lineAt(start))
	})
	if f.err == nil && err != nil {
		f.problem(span{line: f.lineAt(end)}, err)
	}
	return f.err
}

// splitArray finds the elements of an array. If it ends with an error, end is
// the place from which nothing was taken.
func splitArray(data []byte, take func(start int, value []byte) error) (end int, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil { // the bracket
		return 0, errNotJSON
	}
	for d.More() {
		end = int(d.InputOffset())
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return end, fmt.Errorf("the rest of the array is %w", errNotJSON)
		}
		end = int(d.InputOffset())
		if err := take(end-len(value), data[end-len(value):end:end]); err != nil {
			return end, err
		}
	}
	end = int(d.InputOffset())
	if _, err := d.Token(); err != nil {
		return end, fmt.Errorf("the rest of the array is %w", errNotJSON)
	}
	end = int(d.InputOffset())
	if _, err := d.Token(); err != io.EOF {
		return end, errJSONMore
	}
	return len(data), nil
}

// readNDJSON reads a file with a JSON value on each line.
func (f *file) readNDJSON() error {
	return splitNDJSON(f.data, func(l line, value []byte) error {
		return f.take(Files, jsonName(value), typeJSON, value, value, l.line)
	}, f.problem)
}

// splitNDJSON finds the values. Each line is one, reported as bad, or blank.
func splitNDJSON(data []byte, take func(line, []byte) error, bad func(span, error)) error {
	s := newScanner(data)
	s.eol = '\n' // CR is a space in JSON
	var garbage span
	flush := func() {
		if garbage.line != 0 {
			bad(garbage, errNotJSON)
		}
		garbage = span{}
	}
	for {
		l, ok := s.next()
		if !ok {
			break
		}
		value := bytes.Trim(l.text, " \t\r")
		switch {
		case len(value) == 0:
		case !json.Valid(value):
			garbage = garbage.to(l.span)
		default:
			flush()
			if err := take(l, value); err != nil {
				return err
			}
		}
	}
	flush()
	return nil
}

// jsonName returns the name that an object has for itself: the first of these
// fields that is a text or a whole number, or nothing.
func jsonName(value []byte) string {
	if len(value) == 0 || value[0] != '{' {
		return ""
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return ""
	}
	for _, key := range []string{"id", "uid", "_id", "name"} {
		raw := fields[key]
		var text string
		var number int64
		switch {
		case json.Unmarshal(raw, &text) == nil && text != "":
			return text
		case len(raw) > 0 && raw[0] != 'n' && json.Unmarshal(raw, &number) == nil:
			return string(raw)
		}
	}
	return ""
}

// lineAt returns the number of the line that holds this byte.
func (f *file) lineAt(pos int) int {
	if f.counted.pos > pos {
		f.counted.pos, f.counted.lines = 0, 0
	}
	f.counted.lines += bytes.Count(f.data[f.counted.pos:pos], []byte("\n"))
	f.counted.pos = pos
	return f.counted.lines + 1
}
