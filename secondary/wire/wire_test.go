package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func seeded(label string) (b [32]byte) { return sha256.Sum256([]byte(label)) }

func verifyKey(label string) keys.VerifyKey {
	return keys.NewSigningKey(seeded(label)).Public()
}

func tag(label string) keys.Tag {
	h := seeded(label)
	return keys.Tag(h[:16])
}

func header() []byte {
	b := rawvault.New()
	commit, _ := b.ControlCommit()
	return commit.Commit.Raw
}

func bundle() []byte {
	v := rawvault.New()
	b, _ := v.ControlCommit()
	return rawvault.Encode(b)
}

// messages returns at least one message of every type.
func messages() []wire.Message {
	size := uint64(7)
	a, b := tag("a"), tag("b")
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	registration := wire.Registration{Sign: verifyKey("sign"), Auth: verifyKey("auth"), KEMHash: seeded("kem"), Tags: wire.Tags{a, b}}
	registration.Device = registration.ID()
	data := bundle()
	return []wire.Message{
		&wire.Hello{Proto: 1, Nonce: seeded("c"), Audience: "wss://vault.example.org/"},
		&wire.SHello{Server: verifyKey("server"), Nonce: seeded("s"), Binding: wire.BindingExporter, Time: 1795280000000, Signature: [64]byte{1}},
		&wire.Auth{Vault: keys.VaultID{1}, Role: wire.RoleDevice, Device: keys.DeviceID{2}, Signature: [64]byte{3}},
		&wire.Auth{Vault: keys.VaultID{1}, Role: wire.RoleOwner},
		&wire.Create{Token: wire.Token{9}, Sign: verifyKey("sign"), Auth: verifyKey("auth")},
		&wire.OK{},
		&wire.Fail{Code: wire.CodeDenied},
		&wire.Bind{Size: 3, Root: commitlog.EmptyRoot, Flags: wire.BindLive | wire.BindStubs},
		&wire.Bind{Root: commitlog.EmptyRoot, Tags: wire.Tags{}},
		&wire.Bind{Root: commitlog.EmptyRoot, Tags: wire.Tags{a, b}},
		&wire.Bound{Size: 3, Root: commitlog.EmptyRoot, Last: header(), MaxObject: 1 << 26, Retention: 30},
		&wire.Bound{Last: []byte{}},
		&wire.Download{Size: 2, Left: 5, Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{1}}, {Kind: wire.ItemBundle, Data: data}, wire.NewStub(5, 6), {Kind: wire.ItemPart, Data: []byte{1, 2}}}},
		&wire.Upload{Items: []wire.Item{{Kind: wire.ItemBundle, Data: data}}},
		&wire.Upload{Condition: &size, Control: &wire.Control{Epoch: 1, Devices: []wire.Registration{registration}}, Items: []wire.Item{{Kind: wire.ItemBundle, Data: data}}},
		&wire.Upload{Control: &wire.Control{Epoch: 2, Devices: []wire.Registration{}}, Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{1}}}},
		&wire.Upload{Control: &wire.Control{Epoch: 2, Devices: []wire.Registration{}, Moved: wire.MovedHere}, Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{1}}}},
		&wire.Uploaded{Results: []wire.Result{{Seq: 1, ID: 2}, {Seq: 2, Code: wire.CodeFork, Text: "because"}}},
		&wire.Object{Hash: commitlog.EmptyRoot, Size: 1 << 20, Offset: 5, Data: []byte{1, 2, 3}},
		&wire.Object{Hash: commitlog.EmptyRoot, Size: 1 << 20, Data: []byte{}},
		&wire.Have{Hash: commitlog.EmptyRoot, Bytes: 1 << 20, Whole: true},
		&wire.Fetch{Request: 1, Commit: 2, Index: 3, Object: true, Offset: 4, Length: 5},
		&wire.Blobs{Request: 1, Size: 7, Data: []byte("content")},
		&wire.Blobs{Request: 1, Absent: true, Data: []byte{}},
		&wire.Mark{Token: 1},
		&wire.Marked{Token: 1, Size: 2},
		&wire.Ping{Token: 1 << 63},
		&wire.Pong{},
		&wire.Unbind{},
		&wire.Unbound{},
		wire.NewError(wire.CodeBusy, "later"),
		&wire.Refill{Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{1}}}},
		&wire.Refilled{Size: 5},
		&wire.Refilled{Size: 5, Code: wire.CodeFork, Text: "because"},
		&wire.Proof{Request: 1, From: 2, To: 3, Hashes: []commitlog.Hash{}},
		&wire.Proof{Request: 1, From: 2, To: 3, Hashes: []commitlog.Hash{commitlog.EmptyRoot, {1}}},
		&wire.Snapshot{Request: 1, Size: 5},
		&wire.Snapshot{Request: 1, Size: 5, Tag: a, Commit: 5, Index: 3, Tags: wire.Tags{}},
		&wire.Snapshot{Request: 1, Size: 5, Tag: a, Commit: 4, Tags: wire.Tags{a, b}},
		&wire.State{Request: 1, Items: []wire.Item{excerpt(), excerpt()}},
		&wire.State{Request: 1, Done: true, Items: []wire.Item{excerpt()}},
		&wire.State{Request: 1, Done: true, Items: []wire.Item{}},
		&wire.Checkpoint{Request: 1, Data: []byte{}},
		&wire.Checkpoint{Request: 1, Size: 5, Device: keys.DeviceID{1}, Data: []byte{}},
		&wire.Checkpoint{Request: 1, Data: []byte{1, 2, 3}},
		&wire.Read{Request: 1, To: 1},
		&wire.Read{Request: 1, After: 6, To: 9, Tags: wire.Tags{}},
		&wire.Read{Request: 1, After: 6, To: 9, Tags: wire.Tags{a, b}},
		&wire.Commits{Request: 1, Items: []wire.Item{{Kind: wire.ItemBundle, Data: data}, {Kind: wire.ItemBundle, Data: data}}},
		&wire.Commits{Request: 1, Items: []wire.Item{{Kind: wire.ItemPart, Data: []byte{1}}}},
		&wire.Commits{Request: 1, Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{1}}}},
	}
}

