package entries_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kistvault/kist/internal/entries"
)

var fileNames = []struct{ name, contentType, file string }{
	{"ada", "text/vcard", "ada.vcf"},
	{"ada", "text/calendar", "ada.ics"},
	{"ada.vcf", "text/vcard", "ada.vcf.vcf"},
	{"ada.vcf", "text/plain", "ada.vcf%.txt"},
	{"ada.vcard", "text/vcard", "ada.vcard.vcf"},
	{"urn:uuid:4fbe", "text/vcard", "urn%3auuid%3a4fbe.vcf"},
	{"trips/2026/Rome.md", "text/markdown", "trips/2026/Rome.md"},
	{"Rome", "text/markdown", "Rome%.md"},
	{"note.md", "text/plain", "note.md%.txt"},
	{"IMG.JPG", "image/jpeg", "IMG.JPG"},
	{"img.jpeg", "image/jpeg", "img.jpeg"},
	{"data.xyz", "application/octet-stream", "data.xyz"},
	{"README", "application/octet-stream", "README%.bin"},
	{"v1.2/x.tar", "application/x-tar", "v1%2e2/x.tar"},
	{"a", "image/x-thing", "a%;image%2fx-thing"},
	{"a", "", "a%;"},
	{"a", "text/plain; charset=utf-8", "a%;text%2fplain%3b charset=utf-8"},
	{"", "text/plain", "%_%.txt"},
	{"", "text/vcard", "%_.vcf"},
	{"", "", "%;"},
	{"/", "text/vcard", "%_/%_.vcf"},
	{"a//b.md", "text/markdown", "a/%_/b.md"},
	{"../../etc/passwd", "text/plain", "%2e%2e/%2e%2e/etc/passwd%.txt"},
	{".", "text/plain", "%2e%.txt"},
	{".kist-export", "application/octet-stream", "%2ekist-export%.bin"},
	{"...x", "application/octet-stream", "%2e..x"},
	{"dots...", "text/plain", "dots...%.txt"},
	{"dots./x.md", "text/markdown", "dots%2e/x.md"},
	{"con", "text/vcard", "%63on.vcf"},
	{"con.md", "text/markdown", "%63on.md"},
	{"nul /com1/x.md", "text/markdown", "%6eul%20/%63om1/x.md"},
	{"-rf.md", "text/markdown", "%2drf.md"},
	{" a ", "text/x", "%20a %;text%2fx"},
	{"a\x00\n\x7f", "text/vcard", "a%00%0a%7f.vcf"},
	{"\xff\xfe", "text/vcard", "%ff%fe.vcf"},
	{"50%.md", "text/markdown", "50%25.md"},
	{"a\\b:c*?\"<>|", "text/vcard", "a%5cb%3ac%2a%3f%22%3c%3e%7c.vcf"},
	{"ideas 💡.md", "text/markdown", "ideas 💡.md"},
	{"日記.txt", "text/plain", "日記.txt"},
	{"café", "text/vcard", "café.vcf"},
	{"cafe\u0301", "text/vcard", "cafe%cc%81.vcf"},
	{"É", "text/vcard", "É.vcf"},
	{"Å\u212b\u2126", "text/vcard", "Å%e2%84%ab%e2%84%a6.vcf"},
	{"Ada Lovelace: Notes?.txt", "text/plain", "Ada Lovelace%3a Notes%3f.txt"},
	{"Über uns.md", "text/markdown", "Über uns.md"},
	{"IMG.JPG", "text/plain", "IMG.JPG%.txt"},
	{"CON.md", "text/markdown", "%43ON.md"},
	{"a!b.md", "text/markdown", "a%21b.md"},
	{"İŸΣΏЖ.md", "text/markdown", "%c4%b0Ÿ%ce%a3ΏЖ.md"},
	{"ßſıςĸ", "text/vcard", "%c3%9f%c5%bf%c4%b1%cf%82ĸ.vcf"},
}

func TestFileName(t *testing.T) {
	for _, tt := range fileNames {
		if got := entries.FileName(tt.name, tt.contentType); got != tt.file {
			t.Errorf("FileName(%q, %q) = %q, want %q", tt.name, tt.contentType, got, tt.file)
		}
		name, contentType, ok := entries.ParseFileName(tt.file)
		if !ok || name != tt.name || contentType != tt.contentType {
			t.Errorf("ParseFileName(%q) = %q, %q, %v, want %q, %q", tt.file, name, contentType, ok, tt.name, tt.contentType)
		}
	}
}

