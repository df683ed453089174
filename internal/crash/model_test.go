package main

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeVault is a view of a vault that keeps what it is told.
type fakeVault struct {
	records map[string][]byte
	shared  map[string][]version // newest first
}

func (f *fakeVault) get(namespace, name string) (foundValue, error) {
	b, ok := f.records[namespace+"/"+name]
	return foundValue{there: ok, value: b}, nil
}

func (f *fakeVault) history(name string, fn func(version) bool) error {
	for _, v := range f.shared[name] {
		if !fn(v) {
			break
		}
	}
	return nil
}

func (f *fakeVault) do(o *op) {
	for i, name := range o.cell.names() {
		switch {
		case o.cell.namespace == sharedNamespace:
			f.shared[name] = append([]version{{valueID{o.cell.writer, o.n, 0}, true}}, f.shared[name]...)
			for j := 1; j < len(f.shared[name]); j++ {
				f.shared[name][j].live = false
			}
		case o.has(i):
			f.records[o.cell.namespace+"/"+name] = o.value(i)
		default:
			delete(f.records, o.cell.namespace+"/"+name)
		}
	}
}

// play lets two devices write, and the vault take it all. The last write of
// device 0 was under way when it was killed, and has happened if happened says so.
func play(happened bool) (*model, *fakeVault, *op) {
	m := newModel()
	f := &fakeVault{make(map[string][]byte), make(map[string][]version)}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range uint64(600) {
		for device := range 2 {
			o := nextOp(r, writer{device, 0}, n+1)
			m.hear(device, o.try())
			f.do(&o)
			m.hear(device, o.ack())
		}
	}
	o := op{cell: cell{writer{0, 0}, groupNamespace, 1}, n: 601, size: 100}
	m.hear(0, o.try())
	if happened {
		f.do(&o)
	}
	return m, f, &o
}

func failures(do func(c *checks)) (failed, passed int, text string) {
	var out strings.Builder
	c := &checks{out: &out, since: time.Now()}
	do(c)
	return c.failed, c.passed, out.String()
}

func TestModelAgrees(t *testing.T) {
	for _, happened := range []bool{false, true} {
		m, f, _ := play(happened)
		for _, text := range m.complaints() {
			t.Error(text)
		}
		failed, passed, text := failures(func(c *checks) {
			m.afterKill(0, 2, f, c)
			m.afterKill(1, 2, f, c)
			m.atEnd("vault", []bool{true, false}, f, c)
		})
		if failed > 0 || passed < 300 {
			t.Errorf("happened %v: %d passed, %d failed:\n%s", happened, passed, failed, text)
		}
	}
}

// What is lost, torn, doubled or older than it was is found.
func TestModelFinds(t *testing.T) {
	record := func(c cell, i int) string { return c.namespace + "/" + c.names()[i] }
	// find returns a cell whose last write left a value.
	find := func(m *model, namespace string, device int) (cell, *op) {
		for _, c := range cellsOf(device, namespace) {
			if o := m.cells[c]; o != nil && !o.delete {
				return c, o
			}
		}
		panic("the play is too short")
	}
	for _, tt := range []struct {
		name  string
		spoil func(m *model, f *fakeVault)
		want  string
	}{
		{"a record is lost", func(m *model, f *fakeVault) {
			c, _ := find(m, ownNamespace, 0)
			delete(f.records, record(c, 0))
		}, "write 0 is there in place of"},
		{"an older value is back", func(m *model, f *fakeVault) {
			c, o := find(m, ownNamespace, 0)
			old := *o
			old.n--
			f.do(&op{cell: c, n: old.n, size: old.size})
		}, "is there in place of"},
		{"a deleted record is back", func(m *model, f *fakeVault) {
			for _, c := range cellsOf(0, ownNamespace) {
				if o := m.cells[c]; o != nil && o.delete {
					f.do(&op{cell: c, n: o.n - 1, size: 100})
					return
				}
			}
			panic("the play is too short")
		}, "deleted it"},
		{"a value is cut short", func(m *model, f *fakeVault) {
			c, _ := find(m, ownNamespace, 0)
			f.records[record(c, 0)] = f.records[record(c, 0)][:minValue]
		}, "has 48 bytes, not"},
		{"a byte has changed", func(m *model, f *fakeVault) {
			c, _ := find(m, ownNamespace, 0)
			b := slices.Clone(f.records[record(c, 0)])
			b[len(b)-1] ^= 1
			f.records[record(c, 0)] = b
		}, "that nobody wrote"},
		{"a transaction is torn", func(m *model, f *fakeVault) {
			c, o := find(m, groupNamespace, 0)
			old := op{cell: c, n: o.n - 1, size: o.size}
			f.records[record(c, 1)] = old.value(1)
		}, "torn"},
		{"half of a transaction is there", func(m *model, f *fakeVault) {
			c, _ := find(m, groupNamespace, 0)
			delete(f.records, record(c, 0))
		}, "torn"},
		{"another device's transaction is torn", func(m *model, f *fakeVault) {
			c, _ := find(m, groupNamespace, 1)
			delete(f.records, record(c, 0))
		}, "torn"},
		{"a shared write is lost", func(m *model, f *fakeVault) {
			c, o := find(m, sharedNamespace, 0)
			f.shared[c.names()[0]] = slices.DeleteFunc(f.shared[c.names()[0]], func(v version) bool { return v.id.writer == c.writer && v.id.n == o.n })
		}, "the newest version is that of write"},
		{"an earlier shared write of a device that sends each is lost", func(m *model, f *fakeVault) {
			c, o := find(m, sharedNamespace, 0)
			n := m.versions[c][0]
			if n == o.n {
				panic("the play is too short")
			}
			f.shared[c.names()[0]] = slices.DeleteFunc(f.shared[c.names()[0]], func(v version) bool { return v.id.writer == c.writer && v.id.n == n })
		}, "versions of"},
		{"a shared write is doubled", func(m *model, f *fakeVault) {
			c, _ := find(m, sharedNamespace, 0)
			s := f.shared[c.names()[0]]
			f.shared[c.names()[0]] = append(s, s[len(s)-1])
		}, "versions twice"},
		{"a shared record shows an old version", func(m *model, f *fakeVault) {
			c, o := find(m, sharedNamespace, 0)
			for i, v := range f.shared[c.names()[0]] {
				if v.id.writer == c.writer && v.id.n != o.n {
					f.shared[c.names()[0]][i].live = true
				}
			}
		}, "was the last"},
		{"a shared record shows nothing", func(m *model, f *fakeVault) {
			c, _ := find(m, sharedNamespace, 0)
			for i := range f.shared[c.names()[0]] {
				f.shared[c.names()[0]][i].live = false
			}
		}, "shows nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f, _ := play(false)
			tt.spoil(m, f)
			failed, _, text := failures(func(c *checks) {
				m.afterKill(0, 2, f, c)
				m.atEnd("vault", []bool{true, false}, f, c)
			})
			if failed == 0 || !strings.Contains(text, tt.want) {
				t.Errorf("%d failed:\n%s\nwant %q", failed, text, tt.want)
			}
		})
	}
}