// excerpt returns an item of STATE: the first change of a commit.
func excerpt() wire.Item {
	v := rawvault.New()
	b, _ := v.ControlCommit()
	data := commitlog.AppendExcerpt(nil, 1, b.Commit.Raw, 1)
	return wire.Item{Kind: wire.ItemExcerpt, Data: commitlog.AppendExcerptChange(data, 0, b.Commit.List, nil)}
}

func encode(t testing.TB, m wire.Message) []byte {
	t.Helper()
	frame, err := wire.Append(nil, m)
	if err != nil {
		t.Fatalf("encoding %v: %v", m.Type(), err)
	}
	return frame
}

func TestRoundTrip(t *testing.T) {
	seen := make(map[wire.Type]bool)
	for _, m := range messages() {
		seen[m.Type()] = true
		frame := encode(t, m)
		got, err := wire.Parse(frame)
		if err != nil {
			t.Errorf("parsing %v: %v", m.Type(), err)
			continue
		}
		if diff := cmp.Diff(m, got, cmp.AllowUnexported()); diff != "" {
			t.Errorf("%v: want − got +:\n%s", m.Type(), diff)
		}
	}
	for n := range 256 {
		if m := wire.NewMessage(wire.Type(n)); m != nil && (m.Type() != wire.Type(n) || !seen[m.Type()]) {
			t.Errorf("type %d: message says %d; in messages(): %v", n, m.Type(), seen[m.Type()])
		}
	}
}