func TestParseFileNameRefuses(t *testing.T) {
	for _, file := range []string{
		"", "/", "a", "a/b", "A.VCF", "a%.vcf", "a%.md%.md", "a.md%.md", "%62%61.vcf", "%2A.vcf", "%2", "%", "!", "!1", "!A.vcf",
		".vcf", "a/../b.md", "./a.md", "/a.md", "a.md/", "a/b%+", "a%+/b.md", "a%;%;", "a%;text%2fplain", "con.md", "x%.nope",
		"!É.vcf", "!a!B.vcf", "!aB.vcf", "%61%64a.vcf", "ad%61.vcf", "cafe\u0301.vcf", "a\x00.vcf", "a .vcf/b.md", "\xff.vcf", "a%_.vcf", "a%;x/b.md", entries.Marker,
	} {
		if name, contentType, ok := entries.ParseFileName(file); ok {
			t.Errorf("ParseFileName(%q) = %q, %q", file, name, contentType)
		}
	}
}

func TestLongFileNames(t *testing.T) {
	for _, c := range []string{"a", "A", ".", "/", " ", "\x00", "\xff", "💡", "é", "a.", "con", "%"} {
		for n := 150; n <= 512; n += 1 + n%5 {
			if len(c)*n > 600 {
				break
			}
			for _, contentType := range []string{"text/vcard", "text/markdown", "application/octet-stream", "", "x/" + strings.Repeat(c, 60)} {
				for _, name := range []string{strings.Repeat(c, n), strings.Repeat(c, n) + ".md"} {
					checkFileName(t, name, contentType)
				}
			}
		}
	}
}

// Names that differ in case alone become files that differ by more.
func TestNaming(t *testing.T) {
	var naming entries.Naming
	for _, tt := range []struct{ name, contentType, file string }{
		{"README.md", "text/markdown", "README.md"},
		{"Readme.md", "text/markdown", "!readme.md"},
		{"readme.md", "text/markdown", "%72eadme.md"},
		{"README.md", "text/markdown", "README.md"},
		{"Trips/Rome", "text/vcard", "Trips/Rome.vcf"},
		{"Trips/rome", "text/vcard", "Trips/%72ome.vcf"},
		{"trips/Rome", "text/vcard", "%74rips/Rome.vcf"},
		{"trips/rome", "text/vcard", "%74rips/%72ome.vcf"},
		{"CON", "text/vcard", "%43ON.vcf"},
		{"Con", "text/vcard", "!con.vcf"},
		{"cON", "text/vcard", "%63ON.vcf"},
		{"con", "text/vcard", "%63%6fn.vcf"},
		{"É.md", "text/markdown", "É.md"},
		{"é.md", "text/markdown", "%c3%a9.md"},
		{"1É.md", "text/markdown", "1É.md"},
		{"1é.md", "text/markdown", "1%c3%a9.md"},
		{"IMG.jpg", "image/jpeg", "IMG.jpg"},
		{"IMG.JPG", "image/jpeg", "!i!m!g.!j!p!g%.jpg"},
		{"img.jpg", "image/jpeg", "%69mg.jpg"},
	} {
		if got := naming.Path("notes", tt.name, tt.contentType); got != "notes/"+tt.file {
			t.Errorf("the path of %q is %q, want %q", tt.name, got, tt.file)
		}
		if name, contentType, ok := entries.ParseFileName(tt.file); !ok || name != tt.name || contentType != tt.contentType {
			t.Errorf("ParseFileName(%q) = %q, %q, %v, want %q", tt.file, name, contentType, ok, tt.name)
		}
	}
}

// What was exported before upper case stayed comes in as ever.
func TestEscapedFileNames(t *testing.T) {
	for _, tt := range []struct{ name, contentType, file string }{
		{"trips/2026/Rome.md", "text/markdown", "trips/2026/!rome.md"},
		{"Rome", "text/markdown", "!rome%.md"},
		{"Trips/2026/Rome", "text/markdown", "!trips/2026/!rome%.md"},
		{"IMG.JPG", "image/jpeg", "!i!m!g.!j!p!g%.jpg"},
		{"README", "application/octet-stream", "!r!e!a!d!m!e%.bin"},
		{"CON.md", "text/markdown", "!c!o!n.md"},
		{"É", "text/vcard", "%c3%89.vcf"},
		{"Å\u212b\u2126", "text/vcard", "%c3%85%e2%84%ab%e2%84%a6.vcf"},
		{"a", "X/Y", "a%;!x%2f!y"},
		{strings.Repeat("A", 150), "text/vcard", strings.Repeat("!a", 88) + "%+/" + strings.Repeat("!a", 62) + ".vcf"},
	} {
		if name, contentType, ok := entries.ParseFileName(tt.file); !ok || name != tt.name || contentType != tt.contentType {
			t.Errorf("ParseFileName(%q) = %q, %q, %v, want %q", tt.file, name, contentType, ok, tt.name)
		}
	}
}