// What a device has seen of another's does not go back.
func TestModelFindsThePast(t *testing.T) {
	m, f, _ := play(false)
	past := maps.Clone(f.records)
	c := cell{writer{1, 0}, groupNamespace, 0}
	o := op{cell: c, n: 601, size: 100}
	m.hear(1, o.try())
	f.do(&o)
	m.hear(1, o.ack())
	if failed, _, text := failures(func(c *checks) { m.afterKill(0, 2, f, c) }); failed > 0 {
		t.Fatal(text)
	}
	f.records = past
	failed, _, text := failures(func(c *checks) { m.afterKill(0, 2, f, c) })
	if failed == 0 || !strings.Contains(text, "was before") {
		t.Errorf("%d failed: %s", failed, text)
	}
}

// A device that acknowledges out of turn is not believed.
func TestModelComplains(t *testing.T) {
	for _, lines := range [][]string{
		{"ack 0 1"}, {"try 0 2 own 1 put 100"}, {"try 0 1 own 1 put 100", "ack 0 2"},
		{"try 0 1 own 1 put 100", "try 0 2 own 1 put 100"}, {"bad something"}, {""}, {"try x"},
	} {
		m := newModel()
		for _, line := range lines {
			m.hear(0, line)
		}
		if len(m.complaints()) != 1 {
			t.Errorf("%q: no complaint", lines)
		}
	}
}

func TestOpText(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range uint64(1000) {
		want := nextOp(r, writer{2, int(n % writers)}, n+1)
		got, ack, err := parseLine(2, want.try())
		if err != nil || ack || got != want {
			t.Fatalf("%q: %+v, %v", want.try(), got, err)
		}
		if got, ack, err := parseLine(2, want.ack()); err != nil || !ack || got.n != want.n || got.cell.writer != want.cell.writer {
			t.Fatalf("%q: %+v, %v", want.ack(), got, err)
		}
		if id, err := parseValue(want.value(0)); err != nil || id.n != want.n || id.writer != want.cell.writer {
			t.Fatalf("value: %+v, %v", id, err)
		}
	}
}

// The tree's root is that of RFC 6962: of its definition, for all small sizes.
func TestTree(t *testing.T) {
	var root func(leaves [][]byte) [32]byte
	root = func(leaves [][]byte) [32]byte {
		var one tree
		if len(leaves) < 2 {
			for _, l := range leaves {
				one.add(l)
			}
			return one.root()
		}
		k := 1
		for 2*k < len(leaves) {
			k *= 2
		}
		return node(root(leaves[:k]), root(leaves[k:]))
	}
	var all tree
	var leaves [][]byte
	for i := range 70 {
		if got := all.root(); got != root(leaves) {
			t.Errorf("%d leaves: %x", i, got)
		}
		leaves = append(leaves, fmt.Appendf(nil, "leaf %d", i))
		all.add(leaves[i])
	}
}

func TestChecks(t *testing.T) {
	c := &checks{out: io.Discard}
	c.that(true, "")
	c.that(false, "")
	if c.passed != 1 || c.failed != 1 {
		t.Errorf("%+v", c)
	}
}