// The encoding is fixed: other implementations depend on it.
func TestEncoding(t *testing.T) {
	size := uint64(7)
	tests := []struct {
		m    wire.Message
		want string
	}{
		{&wire.OK{}, "05" + "80"},
		{&wire.Ping{Token: 300}, "1b" + "81" + "19012c"},
		{&wire.Mark{Token: 1}, "19" + "81" + "01"},
		{&wire.Bind{Size: 1, Flags: 3}, "10" + "84" + "01" + "5820" + strings.Repeat("00", 32) + "f6" + "03"},
		{&wire.Bind{Tags: wire.Tags{}}, "10" + "84" + "00" + "5820" + strings.Repeat("00", 32) + "80" + "00"},
		{&wire.Error{Code: 7, Text: "x", Action: 5, Request: 9}, "1f" + "85" + "07" + "6178" + "05" + "00" + "09"},
		{&wire.Download{Size: 2, Left: 3, Items: []wire.Item{wire.NewStub(4, 5)}}, "12" + "00000003" + "820203" + "04" + "00000010" + "0000000000000004" + "0000000000000005"},
		{&wire.Upload{Condition: &size, Items: []wire.Item{{Kind: wire.ItemLast, Data: []byte{0xaa}}}}, "13" + "00000003" + "8207f6" + "03" + "00000001" + "aa"},
		{&wire.Blobs{Request: 1, Size: 2, Data: []byte{1, 2}}, "18" + "84" + "01" + "f4" + "02" + "420102"},
		{&wire.Proof{Request: 1, From: 2, To: 300}, "20" + "84" + "01" + "02" + "19012c" + "80"},
		{&wire.Snapshot{Request: 1, Size: 2}, "21" + "86" + "01" + "02" + "50" + strings.Repeat("00", 16) + "00" + "00" + "f6"},
		{&wire.State{Request: 1, Done: true}, "22" + "00000003" + "8201f5"},
		{&wire.Checkpoint{Request: 1, Size: 2}, "23" + "84" + "01" + "02" + "50" + strings.Repeat("00", 16) + "40"},
		{&wire.Read{Request: 1, After: 2, To: 3, Tags: wire.Tags{}}, "24" + "84" + "01" + "02" + "03" + "80"},
		{&wire.Commits{Request: 1, Items: []wire.Item{{Kind: wire.ItemPart, Data: []byte{0xaa}}}}, "25" + "00000002" + "8101" + "02" + "00000001" + "aa"},
		{&wire.Have{Bytes: 9, Whole: true}, "16" + "84" + "5820" + strings.Repeat("00", 32) + "09" + "f5" + "00"},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(encode(t, test.m)); got != test.want {
			t.Errorf("%v:\n got %s\nwant %s", test.m.Type(), got, test.want)
		}
	}
}