// A file's name is never the name of a directory that another file needs, even
// where case does not count.
func TestFileNamesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type record struct{ name, contentType string }
		var naming entries.Naming
		files := make(map[string]record)
		dirs := make(map[string]record)
		for _, r := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record {
			return record{drawName().Draw(t, "name"), drawType().Draw(t, "type")}
		}), 2, 30).Draw(t, "records") {
			file := naming.Path("ns", r.name, r.contentType)
			if name, contentType, ok := entries.ParseFileName(strings.TrimPrefix(file, "ns/")); !ok || (record{name, contentType}) != r {
				t.Fatalf("%q is the file %q, which is %q, %q, %v", r, file, name, contentType, ok)
			}
			if err := portable(file); err != nil {
				t.Fatalf("%q is the file %q: %v", r, file, err)
			}
			file = strings.ToLower(file)
			if other, ok := files[file]; ok && other != r {
				t.Fatalf("%q and %q are both %q", other, r, file)
			}
			files[file] = r
			for i := range len(file) {
				if file[i] == '/' {
					dirs[file[:i]] = r
				}
			}
		}
		for file, r := range files {
			if other, ok := dirs[file]; ok {
				t.Fatalf("%q is the file of %q and a directory for %q", file, r, other)
			}
		}
	})
}

func TestFileNameBijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkFileName(t, drawName().Draw(t, "name"), drawType().Draw(t, "type"))
	})
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkFileName checks one name, there and back, and that it is portable.
func checkFileName(t fataler, name, contentType string) {
	t.Helper()
	file := entries.FileName(name, contentType)
	gotName, gotType, ok := entries.ParseFileName(file)
	if !ok || gotName != name || gotType != contentType {
		t.Fatalf("%q, %q is the file %q, which is %q, %q, %v", name, contentType, file, gotName, gotType, ok)
	}
	if err := portable(file); err != nil {
		t.Fatalf("%q, %q is the file %q: %v", name, contentType, file, err)
	}
}

func portable(file string) error {
	for _, part := range strings.Split(file, "/") {
		base, _, _ := strings.Cut(part, ".")
		switch base = strings.ToLower(strings.TrimRight(base, " ")); {
		case part == "" || len(part) > 255:
			return fmt.Errorf("%d bytes in a part", len(part))
		case part[0] == '.' || part[len(part)-1] == '.' || part[len(part)-1] == ' ':
			return fmt.Errorf("dot or space at an end of %q", part)
		case strings.ContainsAny(part, "<>:\"|?*\\\x7f") || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' }):
			return fmt.Errorf("forbidden character in %q", part)
		case !utf8.ValidString(part):
			return fmt.Errorf("invalid UTF-8 in %q", part)
		case base == "con" || base == "prn" || base == "aux" || base == "nul" || len(base) == 4 && (base[:3] == "com" || base[:3] == "lpt") && base[3] >= '0' && base[3] <= '9':
			return fmt.Errorf("reserved name in %q", part)
		}
	}
	return nil
}

// drawName draws names of up to 512 bytes that are trouble more often than not.
func drawName() *rapid.Generator[string] {
	trouble := []string{"a", "b", "A", "/", "//", ".", "..", " ", "%", "%+", "%.", "%;", "%_", "!", "con", "nul", "com1", "README", ".md", ".vcf", ".ics", ".bin", ".x", "\x00", "\n", "\xff", "\xc3", "é", "É", "e\u0301", "💡", "日", "ß", "-", "~"}
	return rapid.Map(rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(trouble), 0, 8), func(s []string) string { return strings.Join(s, "") }),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(trouble), 60, 300), func(s []string) string { return strings.Join(s, "") }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 512), func(b []byte) string { return string(b) }),
		rapid.String(),
	), func(s string) string { return s[:min(len(s), entries.MaxName)] })
}

func drawType() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"text/vcard", "text/calendar", "text/markdown", "application/octet-stream", "application/json", "", "text/plain; charset=utf-8", "TEXT/PLAIN", "."}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 255), func(b []byte) string { return string(b) }),
	)
}
