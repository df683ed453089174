package entries_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistvault/kist/internal/entries"
)

// seed adds messy texts of a format, and files of the demonstration.
func seed(f *testing.F, demo string, texts ...string) {
	f.Helper()
	for _, t := range texts {
		f.Add([]byte(t))
		f.Add([]byte(strings.ReplaceAll(t, "\n", "\r\n")))
		f.Add([]byte(strings.ReplaceAll(t, "\n", "\r")))
	}
	if demo != "" {
		b, err := os.ReadFile(filepath.Join("../../testdata/demo", demo))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// checkCover fails if a byte of data is neither in a piece nor blank.
func checkCover(t *testing.T, data []byte, pieces []entries.Piece) {
	t.Helper()
	covered := make([]bool, len(data))
	for _, p := range pieces {
		for i := p.Start; i < p.End; i++ {
			if covered[i] && p.Bad == nil {
				t.Errorf("byte %d is in two pieces", i)
			}
			covered[i] = true
		}
	}
	var rest []byte
	for i, b := range data {
		if !covered[i] {
			rest = append(rest, b)
		}
	}
	rest = bytes.ReplaceAll(rest, []byte("\ufeff"), nil)
	if len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("neither taken nor reported: %q", rest)
	}
}

// checkSelf fails if a value does not read as itself.
func checkSelf(t *testing.T, pieces []entries.Piece, split func([]byte) []entries.Piece) {
	t.Helper()
	for _, p := range pieces {
		if p.Bad != nil || p.Value == nil {
			continue
		}
		var again []entries.Piece
		for _, q := range split(p.Value) {
			if q.Bad != nil || q.Value != nil {
				again = append(again, q)
			}
		}
		if len(again) != 1 || again[0].Bad != nil || !bytes.Equal(again[0].Value, p.Value) || again[0].Name != p.Name {
			t.Errorf("value %q\nwith name %q reads as\n%+v", p.Value, p.Name, again)
		}
	}
}

func FuzzSplitCards(f *testing.F) {
	seed(f, "contacts.vcf",
		"BEGIN:VCARD\nVERSION:3.0\nUID:a\nEND:VCARD\n",
		"junk\n\ufeffBEGIN:VCARD\nUI\n D:b\nNOTE:x\n y\nEND:VCA\n RD\n\nBEGIN:VCARD\nFN:lost\nBEGIN:VCARD\nitem1.UID;X=\"a:b\":c\nEND:VCARD",
		"BEGIN:VCARD\nAGENT:\nBEGIN:VCARD\nUID:inner\nEND:VCARD\nUID;ENCODING=QUOTED-PRINTABLE:a=\nb=3D=\nc\nEND:VCARD\n x",
		"BEGIN:VCARD\nAGENT:BEGIN:VCARD\nEND:VCARD\nNOTE;QUOTED-PRINTABLE:x=\nEND:VCARD\nEND:VCARD\n",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces := entries.SplitCards(data)
		checkCover(t, data, pieces)
		checkSelf(t, pieces, entries.SplitCards)
	})
}

