package entries

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The marks that FileName uses beside "%3a" for the byte 0x3a and, in a second
// form, "!a" for "A".
const (
	markNone = "%_" // the part of the name is empty
	markMore = "%+" // ends a directory: the part of the name goes on in the next
	markExt  = "%." // what follows says the type and is not of the name
	markType = "%;" // what follows is the type
)

// Lengths in bytes, all well under the 255 that file systems take.
const (
	maxSegment = 200
	maxChunk   = 180 // maxSegment less the longest extension and a mark
)

// FileName returns the path, relative and with slashes, of the file for the
// record with this name and content type. Any bytes can be in a name. The path
// can be used on every common system: it is short in each part, differs from
// all others by more than Unicode normalisation, has no part that a system keeps
// for itself, and is never both a file and a directory. Where a tree has another
// path that differs in upper and lower case alone, one of the two takes its
// second form, see [naming]. [ParseFileName] takes all of them.
//
//	ada, text/vcard                   ada.vcf
//	ada, text/calendar                ada.ics
//	trips/2026/Rome.md, text/markdown trips/2026/Rome.md
//	v1.2/x.tar, application/x-tar     v1%2e2/x.tar
//	What?.txt, text/plain             What%3f.txt
//	todo, text/plain                  todo%.txt
//	a, image/x-thing                  a%;image%2fx-thing
//
// "%." goes before an extension that the name does not have: it is there for
// the programs that open the file, and to tell "todo" from "todo.txt", which may
// be another record. A slash makes a directory. A part over 180 bytes goes on in
// a directory, whose name ends with "%+".
func FileName(name, contentType string) string {
	dirs, leaf := cutName(name)
	var b strings.Builder
	for _, dir := range dirs {
		b.WriteString(dirPart(dir, plain) + "/")
	}
	return b.String() + leafPart(leaf, contentType, plain)
}

func cutName(name string) (dirs []string, leaf string) {
	parts := strings.Split(name, "/")
	return parts[:len(parts)-1], parts[len(parts)-1]
}

// dirPart returns what stands for a part of a name before a slash. Directories
// have no dot and no mark of a type, and files have one of them.
func dirPart(part string, f form) string {
	return oneForm(part, f, func(f form) string { return writePart(escape(part, "%2e", f), "") })
}

// leafPart returns what stands for the last part of a name.
func leafPart(part, contentType string, f form) string {
	return oneForm(part, f, func(f form) string { return writeLeaf(part, contentType, f) })
}

// oneForm writes a part. One with upper case that takes several directories has
// its second form alone: else two of them could have a directory in common.
func oneForm(part string, f form, write func(form) string) string {
	out := write(f)
	if f == plain && strings.Contains(out, "/") && hasUpper(part) {
		return write(second)
	}
	return out
}

func writeLeaf(part, contentType string, f form) string {
	chars := escape(part, ".", f)
	ext := extOf[contentType]
	switch {
	case alwaysAdded(contentType):
		return writePart(chars, "."+ext)
	case contentType != "" && natural(part, f) == contentType && length(chars) <= maxSegment:
		return writePart(chars, "")
	case ext != "":
		return writePart(chars, markExt+ext)
	}
	chars = append(escape(part, "%2e", f), markType)
	return writePart(append(chars, escape(contentType, "%2e", escapedForm(contentType))...), "")
}

