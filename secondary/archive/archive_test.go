package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// rewritten returns an archive as a reader has understood it.
func rewritten(ctx context.Context, data []byte) ([]byte, error) {
	var b bytes.Buffer
	err := archive.Read(ctx, iotest.HalfReader(bytes.NewReader(data)), archive.NewWriter(&b))
	return b.Bytes(), err
}

// resealed returns an archive that was altered, with the hash that it then has.
func resealed(data []byte) []byte {
	b := bytes.Clone(data)
	at := len(b) - sha256.Size
	if at < 0 {
		return b
	}
	sum := sha256.Sum256(b[:at])
	return append(b[:at], sum[:]...)
}

// A record is a place in an archive.
type record struct {
	kind     byte
	at, body int // of its head, of its body
	end      int
}

func records(data []byte) (out []record) {
	for at := len("kist-archive v1\n"); at < len(data); {
		r := record{data[at], at, at + 9, at + 9 + int(binary.BigEndian.Uint64(data[at+1:]))}
		out = append(out, r)
		at = r.end
	}
	return out
}

type vector struct {
	Name    string     `json:"name"`
	Archive golden.Hex `json:"archive"`
}

type vectors struct {
	Comment string     `json:"comment"`
	Vault   string     `json:"vault"`
	Valid   []vector   `json:"valid"`
	Invalid []vector   `json:"invalid"`
	Root    golden.Hex `json:"root"`
}

// broken returns archives whose hash is right, and of which each breaks one rule.
func broken(data []byte) (out []vector) {
	all := records(data) // vault, commit 1, object, commit 2, commit 3, commit 4, checkpoint, end
	without := func(n ...int) []byte {
		b := bytes.Clone(data[:all[0].at])
		for i, r := range all {
			skip := false
			for _, x := range n {
				skip = skip || x == i
			}
			if !skip {
				b = append(b, data[r.at:r.end]...)
			}
		}
		return b
	}
	add := func(name string, b []byte) { out = append(out, vector{name, resealed(b)}) }
	change := func(name string, at int, to byte) {
		b := bytes.Clone(data)
		b[at] = to
		add(name, b)
	}
	vault := all[0].body
	change("another format", len("kist-archive v"), '2')
	change("an unknown kind of record", all[1].at, 9)
	change("a vault that is being removed", vault+16+64+8+32+8+8+8, 4)
	change("a quota that is none", vault+16+64+8+32+8+8+8+1+8, 0)
	change("a move beyond the log", vault+16+64+8+32+7, 5)
	change("more devices than there are", vault+177, 3)
	change("devices that are not in order", vault+178, 0xff)
	change("a scope that is not in order", all[0].end-32, 9)
	change("a commit of a time that cannot be", all[3].body, 1)
	add("an object that the next commit does not name", slices.Concat(data[:all[1].at], data[all[2].at:all[2].end], data[all[1].at:all[2].at], data[all[3].at:]))
	add("a commit left out", without(4))
	add("two vaults", slices.Concat(data[:all[0].end], data[all[0].at:]))
	add("no vault", without(0))
	add("a commit after a checkpoint", slices.Concat(data[:all[7].at], data[all[5].at:all[5].end], data[all[7].at:]))
	add("a checkpoint before the last commit", slices.Concat(without(5, 6, 7), data[all[6].at:all[6].end], data[all[5].at:all[5].end], data[all[7].at:]))
	add("a checkpoint twice", slices.Concat(data[:all[7].at], data[all[6].at:all[6].end], data[all[7].at:]))
	change("a checkpoint of another vault", all[6].body+1, 1)
	add("an end before the last commit", without(5, 6))
	spoilt := bytes.Clone(data)
	spoilt[all[2].end-1] ^= 1
	add("an object of another hash", spoilt)
	spoilt = bytes.Clone(data)
	spoilt[all[5].end-1] ^= 1
	add("a blob of another hash", spoilt)
	return out
}

// TestGoldenArchive pins the form, and that each rule is one.
func TestGoldenArchive(t *testing.T) {
	s := newSeeded(t)
	data, done := export(t, s.e, s.id)
	if done.Commits != 4 || done.Objects != 1 || done.ObjectBytes != commitlog.MinBlob || done.Checkpoints != 1 || done.Missing != 0 {
		t.Errorf("exported %+v", done)
	}
	root, err := commitlog.TreeRoot(s, s.size)
	fatal(t, err)
	golden.Check(t, "archive/archive.json", vectors{
		Comment: "SPEC.md, Archives. The invalid ones end with the hash that they should have, and break another rule.",
		Vault:   s.id.String(), Root: golden.Hex(root[:]),
		Valid: []vector{{"four commits, one without content, an object, a checkpoint", data}}, Invalid: broken(data),
	})
	var v vectors
	golden.Load(t, "archive/archive.json", &v)
	for _, g := range v.Valid {
		again, err := rewritten(t.Context(), g.Archive)
		if err != nil || !bytes.Equal(again, g.Archive) {
			t.Errorf("%s: written again, it is another: %v", g.Name, err)
		}
		e := open(t)
		fatal(t, takeIn(t.Context(), e, g.Archive))
		if again, _ := export(t, e, s.id); !bytes.Equal(again, g.Archive) {
			t.Errorf("%s: imported and exported, it is another", g.Name)
		}
	}
	for _, g := range v.Invalid {
		if _, err := archive.Check(t.Context(), bytes.NewReader(g.Archive)); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", g.Name, err)
		}
	}
}

