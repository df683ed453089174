package main

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// A planted is something of the person's that the secondary must not have.
type planted struct {
	what string // the text itself
	form string // how it would be written
}

// minPattern is the length of the shortest pattern that is searched for: what is
// shorter turns up in noise by chance.
const minPattern = 5

// A search looks for many patterns at a time, in each form in which a careless
// program might have stored them.
type search struct {
	texts    map[string]bool                // that are searched for
	patterns map[[minPattern]byte][]pattern // by their first bytes
}

type pattern struct {
	bytes []byte
	planted
}

func newSearch() *search {
	return &search{texts: make(map[string]bool), patterns: make(map[[minPattern]byte][]pattern)}
}

// add searches for a text as it is, as UTF-16, as hexadecimal digits, and as
// base64, in whichever of three places it begins.
func (s *search) add(text string) {
	if len(text) < minPattern || s.texts[text] {
		return
	}
	s.texts[text] = true
	put := func(form string, b []byte) {
		if len(b) >= minPattern {
			key := [minPattern]byte(b)
			s.patterns[key] = append(s.patterns[key], pattern{b, planted{text, form}})
		}
	}
	put("as it is", []byte(text))
	var wide []byte
	for _, u := range utf16.Encode([]rune(text)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	put("UTF-16", wide)
	put("hexadecimal", []byte(hex.EncodeToString([]byte(text))))
	put("hexadecimal", []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))))
	if len(text) < minPattern+2 {
		return
	}
	for shift := range 3 {
		// Only the characters that the text alone decides.
		padded := append(make([]byte, shift), text...)
		code := base64.StdEncoding.EncodeToString(padded[:len(padded)/3*3])
		put("base64", []byte(code[(shift*8+5)/6:]))
	}
}

// addWords searches for the distinctive words of a text, and for its lines.
func (s *search) addWords(text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); len(line) >= 12 {
			s.add(line)
		}
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) }) {
		first, _ := utf8.DecodeRuneInString(word)
		if len(word) >= 7 && (unicode.IsUpper(first) || !isASCII(word)) {
			s.add(word)
		}
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

// in returns which of the texts are in data.
func (s *search) in(data []byte) (found []planted) {
	for i := 0; i+minPattern <= len(data); i++ {
		for _, p := range s.patterns[[minPattern]byte(data[i:])] {
			if bytes.HasPrefix(data[i:], p.bytes) && !slices.Contains(found, p.planted) {
				found = append(found, p.planted)
			}
		}
	}
	return found
}

// A find is what was found in a file.
type find struct {
	file  string
	found []planted
}

// files searches files and directories, contents and names alike. It returns
// what it found, and how many files and bytes it read.
func (s *search) files(paths ...string) (finds []find, files int, size int64, err error) {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			found := s.in([]byte(e.Name()))
			if e.Type().IsRegular() {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				files++
				size += int64(len(b))
				for _, p := range s.in(b) {
					if !slices.Contains(found, p) {
						found = append(found, p)
					}
				}
			}
			if len(found) > 0 {
				finds = append(finds, find{path, found})
			}
			return nil
		})
		if err != nil {
			return nil, 0, 0, err
		}
	}
	return finds, files, size, nil
}

// hexDump prints bytes as they are.
func (d *demo) hexDump(b []byte) { d.quoteOutput([]byte(hex.Dump(b))) }

// inside returns the first n bytes of the longest stretch of a file without a
// zero: that is within something sealed, and not the room between.
func inside(b []byte, n int) (at int, _ []byte) {
	longest, run := 0, 0
	for i, c := range b {
		if run++; c == 0 {
			run = 0
		}
		if run > longest {
			longest, at = run, i+1-run
		}
	}
	return at, b[at:min(at+n, len(b))]
}

// squeezed returns how large the bytes are when they are compressed, in percent.
func squeezed(b []byte) (float64, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(b); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return 100 * float64(out.Len()) / float64(len(b)), nil
}

// tree returns the regular files below a directory, by their paths in it.
func tree(dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			files[filepath.ToSlash(name)], err = os.ReadFile(path)
		}
		return err
	})
	return files, err
}

// sameTrees compares two directories byte for byte. It returns how many files
// and bytes they have.
func sameTrees(a, b string) (files int, size int64, err error) {
	x, err := tree(a)
	if err != nil {
		return 0, 0, err
	}
	y, err := tree(b)
	if err != nil {
		return 0, 0, err
	}
	for name, data := range x {
		other, ok := y[name]
		switch {
		case !ok:
			return 0, 0, fmt.Errorf("%s is in %s alone", name, a)
		case !bytes.Equal(data, other):
			return 0, 0, fmt.Errorf("%s differs between %s and %s", name, a, b)
		}
		size += int64(len(data))
	}
	for name := range y {
		if _, ok := x[name]; !ok {
			return 0, 0, fmt.Errorf("%s is in %s alone", name, b)
		}
	}
	return len(x), size, nil
}