// What is not the one encoding of a message is refused.
func TestParseRefuses(t *testing.T) {
	zeros := strings.Repeat("00", 32)
	tests := map[string]string{
		"empty":                         "",
		"type alone":                    "05",
		"unknown type":                  "0080",
		"type after the last":           "2680",
		"trailing byte":                 "058000",
		"field too many":                "058100",
		"field too few":                 "1b80",
		"map instead of array":          "1ba0",
		"indefinite array":              "1b9f00ff",
		"number not shortest":           "1b81180a",
		"number as float":               "1b81f90000",
		"negative number":               "1b8120",
		"tagged":                        "1b81c100",
		"null for a number":             "1b81f6",
		"short byte string for a hash":  "1085" + "00" + "4100" + "00f603",
		"array for a hash":              "1085" + "00" + "80" + "00f603",
		"indefinite byte string":        "1085" + "00" + "5f4100ff" + "00f603",
		"unknown flag":                  "108501" + "5820" + zeros + "00f604",
		"text that is not UTF-8":        "1f850761ff050009",
		"text with a line break":        "1f8507610a050009",
		"error without code":            "1f850060050009",
		"error without action":          "1f850760000009",
		"head beyond the frame":         "1200000004820203",
		"no items":                      "1200000003820203",
		"item beyond the frame":         "1200000003820203" + "0400000011" + strings.Repeat("00", 16),
		"unknown item":                  "1200000003820203" + "0500000001" + "00",
		"short stub":                    "1200000003820203" + "040000000f" + strings.Repeat("00", 15),
		"stub in an upload":             "130000000382f6f6" + "0400000010" + strings.Repeat("00", 16),
		"short bundle":                  "1200000003820203" + "0100000001" + "00",
		"item after a part":             "1200000003820203" + "0200000001" + "00" + "0400000010" + strings.Repeat("00", 16),
		"item before a last part":       "1200000003820203" + "0400000010" + strings.Repeat("00", 16) + "0300000001" + "00",
		"condition beside two items":    "13000000038207f6" + "0300000001" + "00" + "0200000001" + "00",
		"condition on a first part":     "13000000038207f6" + "0200000001" + "00",
		"result with ID and code":       "148181" + "84010203" + "60",
		"result with neither":           "148181" + "84010000" + "60",
		"no results":                    "148180",
		"fetch without number":          "178600" + "0100f40001",
		"absent and there":              "188401f50140",
		"more data than the size":       "1884" + "01f401" + "420000",
		"object that is no size":        "1584" + "5820" + zeros + "000040",
		"audience without path":         "018301" + "5820" + zeros + "6a7773733a2f2f612e62",
		"token of a wrong length":       "0484" + "4101" + "5820" + zeros + "5820" + zeros + "5840" + zeros + zeros,
		"authority key of small order":  "0484" + "50" + zeros[:32] + "5820" + zeros + "5820" + zeros + "5840" + zeros + zeros,
		"device without id":             "0384" + "50" + zeros[:32] + "01" + "50" + zeros[:32] + "5840" + zeros + zeros,
		"role that is only signed":      "0384" + "50" + zeros[:32] + "03" + "50" + zeros[:32] + "5840" + zeros + zeros,
		"unknown binding":               "0285" + "5820" + zeros + "5820" + zeros + "02" + "00" + "5840" + zeros + zeros,
		"proof without number":          "2084" + "00" + "01" + "02" + "80",
		"proof from nothing":            "2084" + "01" + "00" + "02" + "80",
		"proof backwards":               "2084" + "01" + "03" + "02" + "80",
		"proof with a short hash":       "2084" + "01" + "01" + "02" + "81" + "4100",
		"proof of many hashes":          "2084" + "01" + "01" + "02" + "982a" + strings.Repeat("5820"+zeros, 42),
		"unknown failure":               "068101",
		"excerpt in a download":         "1200000003820203" + "050000010d" + strings.Repeat("00", 269),
		"excerpt in an upload":          "130000000382f6f6" + "050000010d" + strings.Repeat("00", 269),
		"excerpt in commits":            "25000000028101" + "050000010d" + strings.Repeat("00", 269),
		"short excerpt":                 "22000000038201f4" + "050000010b" + strings.Repeat("00", 267),
		"bundle in a state":             "22000000038201f4" + "010000010d" + strings.Repeat("00", 269),
		"stub in a state":               "22000000038201f4" + "0400000010" + strings.Repeat("00", 16),
		"part in a state":               "22000000038201f4" + "0200000001" + "00",
		"state without content":         "22000000038201f4",
		"state without number":          "22000000038200f5",
		"stub in commits":               "25000000028101" + "0400000010" + strings.Repeat("00", 16),
		"commits without any":           "25000000028101",
		"commits without number":        "25000000028100" + "0200000001" + "00",
		"commits after a part":          "25000000028101" + "0200000001" + "00" + "0300000001" + "00",
		"snapshot without number":       "2186" + "00" + "05" + "50" + zeros[:32] + "00" + "00" + "f6",
		"snapshot of nothing":           "2186" + "01" + "00" + "50" + zeros[:32] + "00" + "00" + "f6",
		"snapshot of a log too large":   "2186" + "01" + "1b0000010000000000" + "50" + zeros[:32] + "00" + "00" + "f6",
		"snapshot after its size":       "2186" + "01" + "05" + "50" + "01" + zeros[:30] + "06" + "00" + "f6",
		"snapshot after no namespace":   "2186" + "01" + "05" + "50" + zeros[:32] + "05" + "00" + "f6",
		"snapshot after no commit":      "2186" + "01" + "05" + "50" + "01" + zeros[:30] + "00" + "00" + "f6",
		"snapshot after an index":       "2186" + "01" + "05" + "50" + zeros[:32] + "00" + "01" + "f6",
		"snapshot with equal tags":      "2186" + "01" + "05" + "50" + zeros[:32] + "00" + "00" + "82" + "50" + zeros[:32] + "50" + zeros[:32],
		"checkpoint without number":     "2384" + "00" + "00" + "50" + zeros[:32] + "40",
		"checkpoint of a log too large": "2384" + "01" + "1b0000010000000000" + "50" + zeros[:32] + "40",
		"checkpoint of no bytes":        "2384" + "01" + "00" + "50" + zeros[:32] + "f6",
		"read without number":           "2484" + "00" + "00" + "01" + "f6",
		"read of nothing":               "2484" + "01" + "01" + "01" + "f6",
		"read backwards":                "2484" + "01" + "02" + "01" + "f6",
		"read of a log too large":       "2484" + "01" + "00" + "1b0000010000000000" + "f6",
		"read with tags descending":     "2484" + "01" + "00" + "01" + "82" + "50" + "01" + zeros[:30] + "50" + zeros[:32],
	}
	for name, text := range tests {
		frame, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m, err := wire.Parse(frame); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: got %+v, %v; want ErrProtocol", name, m, err)
		}
	}
}

