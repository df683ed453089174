package entries

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A form is one of the two ways to write a part of a name. They differ in what
// becomes of upper case, which some file systems ignore.
type form int

const (
	plain  form = iota // upper case stays as it is
	second             // "!a" for "A", other capitals in hex; without any, the first letter in hex
)

// A naming gives records the paths of their files in one tree. Upper case stays
// as it is, unless an earlier path differs from it in case alone: then the part
// is written in its second form, which differs from all others by more. The zero
// value is ready.
type naming struct {
	taken map[string]string // path with its last part in lower case → that part
}

// path returns the path for a record. It depends on the earlier calls.
func (n *naming) path(namespace, name, contentType string) string {
	path := namespaceDir(namespace)
	dirs, leaf := cutName(name)
	for _, dir := range dirs {
		path = n.join(path, func(f form) string { return dirPart(dir, f) })
	}
	return n.join(path, func(f form) string { return leafPart(leaf, contentType, f) })
}

func (n *naming) join(dir string, part func(form) string) string {
	first := part(plain)
	key := dir + "/" + strings.ToLower(first)
	switch have, ok := n.taken[key]; {
	case !ok:
		if n.taken == nil {
			n.taken = make(map[string]string)
		}
		n.taken[key] = first
	case have != first:
		return dir + "/" + part(second)
	}
	return dir + "/" + first
}

// escapedPath returns the path that has each part with upper case in its second
// form, as all trees once had.
func escapedPath(namespace, name, contentType string) string {
	path := namespaceDir(namespace)
	dirs, leaf := cutName(name)
	for _, dir := range dirs {
		path += "/" + dirPart(dir, escapedForm(dir))
	}
	return path + "/" + leafPart(leaf, contentType, escapedForm(leaf))
}

// escapedForm is the form of a part in which no upper case is left.
func escapedForm(part string) form {
	if hasUpper(part) {
		return second
	}
	return plain
}

// hideLetter is the second form of a part without upper case: it writes the first
// letter of chars, which stand for s, in hex. Of a reserved part it is the first
// two, as guard takes the first.
func hideLetter(chars []string, s string) {
	n := 1
	if isReserved(s) {
		n = 2
	}
	for i, c := range chars {
		if n > 0 && len(c) == 1 && c[0] >= 'a' && c[0] <= 'z' {
			chars[i] = hexByte(c[0])
			n--
		} else if n > 0 && len(c) > 1 && c[0] != '%' && unicode.IsLower([]rune(c)[0]) {
			var b strings.Builder
			for j := range len(c) {
				b.WriteString(hexByte(c[j]))
			}
			chars[i] = b.String()
			n--
		}
	}
}

func hasUpper(s string) bool { return strings.ContainsFunc(s, isUpper) }

// isUpper reports whether r is a capital that needs no escape in a part's plain
// form: one of ASCII, or the one capital of a plain small letter.
func isUpper(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'A' && r <= 'Z'
	}
	l := unicode.ToLower(r)
	return l != r && plainRune(l) && unicode.ToUpper(l) == r
}
