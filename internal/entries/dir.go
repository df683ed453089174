package entries

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// marker is the file in an exported tree that says so. A tree of another
// version is refused.
const (
	marker     = ".kist-export"
	markerText = "kist export 1\n"
)

// tempName is what DirWriter's unfinished files begin with.
const tempName = ".kist-part-"

// Errors that a caller may test for.
var (
	// ErrExists says that a file is there already, with other bytes.
	ErrExists = errors.New("file exists and differs")

	// ErrNotExport says that a directory holds other things than an export.
	ErrNotExport = errors.New("directory is neither empty nor an export")

	// ErrTooLarge says that a file of many entries is larger than MaxSize.
	ErrTooLarge = fmt.Errorf("file of many entries is larger than %d MiB", MaxSize>>20)
)

var (
	errLink    = errors.New("symbolic link: not followed")
	errSpecial = errors.New("neither a file nor a directory")
	errChanged = errors.New("file changed while it was read")
	errForeign = errors.New("not a file name that an export writes")
)

// Read reads a file, a directory or an exported tree, and calls fn for each
// entry and bad for each one that it cannot take; neither may be nil. If fn
// returns an error, reading ends with it. A single file that cannot be read or understood at all
// is an error; in a directory it is a problem.
//
// An exported tree is known by a file ".kist-export" in it. Its files are
// records as they are, and their paths say namespace, name and content type.
func Read(path string, opt Options, fn func(Entry) error, bad func(Problem)) error {
	r := &reader{opt: opt, fn: fn, bad: bad, names: make(map[string]names)}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	switch {
	case info.Mode().IsRegular():
		if err := r.file(path, filepath.Base(path), info); err != nil {
			if r.err != nil {
				return r.err
			}
			return fmt.Errorf("reading %q: %w", path, err)
		}
		return nil
	case !info.IsDir():
		return fmt.Errorf("reading %q: %w", path, errSpecial)
	}
	// A link that was asked for is followed, and none in the directory.
	if link, err := os.Lstat(path); err == nil && link.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
	exported, err := isExport(path)
	if err != nil {
		return err
	}
	return r.tree(path, exported)
}

// isExport reports whether dir is an exported tree.
func isExport(dir string) (bool, error) {
	name := filepath.Join(dir, marker)
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 1024) {
		err = errSpecial
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(name)
	}
	if err == nil && string(text) != markerText {
		err = errors.New("not an export of a version that this program knows")
	}
	if err != nil {
		return false, fmt.Errorf("reading %q: %w", name, err)
	}
	return true, nil
}

// tree reads a directory.
func (r *reader) tree(root string, exported bool) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(root, file)
		if relErr != nil {
			return relErr // unreachable
		}
		rel = filepath.ToSlash(rel)
		problem := func(err error) error {
			r.bad(Problem{Source: file, Err: err})
			return nil
		}
		switch {
		case err != nil:
			return problem(err)
		case d.IsDir():
			return nil
		case exported && (rel == marker || isLitter(d.Name())):
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			return problem(errLink)
		case !d.Type().IsRegular():
			return problem(errSpecial)
		}
		info, err := d.Info()
		if err != nil {
			return problem(err)
		}
		if exported {
			namespace, rest, ok := cutNamespace(rel)
			if !ok {
				return problem(errForeign)
			}
			name, contentType, ok := ParseFileName(rest)
			if !ok {
				return problem(errForeign)
			}
			return r.plain(file, namespace, name, contentType, info)
		}
		if err := r.file(file, rel, info); err != nil {
			if r.err != nil {
				return r.err
			}
			return problem(err)
		}
		return nil
	})
}

// isLitter reports whether desktops leave files of this name everywhere.
func isLitter(name string) bool {
	return name == ".DS_Store" || name == "Thumbs.db" || name == "desktop.ini"
}

// file reads one file by its format.
func (r *reader) file(path, name string, info fs.FileInfo) error {
	var read func(*file) error
	switch extension(name) {
	case "vcf", "vcard":
		read = (*file).readCards
	case "ics", "ical":
		read = (*file).readCalendar
	case "json":
		read = (*file).readJSON
	case "ndjson", "jsonl":
		read = (*file).readNDJSON
	case "csv":
		read = (*file).readCSV
	default:
		if contentTypeOf(name) == typeUnknown {
			var err error
			if read, err = sniff(path, info); err != nil {
				return err
			}
		}
	}
	if read == nil {
		return r.plain(path, Files, usableName(name), contentTypeOf(name), info)
	}
	if info.Size() > MaxSize {
		return ErrTooLarge
	}
	in, err := open(path, info)
	if err != nil {
		return err
	}
	defer in.Close()
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	text, raw, err := decodeText(b)
	if err != nil {
		return err
	}
	return read(&file{reader: r, path: path, name: usableName(name), raw: raw, data: text})
}