// ParseFileName returns the name and the content type of a record whose file is
// this, in any form of its parts. It reports whether there are any.
func ParseFileName(file string) (name, contentType string, ok bool) {
	var n, t strings.Builder
	to := &n
	parts := strings.Split(file, "/")
	dirs, leaf := parts[:len(parts)-1], parts[len(parts)-1]
	for _, dir := range dirs {
		dir, goesOn := strings.CutSuffix(dir, markMore)
		if to, ok = unescape(dir, to, &t); !ok {
			return "", "", false
		}
		if !goesOn {
			to.WriteByte('/')
		}
	}
	if i := strings.LastIndex(leaf, markExt); i >= 0 {
		leaf, contentType = leaf[:i], typeOf[leaf[i+len(markExt):]]
	} else if i := strings.LastIndexByte(leaf, '.'); i >= 0 && alwaysAdded(typeOf[leaf[i+1:]]) {
		leaf, contentType = leaf[:i], typeOf[leaf[i+1:]]
	}
	if to, ok = unescape(leaf, to, &t); !ok {
		return "", "", false
	}
	name = n.String()
	switch {
	case to == &t:
		contentType = t.String()
	case contentType == "":
		if contentType = natural(name, plain); contentType == "" {
			return "", "", false
		}
	}
	if !isFileOf(file, name, contentType) {
		return "", "", false
	}
	return name, contentType, true
}

// isFileOf reports whether each part of file is in one of its two forms: there
// are many other ways to escape, and they are not taken.
func isFileOf(file, name, contentType string) bool {
	dirs, leaf := cutName(name)
	for _, dir := range dirs {
		rest, ok := strings.CutPrefix(file, dirPart(dir, plain)+"/")
		if !ok {
			if rest, ok = strings.CutPrefix(file, dirPart(dir, second)+"/"); !ok {
				return false
			}
		}
		file = rest
	}
	return file == leafPart(leaf, contentType, plain) || file == leafPart(leaf, contentType, second)
}

// alwaysAdded reports whether the extension is added to each name of this type:
// the name of a card or an event is an identifier and has none.
func alwaysAdded(contentType string) bool {
	return contentType == typeVCard || contentType == typeCalendar
}

