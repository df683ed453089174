// Package entries reads files of personal data into named entries, and writes
// entries back to files.
//
// [Read] takes a file or a directory and hands on one [Entry] after the other;
// [DirWriter] writes entries into a directory, which Read reads back with the
// same namespaces, names, content types and bytes.
//
//	.vcf .vcard     a card each       contacts   named by UID
//	.ics .ical      a UID each        calendar   named by UID
//	.json           an array: an element each; else the file
//	.ndjson .jsonl  a line each       files      named by "id", "uid", "_id" or "name"
//	.csv            a row each        files      named by a column
//	directory       what is in it, by these rules
//	anything else   the file          files      named by its path
//
// A file whose extension says nothing is looked at: one that begins like a card
// or a calendar is read as one.
//
// The value of an entry is its original bytes: nothing is parsed and written
// again, so a property that no library knows survives. There are three
// exceptions. Text in UTF-16 with a byte order mark becomes UTF-8. A calendar
// of several entries is taken apart, and each entry gets the calendar's own
// lines, the time zones that it refers to and its components, so that it is a
// calendar by itself; of a calendar with one entry, every byte stays. A CSV row
// gets the header line in front.
//
// An entry without a name of its own is named by a hash of its bytes, so
// importing a file again changes nothing. If a second entry in one call has the
// name of an earlier one, it is dropped when it is identical, and gets a hash
// added to its name when it differs.
//
// One bad entry is reported as a [Problem], and the others come in. A line
// that is not understood inside a card or a component is no problem: it is kept
// with the rest.
//
// Files of many entries are read whole, up to [MaxSize]. Single files of any
// size are opened by whoever takes the entry, and streamed.
//
// The package knows nothing of vaults and starts no goroutine.
package entries

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Limits.
const (
	// MaxName is the longest name in bytes that an entry is given; a vault takes
	// no longer one.
	MaxName = 512

	// MaxSize is the size in bytes up to which a file of many entries is read.
	// It is held in memory whole.
	MaxSize = 256 << 20
)

// Default namespaces.
const (
	Contacts = "contacts"
	Calendar = "calendar"
	Files    = "files"
)

// An Entry is one named value.
type Entry struct {
	Namespace   string // where it belongs if nobody says otherwise
	Name        string // 1 to MaxName bytes after import from anything but an exported tree
	ContentType string

	// Value holds the bytes if Open is nil. It may share memory with other
	// entries: it must not be changed, and is better copied than kept.
	Value []byte

	// Open opens a file's bytes, of which there are Size. Reading fails if the
	// file turns out to have more or fewer. Nil if the bytes are in Value.
	Open func() (io.ReadCloser, error)
	Size int64

	Source string // file:line, or file
}

// Reader returns the entry's bytes, wherever they are, and their number.
func (e Entry) Reader() (io.ReadCloser, int64, error) {
	if e.Open == nil {
		return io.NopCloser(bytes.NewReader(e.Value)), int64(len(e.Value)), nil
	}
	r, err := e.Open()
	return r, e.Size, err
}

// A Problem is one entry or file that could not be taken.
type Problem struct {
	Source string // file:line, or file
	Err    error
}

// Options say how to read. The zero value is good for everything.
type Options struct {
	// NameColumn is the CSV column that names the entries. A file without it is
	// refused. If it is empty, the first of the columns id, uid and name does,
	// and else a hash.
	NameColumn string
}

// hashName names what has no usable name.
func hashName(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256-" + hex.EncodeToString(sum[:16])
}

// usableName returns name, or a hash of it if a vault would refuse it: too
// long, or in the range that vaults keep for themselves. It is a hash of the
// name and not of the value, so that a changed value keeps its place.
func usableName(name string) string {
	if len(name) > MaxName || name[0] == 0 {
		return hashName([]byte(name))
	}
	return name
}

// names gives out the names of one namespace.
type names map[string][sha256.Size]byte // name → hash of the value

// pick returns the name for this value, and false if the same value has it
// already. fallback is hashed if name is empty.
func (n names) pick(name string, value, fallback []byte) (string, bool) {
	if name == "" {
		name = hashName(fallback)
	}
	name = usableName(name)
	sum := sha256.Sum256(value)
	suffix := "-" + hex.EncodeToString(sum[:8])
	for _, try := range []string{
		name,
		usableName(name + suffix),
		"sha256-" + hex.EncodeToString(sum[:]), // somebody's name looks like ours
	} {
		have, taken := n[try]
		if !taken {
			n[try] = sum
			return try, true
		}
		if have == sum {
			return "", false
		}
	}
	return "", false // unreachable short of a SHA-256 collision
}

// reader is one call of Read.
type reader struct {
	opt   Options
	fn    func(Entry) error
	bad   func(Problem)
	names map[string]names // namespace → names
	err   error            // what fn returned: reading ends
}

// file is a file of many entries while it is read.
type file struct {
	*reader
	path string // for Source
	name string // as a record: the base name, or the path in the imported directory
	raw  []byte // as it is
	data []byte // UTF-8 without byte order mark

	counted struct{ pos, lines int } // line ends before pos, for lineAt
}

// take hands on one entry. It returns an error if reading must end.
func (f *file) take(namespace, name, contentType string, value, fallback []byte, line int) error {
	known := f.reader.names[namespace]
	if known == nil {
		known = make(names)
		f.reader.names[namespace] = known
	}
	name, ok := known.pick(name, value, fallback)
	if !ok {
		return nil
	}
	return f.emit(Entry{
		Namespace:   namespace,
		Name:        name,
		ContentType: contentType,
		Value:       value[:len(value):len(value)],
		Source:      fmt.Sprintf("%s:%d", f.path, line),
	})
}

func (r *reader) emit(e Entry) error {
	r.err = r.fn(e)
	return r.err
}

// problem reports the lines of s.
func (f *file) problem(s span, err error) {
	if s.last > s.line {
		err = fmt.Errorf("lines %d to %d: %w", s.line, s.last, err)
	}
	f.bad(Problem{Source: fmt.Sprintf("%s:%d", f.path, s.line), Err: err})
}
