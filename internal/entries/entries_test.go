package entries_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/emersion/go-ical"
	"github.com/emersion/go-vcard"
	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/internal/entries"
)

const demo = "../../testdata/demo"

// got is what one Read gave.
type got struct {
	entries  []entries.Entry // with Value read and Open nil
	problems []string        // base of source, and text
}

func read(t testing.TB, path string, opt entries.Options) (got, error) {
	t.Helper()
	var g got
	err := entries.Read(path, opt, func(e entries.Entry) error {
		r, size, err := e.Reader()
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if int64(len(b)) != size {
			t.Errorf("%q: %d bytes, and the size says %d", e.Name, len(b), size)
		}
		e.Value, e.Open = bytes.Clone(b), nil
		g.entries = append(g.entries, e)
		return nil
	}, func(p entries.Problem) {
		g.problems = append(g.problems, fmt.Sprintf("%s: %v", filepath.Base(p.Source), p.Err))
	})
	return g, err
}

func mustRead(t testing.TB, path string) got {
	t.Helper()
	g, err := read(t, path, entries.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g got) names() (names []string) {
	for _, e := range g.entries {
		names = append(names, e.Name)
	}
	return names
}

// records returns the entries by address and type.
func (g got) records(t testing.TB) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for _, e := range g.entries {
		key := fmt.Sprintf("%q %q %q", e.Namespace, e.Name, e.ContentType)
		if _, ok := m[key]; ok {
			t.Errorf("%s came twice", key)
		}
		m[key] = string(e.Value)
	}
	return m
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// export writes all entries to dir.
func export(t testing.TB, dir string, g got) {
	t.Helper()
	w, err := entries.NewDirWriter(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, e := range g.entries {
		if err := w.Write(e.Namespace, e); err != nil {
			t.Fatal(err)
		}
	}
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func utf16Text(s string, big bool) string {
	var b []byte
	for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(s))...) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

const (
	ada  = "BEGIN:VCARD\nVERSION:3.0\nUID:ada\nFN:Ada\nEND:VCARD\n"
	bob  = "BEGIN:VCARD\nVERSION:4.0\nitem1.UID;VALUE=text:bob\nFN:Bob\nEND:VCARD\n"
	bob2 = "BEGIN:VCARD\nVERSION:4.0\nUID:bob\nFN:Robert\nEND:VCARD\n"
	anon = "BEGIN:VCARD\nVERSION:3.0\nFN:Nobody\nEND:VCARD\n"

	zone  = "BEGIN:VTIMEZONE\nTZID:Berlin\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0100\nEND:STANDARD\nEND:VTIMEZONE\n"
	zone2 = "BEGIN:VTIMEZONE\nTZID:Rome\nEND:VTIMEZONE\n"
	head  = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//EN\n"
	foot  = "END:VCALENDAR\n"
	e1    = "BEGIN:VEVENT\nUID:e1\nDTSTART;TZID=\"Berlin\":20260101T100000\nBEGIN:VALARM\nUID:alarm\nEND:VALARM\nEND:VEVENT\n"
	e1b   = "BEGIN:VEVENT\nUID:e1\nRECURRENCE-ID:20260108T100000Z\nSUMMARY:BEGIN:VEVENT\nEND:VEVENT\n"
	e1c   = "BEGIN:VEVENT\nUID:e1\nSUMMARY:other\nEND:VEVENT\n"
	todo  = "BEGIN:VTODO\nUID:t1\nSUMMARY:x\nEND:VTODO\n"
	noUID = "BEGIN:VJOURNAL\nSUMMARY:x\nEND:VJOURNAL\n"
)

// TestFiles reads one file. Each expected entry is name, tab, value; a name
// that ends with "*" is a beginning.
func TestFiles(t *testing.T) {
	long := strings.Repeat("n", 513)
	for _, tt := range []struct {
		name, file, text string
		column           string
		want             []string
		problems         []string
	}{
		// vCard.
		{"two cards", "a.vcf", ada + "\n" + bob, "", []string{"ada\t" + ada, "bob\t" + bob}, nil},
		{"crlf", "a.vcf", crlf(ada + bob), "", []string{"ada\t" + crlf(ada), "bob\t" + crlf(bob)}, nil},
		{"cr", "a.vcf", strings.ReplaceAll(ada+bob, "\n", "\r"), "", []string{"ada\t" + strings.ReplaceAll(ada, "\n", "\r"), "bob\t" + strings.ReplaceAll(bob, "\n", "\r")}, nil},
		{"mixed line ends", "a.vcf", crlf(ada) + bob, "", []string{"ada\t" + crlf(ada), "bob\t" + bob}, nil},
		{"lower case, no last line end", "a.vcf", "begin:vcard\nuid:x\nend:vcard", "", []string{"x\tbegin:vcard\nuid:x\nend:vcard"}, nil},
		{"byte order mark", "a.vcf", "\ufeff" + ada, "", []string{"ada\t" + ada}, nil},
		{"joined files with marks", "a.vcf", "\ufeff" + ada + "\ufeff" + bob, "", []string{"ada\t" + ada, "bob\t" + bob}, nil},
		{"utf-16 little", "a.vcf", utf16Text("BEGIN:VCARD\nUID:Zoë 💡\nEND:VCARD\n", false), "", []string{"Zoë 💡\tBEGIN:VCARD\nUID:Zoë 💡\nEND:VCARD\n"}, nil},
		{"utf-16 big", "a.vcf", utf16Text(crlf(ada), true), "", []string{"ada\t" + crlf(ada)}, nil},
		{"by content", "export", "\n" + ada, "", []string{"ada\t" + ada}, nil},
		{"by content, utf-16", "export.dat", utf16Text(ada, false), "", []string{"ada\t" + ada}, nil},
		{"folded uid", "a.vcf", "BEGIN:VCARD\nUID:a\n b\n\tc\nEND:VCARD\n", "", []string{"abc\tBEGIN:VCARD\nUID:a\n b\n\tc\nEND:VCARD\n"}, nil},
		{"escaped uid", "a.vcf", "BEGIN:VCARD\nUID: a\\,b\\\\c\\;d \nEND:VCARD\n", "", []string{"a,b\\c;d\tBEGIN:VCARD\nUID: a\\,b\\\\c\\;d \nEND:VCARD\n"}, nil},
		{"no uid", "a.vcf", anon, "", []string{"sha256-*\t" + anon}, nil},
		{"blank uid", "a.vcf", "BEGIN:VCARD\nUID: \nEND:VCARD\n", "", []string{"sha256-*\tBEGIN:VCARD\nUID: \nEND:VCARD\n"}, nil},
		{"long uid", "a.vcf", "BEGIN:VCARD\nUID:" + long + "\nEND:VCARD\n", "", []string{"sha256-*\tBEGIN:VCARD\nUID:" + long + "\nEND:VCARD\n"}, nil},
		{"reserved uid", "a.vcf", "BEGIN:VCARD\nUID:\x00about\nEND:VCARD\n", "", []string{"sha256-*\tBEGIN:VCARD\nUID:\x00about\nEND:VCARD\n"}, nil},
		{"same card twice", "a.vcf", ada + bob + ada, "", []string{"ada\t" + ada, "bob\t" + bob}, nil},
		{"same uid, other card", "a.vcf", bob + bob2 + bob2, "", []string{"bob\t" + bob, "bob-*\t" + bob2}, nil},
		{"missing end", "a.vcf", "BEGIN:VCARD\nUID:lost\n" + ada, "", []string{"ada\t" + ada}, []string{"a.vcf:1: lines 1 to 2: card without END:VCARD"}},
		{"missing end at the end", "a.vcf", ada + "BEGIN:VCARD\nUID:lost\n", "", []string{"ada\t" + ada}, []string{"a.vcf:6: lines 6 to 7: card without END:VCARD"}},
		{"garbage", "a.vcf", "hello\n" + ada + "END:VCARD\n\nmore\n" + bob, "", []string{"ada\t" + ada, "bob\t" + bob},
			[]string{"a.vcf:1: text outside of a card", "a.vcf:7: lines 7 to 9: text outside of a card"}},
		{"indented garbage after a card", "a.vcf", ada + "  x\n" + bob, "", []string{"ada\t" + ada, "bob\t" + bob}, []string{"a.vcf:6: text outside of a card"}},
		{"line that is no property stays", "a.vcf", "BEGIN:VCARD\n???\n\nUID:x\nEND:VCARD\n", "", []string{"x\tBEGIN:VCARD\n???\n\nUID:x\nEND:VCARD\n"}, nil},
		{"agent", "a.vcf", "BEGIN:VCARD\nAGENT:\n\nBEGIN:VCARD\nUID:in\nEND:VCARD\nUID:out\nEND:VCARD\n", "",
			[]string{"out\tBEGIN:VCARD\nAGENT:\n\nBEGIN:VCARD\nUID:in\nEND:VCARD\nUID:out\nEND:VCARD\n"}, nil},
		{"agent on its line", "a.vcf", "BEGIN:VCARD\nAGENT: BEGIN : VCARD\nUID:in\nEND:VCARD\nUID:out\nEND:VCARD\n", "",
			[]string{"out\tBEGIN:VCARD\nAGENT: BEGIN : VCARD\nUID:in\nEND:VCARD\nUID:out\nEND:VCARD\n"}, nil},
		{"agent of version 3.0", "a.vcf", "BEGIN:VCARD\nAGENT:BEGIN:VCARD\\nUID:in\\nEND:VCARD\\n\nUID:out\nEND:VCARD\n", "",
			[]string{"out\tBEGIN:VCARD\nAGENT:BEGIN:VCARD\\nUID:in\\nEND:VCARD\\n\nUID:out\nEND:VCARD\n"}, nil},
		{"soft breaks", "a.vcf", "BEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:x=\nUID:no=\nBEGIN:x\nUID;ENCODING=Quoted-Printable:a=3D=\nb\nEND:VCARD\n", "",
			[]string{"a=b\tBEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:x=\nUID:no=\nBEGIN:x\nUID;ENCODING=Quoted-Printable:a=3D=\nb\nEND:VCARD\n"}, nil},
		{"soft break before the end", "a.vcf", "BEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:x=\nEND:VCARD\n" + ada, "",
			[]string{"sha256-*\tBEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:x=\nEND:VCARD\n", "ada\t" + ada}, nil},
		{"photo that looks like text", "a.vcf", "BEGIN:VCARD\nUID:p\nPHOTO;ENCODING=b:AAAA\n END:VCARD\nEND:VCARD\n", "",
			[]string{"p\tBEGIN:VCARD\nUID:p\nPHOTO;ENCODING=b:AAAA\n END:VCARD\nEND:VCARD\n"}, nil},
		{"empty", "a.vcf", "", "", nil, nil},

		// iCalendar.
		{"one entry is the file", "a.ics", "\ufeff\n" + head + zone + zone2 + e1 + foot + "\n", "", []string{"e1\t\ufeff\n" + head + zone + zone2 + e1 + foot + "\n"}, nil},
		{"several entries", "a.ics", head + zone + zone2 + e1 + todo + e1b + noUID + foot, "",
			[]string{"e1\t" + head + zone + e1 + e1b + foot, "t1\t" + head + todo + foot, "sha256-*\t" + head + noUID + foot}, nil},
		{"zone and property at the end", "a.ics", crlf(head + e1 + todo + zone + "X-A:1\n" + foot), "",
			[]string{"e1\t" + crlf(head+"X-A:1\n"+zone+e1+foot), "t1\t" + crlf(head+"X-A:1\n"+todo+foot)}, nil},
		{"several calendars", "a.ics", head + e1 + foot + "\n" + head + zone2 + todo + foot, "",
			[]string{"e1\t" + head + e1 + foot, "t1\t" + head + zone2 + todo + foot}, nil},
		{"same uid, other event", "a.ics", head + e1 + e1c + e1 + foot, "", []string{"e1\t" + head + e1 + foot, "e1-*\t" + head + e1c + foot}, nil},
		{"missing end of event", "a.ics", head + "BEGIN:VEVENT\nUID:lost\n" + todo + foot, "", []string{"t1\t" + head + todo + foot}, []string{"a.ics:4: lines 4 to 5: component without END:VEVENT"}},
		{"missing end of alarm", "a.ics", head + "BEGIN:VEVENT\nBEGIN:VALARM\nEND:VEVENT\n" + todo + foot, "", []string{"t1\t" + head + todo + foot},
			[]string{"a.ics:4: lines 4 to 6: component with a BEGIN or END that does not match"}},
		{"cut off", "a.ics", head + todo + strings.TrimSuffix(e1, "END:VEVENT\n"), "", []string{"t1\t" + head + todo + foot},
			[]string{"a.ics:8: lines 8 to 13: component without END:VEVENT", "a.ics:1: calendar without END:VCALENDAR: its complete entries are taken"}},
		{"cut off after an event", "a.ics", head + strings.TrimSuffix(todo, "\n"), "", []string{"t1\t" + head + todo + foot},
			[]string{"a.ics:1: calendar without END:VCALENDAR: its complete entries are taken"}},
		{"garbage in a calendar", "a.ics", "x\n" + head + "what\n" + todo + foot, "", []string{"t1\t" + head + todo + foot},
			[]string{"a.ics:1: text outside of a calendar", "a.ics:5: line in a calendar that is no property"}},
		{"empty calendar", "a.ics", head + foot, "", nil, []string{"a.ics:1: lines 1 to 4: calendar without entries"}},
		{"calendar by content", "invite", head + todo + foot, "", []string{"t1\t" + head + todo + foot}, nil},

		// JSON.
		{"object", "a.json", " {\"id\": 1}\n", "", []string{"a.json\t {\"id\": 1}\n"}, nil},
		{"array", "a.json", "\ufeff[{\"id\" : \"x\"},\n {\"uid\":7}, [ 1 ] ,{\"_id\":\"m\",\"name\":\"n\"}]", "",
			[]string{"x\t{\"id\" : \"x\"}", "7\t{\"uid\":7}", "sha256-*\t[ 1 ]", "m\t{\"_id\":\"m\",\"name\":\"n\"}"}, nil},
		{"array cut off", "a.json", "[{\"id\":\"x\"},\n{\"id\":", "", []string{"x\t{\"id\":\"x\"}"}, []string{"a.json:1: the rest of the array is not JSON"}},
		{"more after the array", "a.json", "[1]\n2", "", []string{"sha256-*\t1"}, []string{"a.json:1: more text after the JSON value"}},
		{"no json", "a.json", "{", "", nil, []string{"a.json:1: not JSON"}},
		{"lines", "a.ndjson", "{\"name\":\"x\"}\r\n\n oops\nno\n  {\"id\":null}", "", []string{"x\t{\"name\":\"x\"}", "sha256-*\t{\"id\":null}"}, []string{"a.ndjson:3: lines 3 to 4: not JSON"}},

		// CSV.
		{"rows", "a.csv", "\ufeffname, ID \r\nA,1\r\n\r\nB,\"2\"", "", []string{"1\tname, ID \r\nA,1\r\n", "2\tname, ID \r\nB,\"2\""}, nil},
		{"column", "a.csv", "name,ID\nA,1\n", "Name", []string{"A\tname,ID\nA,1\n"}, nil},
		{"no name", "a.csv", "x,y\n1,2\n", "", []string{"sha256-*\tx,y\n1,2\n"}, nil},
		{"semicolons", "a.csv", "id;x;\"y,z,w\"\n1;2;3\n", "", []string{"1\tid;x;\"y,z,w\"\n1;2;3\n"}, nil},
		{"quoted line ends", "a.csv", "id,x\n1,\"a\n\"\"b\"\"\"\n2,c\n", "", []string{"1\tid,x\n1,\"a\n\"\"b\"\"\"\n", "2\tid,x\n2,c\n"}, nil},
		{"bad rows", "a.csv", "id,x\n1,a\n2\n3,\"open\n4,d\n5,\"e\"f\n6,g\n", "", []string{"1\tid,x\n1,a\n", "4\tid,x\n4,d\n", "6\tid,x\n6,g\n"},
			[]string{"a.csv:3: row with 1 fields, and the header has 2", "a.csv:4: row with a quote that does not match", "a.csv:6: row with a quote that does not match"}},
		{"header alone", "a.csv", "id,x\n", "", nil, nil},

		// Files.
		{"plain", "Some note.TXT", "x\r\n", "", []string{"Some note.TXT\tx\r\n"}, nil},
		{"plain, empty", "nothing", "", "", []string{"nothing\t"}, nil},
		{"plain, not sniffed", "card.txt", ada, "", []string{"card.txt\t" + ada}, nil},
		{"broken utf-16 is a file", "x.dat", "\xff\xfe\x00\xd8", "", []string{"x.dat\t\xff\xfe\x00\xd8"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), tt.file), tt.text)
			opt := entries.Options{NameColumn: tt.column}
			g, err := read(t, path, opt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.problems, g.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			var have []string
			for i, e := range g.entries {
				name := e.Name
				if i < len(tt.want) {
					if pre, ok := strings.CutSuffix(strings.SplitN(tt.want[i], "\t", 2)[0], "*"); ok && strings.HasPrefix(name, pre) {
						name = pre + "*"
					}
				}
				have = append(have, name+"\t"+string(e.Value))
			}
			if diff := cmp.Diff(tt.want, have); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}

			again, err := read(t, path, opt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.names(), again.names()); diff != "" {
				t.Errorf("names of a second import (-first +second):\n%s", diff)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.vcf")
	write(t, big, "")
	if err := os.Truncate(big, entries.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, column, want string }{
		{filepath.Join(dir, "absent"), "", "no such file"},
		{write(t, filepath.Join(dir, "a.csv"), "id,x\n"), "nom", `no column "nom": the columns are ["id" "x"]`},
		{write(t, filepath.Join(dir, "b.csv"), "id,\"x\n1,2\n"), "", "reading the header line"},
		{write(t, filepath.Join(dir, "odd.vcf"), "\xff\xfeA"), "", "not valid UTF-16"},
		{write(t, filepath.Join(dir, "lone.vcf"), "\xfe\xff\xd8\x00\x00A"), "", "not valid UTF-16"},
		{big, "", "larger than 256 MiB"},
	} {
		g, err := read(t, tt.path, entries.Options{NameColumn: tt.column})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", filepath.Base(tt.path), err, tt.want)
		}
		if len(g.entries)+len(g.problems) != 0 {
			t.Errorf("%s: %+v beside the error", filepath.Base(tt.path), g)
		}
	}

	stop := errors.New("stop")
	n := 0
	err := entries.Read(demo, entries.Options{}, func(entries.Entry) error { n++; return stop }, func(p entries.Problem) { t.Error(p) })
	if err != stop || n != 1 {
		t.Errorf("error %v after %d entries, want the callback's after one", err, n)
	}
}

// The demonstration's files come in complete, and libraries understand each
// entry by itself.
func TestDemo(t *testing.T) {
	g := mustRead(t, demo)
	if len(g.problems) != 0 {
		t.Errorf("problems: %q", g.problems)
	}
	count := make(map[string]int)
	for _, e := range g.entries {
		count[e.Namespace]++
		switch e.ContentType {
		case "text/vcard":
			card, err := vcard.NewDecoder(bytes.NewReader(e.Value)).Decode()
			if err != nil {
				t.Errorf("%s: %v", e.Source, err)
			} else if uid := card.Value(vcard.FieldUID); card.Get("AGENT") == nil && // the library knows no cards in cards
				uid != e.Name && !strings.HasPrefix(e.Name, "sha256-") {
				t.Errorf("%s: named %q, and the UID is %q", e.Source, e.Name, uid)
			}
		case "text/calendar":
			cal, err := ical.NewDecoder(bytes.NewReader(e.Value)).Decode()
			if err != nil {
				t.Errorf("%s: %v", e.Source, err)
				continue
			}
			var out bytes.Buffer // the encoder checks what a calendar must have
			if err := ical.NewEncoder(&out).Encode(cal); err != nil {
				t.Errorf("%s: %v", e.Source, err)
			}
			for _, c := range cal.Children {
				if uid, _ := c.Props.Text(ical.PropUID); c.Name != ical.CompTimezone && uid != e.Name {
					t.Errorf("%s: named %q, and the UID is %q", e.Source, e.Name, uid)
				}
			}
			for _, ev := range cal.Events() {
				if tz := ev.Props.Get(ical.PropDateTimeStart).Params.Get(ical.ParamTimezoneID); tz != "" && !bytes.Contains(e.Value, []byte("TZID:"+tz)) {
					t.Errorf("%s: no time zone %q", e.Source, tz)
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"contacts": 28, "calendar": 19, "files": 11 + 10 + 1 + 10}, count); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}

	dir := filepath.Join(t.TempDir(), "out")
	export(t, dir, g)
	if diff := cmp.Diff(g.records(t), mustRead(t, dir).records(t)); diff != "" {
		t.Errorf("after export and import (-want +got):\n%s", diff)
	}
	for _, want := range []string{
		"files/notes/README.md",
		"files/notes/projects/garden shed/sketch.png",
		"files/notes/recipes/パンケーキ.md",
		"files/bm-0001%.json",
		"contacts/phone-0001.vcf",
		"calendar/weekly-supper@calendar.example.ics",
	} {
		if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
			t.Error(err)
		}
	}
}
