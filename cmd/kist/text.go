package main

import (
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// pad cuts or fills s to n characters.
func pad(s string, n int) string {
	have := utf8.RuneCountInString(s)
	if have > n {
		return string([]rune(s)[:n-1]) + "…"
	}
	return s + strings.Repeat(" ", n-have)
}

// encodeLine writes v as one line of JSON.
func encodeLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
