package commitlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/golden"
)

// An excerpted is a change of goldenCommit in an excerpt, as it is encoded.
type excerpted struct {
	index uint16
	here  byte
	entry []byte
	blob  []byte
}

func anyExcerpt(id uint64, header []byte, n int, changes ...excerpted) []byte {
	b := append(binary.BigEndian.AppendUint64(nil, id), header...)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	for _, c := range changes {
		b = append(binary.BigEndian.AppendUint16(b, c.index), c.here)
		b = append(append(b, c.entry...), c.blob...)
	}
	return b
}

type excerptVectors struct {
	Comment string          `json:"comment"`
	Valid   []excerptVector `json:"valid"`
	Invalid []excerptVector `json:"invalid"`
}

type excerptVector struct {
	Name    string     `json:"name"`
	Excerpt golden.Hex `json:"excerpt"`
	Expect  string     `json:"expect,omitempty"`
}

func validExcerpts(t testing.TB) []excerptVector {
	c := goldenCommit(t)
	first := excerpted{0, 1, c.Changes[0].Entry, blob("first")}
	third := excerpted{2, 1, c.Changes[2].Entry, blob("r")}
	return []excerptVector{
		{Name: "one change", Excerpt: anyExcerpt(7, c.Raw, 1, first)},
		{Name: "one without its blob", Excerpt: anyExcerpt(7, c.Raw, 1, excerpted{1, 0, c.Changes[1].Entry, nil})},
		{Name: "first and last", Excerpt: anyExcerpt(7, c.Raw, 2, first, third)},
		{Name: "all", Excerpt: anyExcerpt(7, c.Raw, 3, first, excerpted{1, 0, c.Changes[1].Entry, nil}, third)},
		{Name: "the greatest commit ID", Excerpt: anyExcerpt(commitlog.MaxLog-1, c.Raw, 1, first)},
	}
}

func brokenExcerpts(t testing.TB) (out []excerptVector) {
	c := goldenCommit(t)
	first := excerpted{0, 1, c.Changes[0].Entry, blob("first")}
	second := excerpted{1, 0, c.Changes[1].Entry, nil}
	third := excerpted{2, 1, c.Changes[2].Entry, blob("r")}
	broken := func(name, expect string, b []byte) { out = append(out, excerptVector{name, b, expect}) }
	header := func(change func(h []byte)) []byte {
		h := bytes.Clone(c.Raw)
		change(h)
		return h
	}
	entry := func(ch commitlog.Change) []byte {
		h := c.Header
		h.Seq, h.SeenSize = 1<<20, 1<<20 // which allow any ref
		built, err := commitlog.Build(h, []commitlog.Change{ch}, func([]byte) [64]byte { return [64]byte{} })
		fatal(t, err)
		return built.List
	}
	control := header(func(h []byte) {
		h[1] = byte(commitlog.KindControl)
		clear(h[22:38])
	})
	large := put("x")
	large.BlobSize = commitlog.MaxBlob + 1
	largeEntry := bytes.Clone(c.Changes[0].Entry)
	binary.BigEndian.PutUint32(largeEntry[33:], large.BlobSize)
	object := put("second")
	object.ObjectHash, object.ObjectSize = commitlog.Hash{0x0b}, 70_000
	good := anyExcerpt(7, c.Raw, 2, first, third)

	broken("empty", "malformed", nil)
	broken("ends within the header", "malformed", good[:100])
	broken("ends after the header", "malformed", good[:8+commitlog.HeaderSize])
	broken("ends within an entry", "malformed", good[:8+commitlog.HeaderSize+2+20])
	broken("ends within a blob", "malformed", good[:len(good)-1])
	broken("ends before a change", "malformed", anyExcerpt(7, c.Raw, 2, first))
	broken("a byte behind the last change", "malformed", append(bytes.Clone(good), 0))
	broken("a change behind the last", "malformed", anyExcerpt(7, c.Raw, 1, first, third))
	broken("commit ID 0", "limit", anyExcerpt(0, c.Raw, 1, first))
	broken("commit ID 2⁴⁰", "limit", anyExcerpt(1<<40, c.Raw, 1, first))
	broken("version 2", "version", anyExcerpt(7, header(func(h []byte) { h[0] = 2 }), 1, first))
	broken("kind 9", "version", anyExcerpt(7, header(func(h []byte) { h[1] = 9 }), 1, first))
	broken("no changes", "malformed", anyExcerpt(7, c.Raw, 0))
	broken("more changes than the commit has", "malformed", anyExcerpt(7, c.Raw, 4, first, second, third, third))
	broken("65,535 changes", "malformed", anyExcerpt(7, header(func(h []byte) { copy(h[118:], "\xff\xff") }), 65535, first))
	broken("an index that the commit does not have", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{3, 1, first.entry, first.blob}))
	broken("indexes descend", "malformed", anyExcerpt(7, c.Raw, 2, third, first))
	broken("an index twice", "malformed", anyExcerpt(7, c.Raw, 2, first, first))
	broken("here 2", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 2, first.entry, first.blob}))
	broken("a blob that is not here", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, first.entry, first.blob}))
	broken("no blob that is here", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 1, first.entry, nil}))
	broken("another blob", "blob", anyExcerpt(7, c.Raw, 1, excerpted{0, 1, first.entry, blob("other")}))
	broken("op 4", "version", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, append([]byte{4}, first.entry[1:]...), nil}))
	broken("a delete", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, entry(del(at(1, 0))), nil}))
	broken("a ref above the seen size", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, entry(put("x", at(4, 0))), nil}))
	broken("an own ref to itself", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, entry(put("x", own(5, 0))), nil}))
	broken("a restate with an own ref", "malformed", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, append([]byte{3}, entry(put("x", own(3, 0)))[1:]...), nil}))
	broken("a blob too large", "limit", anyExcerpt(7, c.Raw, 1, excerpted{0, 0, largeEntry, nil}))
	broken("a control commit with a ref", "malformed", anyExcerpt(7, control, 1, excerpted{0, 0, entry(put("x", at(3, 0))), nil}))
	broken("a control commit with a restate", "malformed", anyExcerpt(7, control, 1, excerpted{0, 0, third.entry, nil}))
	broken("a control commit with an object", "malformed", anyExcerpt(7, control, 1, excerpted{0, 0, entry(object), nil}))
	return out
}