// Each frame, cut or lengthened anywhere, is refused or means something else.
func TestParseCut(t *testing.T) {
	for _, m := range messages() {
		frame := encode(t, m)
		for n := range frame {
			if got, err := wire.Parse(frame[:n]); err == nil && !bytes.Equal(encode(t, got), frame[:n]) {
				t.Errorf("%v cut to %d bytes parses as %+v", m.Type(), n, got)
			}
		}
		if got, err := wire.Parse(append(frame, 0)); err == nil {
			t.Errorf("%v with a byte more parses as %+v", m.Type(), got)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	big := wire.Item{Kind: wire.ItemBundle, Data: make([]byte, wire.MaxItem)}
	tests := map[string]wire.Message{
		"frame too large":  &wire.Download{Items: []wire.Item{big, big, big}},
		"item too large":   &wire.Download{Items: []wire.Item{{Kind: wire.ItemBundle, Data: make([]byte, wire.MaxItem+1)}}},
		"too many tags":    &wire.Bind{Tags: make(wire.Tags, wire.MaxTags+1)},
		"equal tags":       &wire.Bind{Tags: wire.Tags{{1}, {1}}},
		"too much data":    &wire.Object{Size: 1 << 30, Data: make([]byte, wire.MaxRange+1)},
		"text too long":    &wire.Error{Code: 1, Action: 1, Text: strings.Repeat("x", wire.MaxText+1)},
		"no audience":      &wire.Hello{Proto: 1},
		"large checkpoint": &wire.Checkpoint{Request: 1, Data: make([]byte, commitlog.MaxCheckpoint+1)},
		"large excerpt":    &wire.State{Request: 1, Items: []wire.Item{{Kind: wire.ItemExcerpt, Data: make([]byte, wire.MaxItem+1)}}},
	}
	for name, m := range tests {
		if frame, err := wire.Append([]byte("before"), m); err == nil || string(frame) != "before" {
			t.Errorf("%s: got %d bytes, %v; want an error and what was there before", name, len(frame), err)
		}
	}
}

func TestCutAndAssemble(t *testing.T) {
	for _, n := range []int{269, wire.MaxItem, wire.MaxItem + 1, 3 * wire.MaxItem, commitlog.MaxBundle} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i % 251)
		}
		items := wire.Cut(data)
		if want := (n + wire.MaxItem - 1) / wire.MaxItem; len(items) != want {
			t.Errorf("%d bytes: %d items, want %d", n, len(items), want)
		}
		var a wire.Assembler
		for k, item := range items {
			frame := encode(t, &wire.Upload{Items: []wire.Item{item}})
			m, err := wire.Parse(frame)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Add(m.(*wire.Upload).Items[0])
			if err != nil {
				t.Fatalf("%d bytes, item %d: %v", n, k, err)
			}
			if last := k == len(items)-1; (got != nil) != last || last && !bytes.Equal(got, data) || a.Partial() == last {
				t.Errorf("%d bytes, item %d of %d: bundle of %d bytes, partial %v", n, k, len(items), len(got), a.Partial())
			}
		}
	}
}