func FuzzSplitCalendar(f *testing.F) {
	event := "BEGIN:VEVENT\nUID:a\nDTSTART;TZID=Z:20260101T000000\nEND:VEVENT\n"
	zone := "BEGIN:VTIMEZONE\nTZID:Z\nBEGIN:STANDARD\nEND:STANDARD\nEND:VTIMEZONE\n"
	seed(f, "calendar.ics",
		"BEGIN:VCALENDAR\nVERSION:2.0\n"+zone+event+"END:VCALENDAR\n",
		"BEGIN:VCALENDAR\nVERSION:2.0\n"+zone+event+"BEGIN:VTODO\nUID:b\nBEGIN:VALARM\nEND:VTODO\n"+event+"X-A:1\nBEGIN:VTODO\nUID:c\nEND:VTODO\nEND:VCALENDAR\n",
		"x\nBEGIN:VCALENDAR\nno property\n"+event+"BEGIN:VEVENT\nUID:d\nEND:VEVENT",
		"BEGIN:VCALENDAR\nBEGIN:VEVENT\nBEGIN:VEVENT\nEND:VALARM\nEND:VEVENT\nBEGIN:VCALENDAR\nEND:VEVENT\nBEGIN:\nEND:VCALENDAR\n",
		"BEGIN:VCALENDAR\n"+event+"X-LAST:1",
		"BEGIN:VCALENDAR\n"+event+strings.Replace(event, "UID:a", "UID:a\nRECURRENCE-ID:1", 1)+strings.Replace(event, "UID:a", "UID:a\nSUMMARY:other", 1)+"END:VCALENDAR\n",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces := entries.SplitCalendar(data)
		checkSelf(t, pieces, entries.SplitCalendar)

		// A line that is nowhere may only be of a time zone.
		if bytes.Contains(bytes.ToUpper(data), []byte("TIMEZONE")) {
			return
		}
		var all []byte
		for _, p := range pieces {
			all = append(append(all, p.Value...), data[p.Start:p.End]...)
		}
		for _, l := range entries.Lines(data) {
			if !strings.Contains(string(all), strings.TrimSpace(l)) {
				t.Errorf("neither taken nor reported: %q", l)
			}
		}
	})
}

func FuzzSplitNDJSON(f *testing.F) {
	seed(f, "bookmarks.ndjson", "{\"id\":\"a\"}\n\n oops\n[1]\n{\"id\":7}", "{}")
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces := entries.SplitNDJSON(data)
		checkCover(t, data, pieces)
		checkSelf(t, pieces, entries.SplitNDJSON)
	})
}

func FuzzSplitArray(f *testing.F) {
	seed(f, "", `[{"id":"a"}, [1, 2],"x" , null]`, `[1,2`, `[1,,2]`, `[] x`, `[`)
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
			return
		}
		values, end, err := entries.SplitArray(data)
		if err == nil {
			end = len(data)
		}
		// Values in order, with nothing but the array's own signs between them.
		rest := data[:end]
		for _, v := range values {
			i := bytes.Index(rest, v)
			if i < 0 || len(bytes.Trim(rest[:i], "[, \t\r\n")) > 0 {
				t.Fatalf("%q is not next in %q", v, rest)
			}
			rest = rest[i+len(v):]
		}
		if len(bytes.Trim(rest, "[], \t\r\n")) > 0 {
			t.Errorf("neither taken nor reported: %q", rest)
		}
	})
}

func FuzzSplitCSV(f *testing.F) {
	seed(f, "expenses.csv",
		"id,note\n1,a\n\n2,\"b\nc\"\n3,\"d\"\"e\"\n4\n5,\"open\n6,x\"y\n7,\"z",
		"id;a,b\n1;2\n", "\"id\n\",x\n1,2", "\"")
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces := entries.SplitCSV(data)
		checkCover(t, data, pieces)
		checkSelf(t, pieces, entries.SplitCSV)
	})
}

func FuzzDecodeText(f *testing.F) {
	f.Add([]byte("\xff\xfeA\x00"))
	f.Add([]byte("\xfe\xff\xd8\x3c\xdf\x31"))
	f.Add([]byte("\xef\xbb\xbfx"))
	f.Add([]byte("\xff\xfe\x00\xd8"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, raw, err := entries.DecodeText(data)
		if err == nil && !bytes.HasSuffix(raw, text) {
			t.Errorf("text %q is not the end of %q", text, raw)
		}
	})
}

func FuzzParseFileName(f *testing.F) {
	for _, s := range []string{"ada.vcf", "a/%_%.bin", "!a%;x%2fy", "a%+/b.md", "%_", "%63on.md", "a%.vcf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		if name, contentType, ok := entries.ParseFileName(file); ok {
			again, againType, ok := entries.ParseFileName(entries.FileName(name, contentType))
			if !ok || again != name || againType != contentType {
				t.Errorf("%q is the name %q, which comes back as %q, %q, %v", file, name, again, againType, ok)
			}
		}
		if name, contentType, ok := entries.ParseFileName(entries.FileName(file, "text/x-"+file)); !ok || name != file || contentType != "text/x-"+file {
			t.Errorf("name %q comes back as %q, %q, %v", file, name, contentType, ok)
		}
	})
}