// natural returns the content type that a name says by itself, or nothing. In
// its second form an extension in upper case says nothing to anybody.
func natural(name string, f form) string {
	ext := extension(name)
	if ext == "" || len(ext) > 10 || f == second && !strings.HasSuffix(name, ext) {
		return ""
	}
	for i := range len(ext) {
		if c := ext[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return contentTypeOf(name)
}

// namespaceDir returns the directory of a namespace, which has no upper case.
func namespaceDir(namespace string) string { return dirPart(namespace, plain) }

// cutNamespace splits a path in an exported tree. It reports whether the
// namespace is one that namespaceDir writes.
func cutNamespace(file string) (namespace, rest string, ok bool) {
	var n, t strings.Builder
	rest = file
	for {
		var dir string
		if dir, rest, ok = strings.Cut(rest, "/"); !ok {
			return "", "", false
		}
		dir, goesOn := strings.CutSuffix(dir, markMore)
		if to, ok := unescape(dir, &n, &t); !ok || to != &n {
			return "", "", false
		}
		if !goesOn {
			break
		}
	}
	namespace = n.String()
	return namespace, rest, namespaceDir(namespace)+"/"+rest == file
}

// escape returns the characters of s, each escaped if it must be. dot stands
// for a dot.
func escape(s, dot string, f form) []string {
	out := make([]string, 0, len(s))
	for rest := s; len(rest) > 0; {
		r, size := utf8.DecodeRuneInString(rest)
		c := rest[0]
		switch {
		case c == '.':
			out = append(out, dot)
		case f == plain && isUpper(r):
			out = append(out, rest[:size])
		case c >= 'A' && c <= 'Z':
			out = append(out, "!"+string(c+'a'-'A'))
		case c < utf8.RuneSelf && plainASCII[c], c >= utf8.RuneSelf && plainRune(r):
			out = append(out, rest[:size])
		default:
			size = 1
			out = append(out, hexByte(c))
		}
		rest = rest[size:]
	}
	if f == second && !hasUpper(s) {
		hideLetter(out, s)
	}
	return out
}

func hexByte(c byte) string { return "%" + hex.EncodeToString([]byte{c}) }

func length(chars []string) (n int) {
	for _, c := range chars {
		n += len(c)
	}
	return n
}

// writePart returns what stands for one part of a name, as one file name or as
// directories and one.
func writePart(chars []string, suffix string) string {
	var b strings.Builder
	size := length(chars) + len(suffix)
	for size > maxSegment {
		var chunk strings.Builder
		for {
			c := chars[0]
			size -= len(c)
			if c == "." {
				c = hexByte('.') // this is a directory
			}
			chunk.WriteString(c)
			chars = chars[1:]
			if chunk.Len()+len(chars[0])+len(hexByte(0)) > maxChunk {
				break
			}
		}
		b.WriteString(guard(chunk.String()))
		b.WriteString(markMore + "/")
	}
	if len(chars) == 0 {
		return b.String() + markNone + suffix
	}
	return b.String() + guard(strings.Join(chars, "")+suffix)
}

// guard escapes the first or last byte of a part that a system would hide,
// refuse or cut.
func guard(part string) string {
	if strings.IndexByte(".-~ ", part[0]) >= 0 || isReserved(part) {
		part = hexByte(part[0]) + part[1:]
	}
	if body, ok := strings.CutSuffix(part, " "); ok {
		part = body + hexByte(' ')
	}
	return part
}

// unescape appends what part stands for to one of two builders: to, and from a
// markType on to t. It returns the one that it ended with.
func unescape(part string, to, t *strings.Builder) (*strings.Builder, bool) {
	if part == markNone {
		return to, true
	}
	for i := 0; i < len(part); i++ {
		switch c := part[i]; {
		case c == '!':
			if i++; i == len(part) || part[i] < 'a' || part[i] > 'z' {
				return nil, false
			}
			to.WriteByte(part[i] - 'a' + 'A')
		case c == '%' && strings.HasPrefix(part[i:], markType):
			if to == t {
				return nil, false
			}
			to = t
			i++
		case c == '%':
			if i+2 >= len(part) {
				return nil, false
			}
			d, err := hex.DecodeString(part[i+1 : i+3])
			if err != nil {
				return nil, false
			}
			to.WriteByte(d[0])
			i += 2
		default:
			to.WriteByte(c)
		}
	}
	return to, true
}

var plainASCII = func() (plain [utf8.RuneSelf]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-_,=+@()[]{}~'#& ") {
		plain[c] = true
	}
	return
}()

// reserved names belong to devices on Windows, with any extension.
var reserved = func() map[string]bool {
	m := map[string]bool{"con": true, "prn": true, "aux": true, "nul": true}
	for _, d := range "0123456789" {
		m["com"+string(d)], m["lpt"+string(d)] = true, true
	}
	return m
}()

// isReserved reports whether a system would take the part for a device.
func isReserved(part string) bool {
	base, _, _ := strings.Cut(part, ".")
	return reserved[strings.ToLower(strings.TrimRight(base, " "))]
}

// plainRanges are scripts that people have file names in, with letters, signs
// and emoji only: no combining marks and nothing that normalises to something
// else of the list.
var plainRanges = []struct{ lo, hi rune }{
	{0x00e0, 0x017f}, // Latin
	{0x03ac, 0x03ce}, // Greek
	{0x0430, 0x045f}, // Cyrillic
	{0x05d0, 0x05ea}, // Hebrew
	{0x0620, 0x064a}, // Arabic
	{0x2600, 0x27bf}, // symbols
	{0x3041, 0x3096}, // Hiragana
	{0x30a1, 0x30fc}, // Katakana
	{0x4e00, 0x9fff}, // Han
	{0xac00, 0xd7a3}, // Hangul
	{0x1f300, 0x1faff},
}

// plainRune reports whether r needs no escape. Of characters that differ in
// case alone one at most is plain, and none whose case forms are several
// characters.
func plainRune(r rune) bool {
	in := false
	for _, p := range plainRanges {
		in = in || r >= p.lo && r <= p.hi
	}
	if !in || !unicode.In(r, unicode.L, unicode.S) || r == 'ŉ' || r == 'ΰ' || r == 'ς' {
		return false
	}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if unicode.ToLower(f) != r {
			return false
		}
	}
	return unicode.ToLower(r) == r && unicode.ToLower(unicode.ToUpper(r)) == r
}