func TestAssemblerRefuses(t *testing.T) {
	part := wire.Item{Kind: wire.ItemPart, Data: make([]byte, wire.MaxItem)}
	last := wire.Item{Kind: wire.ItemLast, Data: []byte{1}}
	whole := wire.Item{Kind: wire.ItemBundle, Data: bundle()}
	tests := map[string][]wire.Item{
		"last part of nothing":    {last},
		"bundle within a bundle":  {part, whole},
		"stub within a bundle":    {part, wire.NewStub(1, 1)},
		"bundle without end":      slicesRepeat(part, commitlog.MaxBundle/wire.MaxItem+1),
		"parts that are too few":  {{Kind: wire.ItemPart, Data: []byte{1}}, last},
		"last part after another": {part, last, last},
	}
	for name, items := range tests {
		var a wire.Assembler
		var err error
		for _, i := range items {
			if _, err = a.Add(i); err != nil {
				break
			}
		}
		if !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: got %v, want ErrProtocol", name, err)
		}
	}
}

func slicesRepeat(i wire.Item, n int) (out []wire.Item) {
	for range n {
		out = append(out, i)
	}
	return out
}

func TestCodes(t *testing.T) {
	seen := make(map[wire.Code]bool)
	for _, c := range wire.Codes() {
		if seen[c] || c == 0 {
			t.Errorf("code %d twice, or zero", c)
		}
		seen[c] = true
		err := c.Err()
		if err == nil || wire.CodeOf(fmt.Errorf("doing it: %w", err)) != c {
			t.Errorf("code %d: error %v has code %d", c, err, wire.CodeOf(err))
		}
		if a := c.Action(); a < wire.ActionRetry || a > wire.ActionOwner {
			t.Errorf("code %d: action %d", c, a)
		}
		e := wire.NewError(c, "text")
		if !errors.Is(e, err) || wire.CodeOf(e) != c || e.Error() != err.Error()+": text" {
			t.Errorf("code %d: as an error %q", c, e)
		}
	}
	if c := wire.CodeOf(errors.New("other")); c != 0 {
		t.Errorf("an error without a code has %d", c)
	}
	unknown := &wire.Error{Code: 9999, Text: "new", Action: wire.ActionStop}
	if unknown.Unwrap() != nil || !strings.Contains(unknown.Error(), `"new" (code 9999)`) || wire.Code(9999).Action() != wire.ActionStop {
		t.Errorf("an unknown code is %q", unknown)
	}
	if err := (&wire.Result{Seq: 1, Code: wire.CodeFork}).Err(); !errors.Is(err, commitlog.ErrFork) {
		t.Errorf("result with the code of a fork: %v", err)
	}
	if err := (&wire.Result{Seq: 1, ID: 1}).Err(); err != nil {
		t.Errorf("result with an ID: %v", err)
	}
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                  "plain",
		"a\x1b[31mred\n":         "a?[31mred?",
		"Müsli":                  "M??sli",
		strings.Repeat("x", 300): strings.Repeat("x", wire.MaxText),
	} {
		if got := wire.CleanText(in); got != want {
			t.Errorf("CleanText(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTranscript(t *testing.T) {
	tr := wire.Transcript{
		Audience: "wss://a/", Proto: 1, ClientNonce: [32]byte{1}, ServerNonce: [32]byte{2}, Server: keys.VerifyKey{3},
		Binding: wire.BindingExporter, Exporter: bytes.Repeat([]byte{4}, 32), Time: 5,
	}
	z := strings.Repeat("00", 31)
	want := "0008" + hex.EncodeToString([]byte("wss://a/")) + "0001" + "01" + z + "02" + z + "03" + z + "01" + "0020" + strings.Repeat("04", 32) + "0000000000000005"
	if got := hex.EncodeToString(tr.Bytes()); got != want {
		t.Errorf("T1:\n got %s\nwant %s", got, want)
	}
	if got := hex.EncodeToString(tr.ClientBytes(wire.RoleDevice, [16]byte{6})); got != "01"+"06"+strings.Repeat("00", 15)+want {
		t.Errorf("client's: %s", got)
	}
}

func TestRegistrationID(t *testing.T) {
	kem := bytes.Repeat([]byte{7}, keys.KEMPublicSize)
	public := keys.DevicePublic{Sign: verifyKey("sign"), Auth: verifyKey("auth"), KEM: kem}
	r := wire.Registration{Sign: public.Sign, Auth: public.Auth, KEMHash: sha256.Sum256(kem)}
	if r.ID() != public.ID() {
		t.Errorf("a registration gives device %v, its keys give %v", r.ID(), public.ID())
	}
}

func TestCanonicalURL(t *testing.T) {
	good := map[string]string{
		"wss://vault.example.org":           "wss://vault.example.org/",
		"wss://Vault.Example.ORG:443/":      "wss://vault.example.org/",
		"ws://127.0.0.1:80":                 "ws://127.0.0.1/",
		"ws://127.0.0.1:8080/":              "ws://127.0.0.1:8080/",
		"wss://[2001:DB8::1]:7370/kist":     "wss://[2001:db8::1]:7370/kist",
		"WSS://host/a%20b":                  "wss://host/a%20b",
		"wss://host:":                       "wss://host/",
		"ws://[::1]":                        "ws://[::1]/",
		"wss://host:443/x/":                 "wss://host/x/",
		"wss://" + strings.Repeat("a", 506): "",
		"wss://host/" + "x":                 "wss://host/x",
	}
	for in, want := range good {
		got, err := wire.CanonicalURL(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalURL(%.60q) = %q, %v; want %q", in, got, err, want)
		}
		if want == "" {
			continue
		}
		if again, err := wire.CanonicalURL(got); again != got || err != nil {
			t.Errorf("CanonicalURL(%q) = %q, %v: not a fixed point", got, again, err)
		}
	}
	for _, in := range []string{
		"", "wss://", "https://host", "host", "wss:host", "//host", "wss://user@host", "wss://host?q", "wss://host/?",
		"wss://host#f", "wss://host#", "wss://ho st", "wss://host/\n", "wss://host/ü", "wss://[fe80::1%25eth0]", "wss://host:x",
	} {
		if got, err := wire.CanonicalURL(in); err == nil {
			t.Errorf("CanonicalURL(%q) = %q, want an error", in, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:80": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:80": true, "::1": true, "[::1]": true,
		"[::ffff:127.0.0.1]:1": true, "0.0.0.0": false, "10.0.0.1:80": false, "example.org": false, "localhost.example.org": false, "": false, "[::]:80": false,
	} {
		if got := wire.Loopback(host); got != want {
			t.Errorf("Loopback(%q) = %v", host, got)
		}
	}
}

func testInvite() wire.Invite {
	return wire.Invite{
		Server: verifyKey("server"), Token: wire.Token{1, 2, 3}, Expires: time.UnixMilli(1795280000123).UTC(),
		Binding: wire.BindingExporter, URL: "wss://vault.example.org:7370/",
	}
}

func TestInvite(t *testing.T) {
	want := testInvite()
	text := want.String()
	if !strings.HasPrefix(text, "kistinvite1") {
		t.Errorf("invite begins with %.20q", text)
	}
	got, err := wire.ParseInvite(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b wire.Token) bool { return a == b })); diff != "" {
		t.Errorf("want − got +:\n%s", diff)
	}
	for _, bad := range []string{
		"", text[:len(text)-1], text + "q", strings.ToUpper(text), " " + text, strings.Replace(text, "kistinvite1", "kistticket1", 1),
		strings.Replace(text, "q", "p", 1),
	} {
		if _, err := wire.ParseInvite(bad); !errors.Is(err, wire.ErrInviteText) {
			t.Errorf("ParseInvite(%.20q…) = %v, want ErrInviteText", bad, err)
		}
	}
}

func TestInviteRefusesContent(t *testing.T) {
	for name, change := range map[string]func(*wire.Invite){
		"address":    func(i *wire.Invite) { i.URL = "wss://Vault.example.org/" },
		"no address": func(i *wire.Invite) { i.URL = "" },
		"key":        func(i *wire.Invite) { i.Server = keys.VerifyKey{} },
		"expiry":     func(i *wire.Invite) { i.Expires = time.UnixMilli(1 << 48) },
		"binding":    func(i *wire.Invite) { i.Binding = 2 },
	} {
		i := testInvite()
		change(&i)
		if _, err := wire.ParseInvite(i.String()); !errors.Is(err, wire.ErrInviteText) {
			t.Errorf("%s: got %v, want ErrInviteText", name, err)
		}
	}
}

func TestTokenPrintsNothing(t *testing.T) {
	i := testInvite()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d", "%q"} {
		if s := fmt.Sprintf(verb, i.Token); s != "[secret]" {
			t.Errorf("%s prints %s", verb, s)
		}
		create := &wire.Create{Token: wire.Token{0xab, 0xab, 0xab, 0xab}}
		if s := fmt.Sprintf(verb, create); strings.Contains(s, "171") || strings.Contains(s, "abab") || strings.Contains(s, "0xab") {
			t.Errorf("CREATE with %s prints %s", verb, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range messages() {
		f.Add(encode(f, m))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := wire.Parse(frame)
		if err != nil {
			if !errors.Is(err, wire.ErrProtocol) {
				t.Fatalf("error that is not ErrProtocol: %v", err)
			}
			return
		}
		again, err := wire.Append(nil, m)
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("parsed %+v encodes to %x, %v", m, again, err)
		}
	})
}

func FuzzInvite(f *testing.F) {
	f.Add(testInvite().String())
	f.Fuzz(func(t *testing.T, text string) {
		i, err := wire.ParseInvite(text)
		if err == nil && i.String() != text {
			t.Fatalf("parsed invite encodes to %s", i)
		}
	})
}

func FuzzCanonicalURL(f *testing.F) {
	f.Add("wss://vault.example.org:443/a%20b")
	f.Add("ws://[::1]:7370")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := wire.CanonicalURL(s)
		if err != nil {
			return
		}
		if again, err := wire.CanonicalURL(u); err != nil || again != u {
			t.Fatalf("%q becomes %q and then %q, %v", s, u, again, err)
		}
	})
}

// What a frame makes the parser allocate is bounded by a small multiple of it.
func TestParseAllocation(t *testing.T) {
	// The most elements that a head can have, of the smallest kind.
	hostile := map[string][]byte{
		"UPLOADED": append([]byte{20, 0x81, 0x99, 0xff, 0xff}, bytes.Repeat([]byte{0x80}, 0xffff)...),
		"BIND":     append([]byte{16, 0x85, 0x00, 0x40, 0x00, 0x99, 0xff, 0xff}, bytes.Repeat([]byte{0x40}, 0xffff)...),
		"items":    append([]byte{18, 0, 0, 0, 3, 0x82, 2, 3}, bytes.Repeat(encode(t, &wire.Download{Size: 2, Left: 3, Items: []wire.Item{wire.NewStub(1, 1)}})[8:], 190000)...),
	}
	for name, frame := range hostile {
		r := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				wire.Parse(frame)
			}
		})
		if got, limit := r.AllocedBytesPerOp(), int64(16*len(frame)+1<<20); got > limit {
			t.Errorf("%s: frame of %d bytes allocates %d, want at most %d", name, len(frame), got, limit)
		}
	}
}