// TestGoldenExcerpt pins the form, and that each rule is one.
func TestGoldenExcerpt(t *testing.T) {
	v := excerptVectors{
		Comment: "SPEC.md, Messages: excerpts of the commit in commit.json. expect is the class of the failure.",
		Valid:   validExcerpts(t), Invalid: brokenExcerpts(t),
	}
	golden.Check(t, "commitlog/excerpt.json", v)
	v = excerptVectors{}
	golden.Load(t, "commitlog/excerpt.json", &v)
	c := goldenCommit(t)
	for _, g := range v.Valid {
		x, err := commitlog.ParseExcerpt(g.Excerpt)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		if !bytes.Equal(x.Raw, c.Raw) || x.Header != c.Header {
			t.Errorf("%s: another header", g.Name)
		}
		for _, ch := range x.Changes {
			if !bytes.Equal(ch.Change.Entry, c.Changes[ch.Index].Entry) || ch.Blob != nil && commitlog.CheckBlob(&ch.Change, ch.Blob) != nil {
				t.Errorf("%s: another change %d", g.Name, ch.Index)
			}
		}
		if again := encodeExcerpt(x); !bytes.Equal(again, g.Excerpt) {
			t.Errorf("%s: encodes to %x", g.Name, again)
		}
	}
	class := map[string]error{
		"malformed": commitlog.ErrMalformed, "version": commitlog.ErrVersion, "limit": commitlog.ErrLimit, "blob": commitlog.ErrBlob,
	}
	for _, g := range v.Invalid {
		if x, err := commitlog.ParseExcerpt(g.Excerpt); !errors.Is(err, class[g.Expect]) || x != nil {
			t.Errorf("%s: %v, want %s", g.Name, err, g.Expect)
		}
	}
}

func encodeExcerpt(x *commitlog.Excerpt) []byte {
	b := commitlog.AppendExcerpt(nil, x.ID, x.Raw, len(x.Changes))
	for _, c := range x.Changes {
		b = commitlog.AppendExcerptChange(b, c.Index, c.Change.Entry, c.Blob)
	}
	return b
}

// FuzzParseExcerpt: what parses as an excerpt encodes to the same bytes.
func FuzzParseExcerpt(f *testing.F) {
	for _, v := range append(validExcerpts(f), brokenExcerpts(f)...) {
		f.Add([]byte(v.Excerpt))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := commitlog.ParseExcerpt(data)
		if err != nil {
			return
		}
		if again := encodeExcerpt(x); !bytes.Equal(again, data) {
			t.Errorf("encodes to %x", again)
		}
	})
}

// Numbers that say more than is there make no parser allocate for them.
func TestHostileCounts(t *testing.T) {
	excerpt := anyExcerpt(7, goldenCommit(t).Raw, 65535)
	binary.BigEndian.PutUint16(excerpt[8+118:], 65535)
	hostile := map[string]struct {
		data  []byte
		parse func([]byte)
	}{
		"excerpt": {excerpt, func(b []byte) { commitlog.ParseExcerpt(b) }},
	}
	for _, b := range brokenCheckpoints(t) {
		switch b.Name {
		case "2³² − 1 namespaces", "65,535 authors", "255 peaks":
			hostile[b.Name] = struct {
				data  []byte
				parse func([]byte)
			}{b.Checkpoint, func(b []byte) { commitlog.ParseCheckpoint(b) }}
		}
	}
	if len(hostile) != 4 {
		t.Fatalf("%d cases", len(hostile))
	}
	for name, h := range hostile {
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			h.parse(h.data)
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > 16<<10 {
			t.Errorf("%s: %d bytes allocate %d", name, len(h.data), got)
		}
	}
}
