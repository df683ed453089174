package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The search finds a text in every form that it says it looks for, wherever it
// begins, and nothing where nothing is.
func TestSearch(t *testing.T) {
	const text = "Wilhelmina Quackenbush"
	s := newSearch()
	s.add(text)
	var wide []byte
	for _, c := range text {
		wide = append(wide, byte(c), 0)
	}
	for name, data := range map[string]string{
		"as it is":      text,
		"UTF-16":        string(wide),
		"hexadecimal":   hex.EncodeToString([]byte(text)),
		"upper case":    strings.ToUpper(hex.EncodeToString([]byte(text))),
		"base64":        base64.StdEncoding.EncodeToString([]byte(text)),
		"base64, at 1":  base64.StdEncoding.EncodeToString([]byte("x" + text + "yz")),
		"base64, at 2":  base64.StdEncoding.EncodeToString([]byte("xy" + text + "z")),
		"base64, at 3":  base64.StdEncoding.EncodeToString([]byte("xyz" + text)),
		"base64 of URL": base64.RawURLEncoding.EncodeToString([]byte("xy" + text)),
	} {
		for _, before := range []string{"", "a", "bytes before it"} {
			if len(s.in([]byte(before+data+"bytes after it"))) == 0 {
				t.Errorf("%s after %q: not found", name, before)
			}
		}
	}
	if found := s.in(bytes.Repeat([]byte("Wilhelmina Quackenbusk "), 100)); len(found) > 0 {
		t.Errorf("found %v in another text", found)
	}
}

func TestSameTrees(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(a, "x/one", "1")
	if _, _, err := sameTrees(a, b); err == nil {
		t.Error("a file that one lacks is no difference")
	}
	write(b, "x/one", "1")
	if files, size, err := sameTrees(a, b); files != 1 || size != 1 || err != nil {
		t.Errorf("equal: %d files, %d bytes, %v", files, size, err)
	}
	write(b, "two", "2")
	if _, _, err := sameTrees(a, b); err == nil {
		t.Error("a file more is no difference")
	}
	write(a, "two", "3")
	if _, _, err := sameTrees(a, b); err == nil {
		t.Error("other bytes are no difference")
	}
}