// Whatever byte is another, wherever it ends, whatever follows it: it is refused, and
// nothing comes in.
func TestDamage(t *testing.T) {
	s := newSeeded(t)
	data, _ := export(t, s.e, s.id)
	e := open(t)
	refused := func(what string, at int, b []byte) {
		t.Helper()
		if _, err := archive.Check(t.Context(), bytes.NewReader(b)); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("%s at %d of %d: %v, want ErrDamaged", what, at, len(data), err)
		}
		if at%101 != 0 {
			return
		}
		if err := takeIn(t.Context(), e, b); err == nil {
			t.Errorf("%s at %d: it came in", what, at)
		}
		if n, err := e.Vaults(t.Context()); n != 0 || err != nil {
			t.Fatalf("%s at %d: it has left %d vaults, %v", what, at, n, err)
		}
	}
	for at := range data {
		b := bytes.Clone(data)
		b[at] ^= 1 << (at % 8)
		refused("a flipped bit", at, b)
		refused("the end", at, data[:at])
	}
	refused("another byte", len(data), append(bytes.Clone(data), 0))
	fatal(t, takeIn(t.Context(), e, data))
}

// What goes wrong on the other side is no damage.
func TestErrors(t *testing.T) {
	s := newSeeded(t)
	data, _ := export(t, s.e, s.id)
	broken := errors.New("broken")
	if _, err := archive.Check(t.Context(), io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a reader that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := archive.Check(ctx, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
	for n := range len(data) / 100 {
		if _, err := s.e.Export(t.Context(), s.id, archive.NewWriter(&short{left: n * 100, err: broken})); !errors.Is(err, broken) {
			t.Errorf("a writer that fails after %d bytes: %v", n*100, err)
		}
	}
	if err := takeIn(t.Context(), s.e, data); !errors.Is(err, engine.ErrExists) {
		t.Errorf("into where it is: %v, want ErrExists", err)
	}
	w, err := archive.Check(t.Context(), bytes.NewReader(data))
	if err != nil || w.Vault != s.id || w.Size != 4 || len(w.Devices) != 2 {
		t.Errorf("check: %+v, %v", w, err)
	}
}

// short is a writer that takes so many bytes.
type short struct {
	left int
	err  error
}

func (s *short) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		return 0, s.err
	}
	return len(p), nil
}

// An object that was spoilt, or is gone, does not keep the rest here; that it lacks is
// said.
func TestMissing(t *testing.T) {
	s := newSeeded(t)
	whole, _ := export(t, s.e, s.id)
	object := records(whole)[2]
	hash := commitlog.Hash(whole[object.body:])
	fatal(t, os.Truncate(embedded.ObjectFile(s.dir, s.id, hash), 300))
	data, done := export(t, s.e, s.id)
	if done.Objects != 0 || done.Missing != 1 || len(data) != len(whole)-(object.end-object.at) {
		t.Errorf("exported %+v, %d bytes of %d", done, len(data), len(whole))
	}
	e := open(t)
	fatal(t, takeIn(t.Context(), e, data))
	if _, whole, err := e.HaveObject(t.Context(), s.id, hash); whole || err != nil {
		t.Errorf("the object: %v, %v", whole, err)
	}
	if again, done := export(t, e, s.id); !bytes.Equal(again, data) || done.Missing != 1 {
		t.Errorf("exported again: %+v", done)
	}
}

// FuzzRead: what can be read is what a writer writes, and nothing else.
func FuzzRead(f *testing.F) {
	s := newSeeded(f)
	data, _ := export(f, s.e, s.id)
	f.Add(data)
	for _, g := range broken(data) {
		f.Add([]byte(g.Archive))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = resealed(data)
		again, err := rewritten(t.Context(), data)
		switch {
		case err == nil && !bytes.Equal(again, data):
			t.Errorf("written again, it is another")
		case err != nil && !errors.Is(err, archive.ErrDamaged):
			t.Errorf("%v", err)
		}
	})
}