// sniff tells a format by how the file begins; nil if it is none.
func sniff(path string, info fs.FileInfo) (func(*file) error, error) {
	in, err := open(path, info)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b := make([]byte, min(1024, info.Size())&^1) // whole UTF-16 units
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	text, _, err := decodeText(b)
	if err != nil {
		return nil, nil
	}
	begin, _, _ := bytes.Cut(bytes.TrimLeft(text, " \t\r\n"), []byte("\n"))
	begin, _, _ = bytes.Cut(begin, []byte("\r"))
	switch name, isBegin := boundary(begin); {
	case name == "VCARD" && isBegin:
		return (*file).readCards, nil
	case name == "VCALENDAR" && isBegin:
		return (*file).readCalendar, nil
	}
	return nil, nil
}

// plain hands on a file as it is.
func (r *reader) plain(path, namespace, name, contentType string, info fs.FileInfo) error {
	return r.emit(Entry{
		Namespace:   namespace,
		Name:        name,
		ContentType: contentType,
		Open:        func() (io.ReadCloser, error) { return open(path, info) },
		Size:        info.Size(),
		Source:      path,
	})
}

// open opens the file that was found, and not another one that has taken its
// name since.
func open(path string, info fs.FileInfo) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && (!os.SameFile(info, now) || now.Size() != info.Size()) {
		err = errChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &exactFile{f, info.Size()}, nil
}

// exactFile reads so many bytes, and fails if there are more or fewer.
type exactFile struct {
	f    *os.File
	left int64
}

func (e *exactFile) Read(b []byte) (int, error) {
	n, err := e.f.Read(b)
	if e.left -= int64(n); e.left < 0 || err == io.EOF && e.left > 0 {
		return 0, errChanged
	}
	return n, err
}

func (e *exactFile) Close() error { return e.f.Close() }

// A DirWriter writes an exported tree:
//
//	DIR/.kist-export
//	DIR/<namespace>/<FileName of the record>
//
// A path that differs from an earlier one in case alone is written otherwise, so
// that no file system takes the two for one.
//
// Files and directories are for their owner only. A file appears under its name
// when it is complete. It is not synced to the disk. Nothing is written outside
// of DIR, whatever links are in it. A DirWriter is not safe for concurrent use.
type DirWriter struct {
	root      *os.Root
	overwrite bool
	naming    naming
	temps     int
}

// NewDirWriter makes dir, or opens it if it is empty or an exported tree. With
// overwrite it takes any directory, and replaces files that differ; without, it
// returns [ErrNotExport] for one that holds other things.
func NewDirWriter(dir string, overwrite bool) (*DirWriter, error) {
	fail := func(err error) (*DirWriter, error) {
		return nil, fmt.Errorf("exporting to %q: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	exported, err := isExport(dir)
	if err != nil {
		return fail(err)
	}
	if !exported && !overwrite {
		d, err := os.Open(dir)
		if err != nil {
			return fail(err)
		}
		_, err = d.Readdirnames(1)
		d.Close()
		if err != io.EOF {
			return fail(ErrNotExport)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	w := &DirWriter{root: root, overwrite: overwrite}
	if !exported {
		// First of all: an export that was cut off is still one.
		if err := w.replace(marker, strings.NewReader(markerText)); err != nil {
			root.Close()
			return fail(err)
		}
	}
	return w, nil
}

// Close frees what the writer holds.
func (w *DirWriter) Close() error { return w.root.Close() }

// Write writes an entry to its file in this namespace. It returns [ErrExists]
// if the file is there with other bytes and may not be replaced; with the same
// bytes it is left alone.
func (w *DirWriter) Write(namespace string, e Entry) error {
	name := w.naming.path(namespace, e.Name, e.ContentType)
	if old := escapedPath(namespace, e.Name, e.ContentType); old != name {
		// One that is there is not to get a second file.
		if _, err := w.root.Lstat(old); err == nil {
			name = old
		}
	}
	if err := w.write(name, e); err != nil {
		return fmt.Errorf("exporting %q: %w", namespace+"/"+e.Name, err)
	}
	return nil
}

func (w *DirWriter) write(name string, e Entry) error {
	info, err := w.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := w.root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		same, err := w.same(name, info, e)
		if err != nil || same {
			return err
		}
		if !w.overwrite {
			return ErrExists
		}
	}
	in, _, err := e.Reader()
	if err != nil {
		return err
	}
	defer in.Close()
	return w.replace(name, in)
}

// same reports whether the file has the bytes of e.
func (w *DirWriter) same(name string, info fs.FileInfo, e Entry) (bool, error) {
	if !info.Mode().IsRegular() {
		return false, nil
	}
	in, size, err := e.Reader()
	if err != nil {
		return false, err
	}
	defer in.Close()
	if size != info.Size() {
		return false, nil
	}
	have, err := w.root.Open(name)
	if err != nil {
		return false, err
	}
	defer have.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(in, a)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, haveErr := io.ReadFull(have, b)
		if haveErr != nil && haveErr != io.EOF && haveErr != io.ErrUnexpectedEOF {
			return false, haveErr
		}
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}

// replace writes a file under a temporary name and then gives it its own.
func (w *DirWriter) replace(name string, in io.Reader) (err error) {
	var (
		f    *os.File
		temp string
	)
	for {
		w.temps++
		temp = fmt.Sprintf("%s%d-%d", tempName, os.Getpid(), w.temps)
		f, err = w.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err == nil {
		err = w.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, w.root.Remove(temp))
	}
	return nil
}
