package main

import (
	"fmt"
	"slices"
	"sync"
)

// The model is what the devices said. Since a writer makes one write after the
// other, and each cell is one writer's, the state of a cell is its last
// acknowledged write, or, where a kill came in between, the one that was under
// way: check finds out which, and from then on it is that one.
type model struct {
	mu       sync.Mutex
	cells    map[cell]*op      // last write; none: never written
	under    map[writer]*op    // write under way
	tried    map[writer]uint64 // number of the last write that was begun
	versions map[cell][]uint64 // numbers of all writes to a shared record
	acks     int
	cut      [2]int   // writes under way at a kill: how many had not happened, how many had
	bad      []string // what devices said must not be

	// What each device was last seen to hold of the others' cells.
	seen map[int]map[cell]uint64
}

func newModel() *model {
	return &model{
		cells: make(map[cell]*op), under: make(map[writer]*op), tried: make(map[writer]uint64),
		versions: make(map[cell][]uint64), seen: make(map[int]map[cell]uint64),
	}
}

// hear takes a line that a device printed.
func (m *model) hear(device int, line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ack, err := parseLine(device, line)
	w := o.cell.writer
	switch {
	case err != nil:
		m.bad = append(m.bad, err.Error())
	case !ack:
		if m.under[w] != nil || o.n != m.tried[w]+1 {
			m.bad = append(m.bad, fmt.Sprintf("device %d begins write %d after %d", device, o.n, m.tried[w]))
		}
		m.under[w], m.tried[w] = &o, o.n
	case m.under[w] == nil || m.under[w].n != o.n:
		m.bad = append(m.bad, fmt.Sprintf("device %d acknowledges write %d, which is not under way", device, o.n))
	default:
		m.settle(m.under[w])
		m.under[w] = nil
		m.acks++
	}
}

// settle notes a write that has happened.
func (m *model) settle(o *op) {
	m.cells[o.cell] = o
	if o.cell.namespace == sharedNamespace {
		m.versions[o.cell] = append(m.versions[o.cell], o.n)
	}
}

// last returns the number of the last write that a writer began.
func (m *model) last(w writer) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tried[w]
}

// counts returns the number of acknowledged writes, and of those that a kill
// found under way: not there afterwards, and there.
func (m *model) counts() (acknowledged, undone, done int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acks, m.cut[0], m.cut[1]
}

// complaints returns what devices said that must not be, once.
func (m *model) complaints() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	bad := m.bad
	m.bad = nil
	return bad
}

// A foundValue is what a vault holds of a record.
type foundValue struct {
	there    bool
	value    []byte
	siblings int
}

// A version is one in a shared record's history.
type version struct {
	id   valueID
	live bool
}

// A view is a vault to look into. Nobody writes to it meanwhile.
type view interface {
	get(namespace, name string) (foundValue, error)
	// history calls fn with the versions of a shared record, newest first, until
	// fn returns false.
	history(name string, fn func(version) bool) error
}

// find returns what a vault holds of a cell that is no shared one.
func find(v view, c cell) ([]foundValue, error) {
	var out []foundValue
	for _, name := range c.names() {
		f, err := v.get(c.namespace, name)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// whole checks that what was found of a cell comes from one write, all of it,
// and returns that write's number, 0 where nothing is there.
func (c cell) whole(found []foundValue) (n uint64, err error) {
	var of []string // for people
	for i, f := range found {
		if !f.there {
			of = append(of, "nothing")
			continue
		}
		id, perr := parseValue(f.value)
		switch {
		case perr != nil:
			return 0, perr
		case id.writer != c.writer || id.index != i:
			return 0, fmt.Errorf("record %d holds what writer %d of device %d wrote into record %d", i, id.writer.number, id.writer.device, id.index)
		case f.siblings > 0:
			return 0, fmt.Errorf("%d siblings in a record that one device writes", f.siblings)
		}
		of = append(of, fmt.Sprint("write ", id.n))
		n = max(n, id.n)
	}
	if n == 0 {
		return 0, nil
	}
	o := op{cell: c, n: n}
	for i, f := range found {
		torn := f.there != o.has(i)
		if f.there {
			id, _ := parseValue(f.value)
			torn = torn || id.n != n
		}
		if torn {
			return 0, fmt.Errorf("torn: %q", of)
		}
	}
	return n, nil
}

// is returns an error unless what was found is the state of the cell after a
// write; nil: never written.
func (o *op) is(c cell, found []foundValue) error {
	n, err := c.whole(found)
	switch {
	case err != nil:
		return err
	case o == nil && n != 0:
		return fmt.Errorf("write %d is there, and none was made", n)
	case o == nil || n == 0 && o.delete:
		return nil
	case o.delete:
		return fmt.Errorf("write %d is there, and write %d deleted it", n, o.n)
	case n != o.n:
		return fmt.Errorf("write %d is there in place of write %d", n, o.n)
	}
	for i, f := range found {
		if f.there && len(f.value) != o.size {
			return fmt.Errorf("value %d of write %d has %d bytes, not %d", i, n, len(f.value), o.size)
		}
	}
	return nil
}

// cellsOf returns a device's cells in a namespace.
func cellsOf(device int, namespace string) (out []cell) {
	add := func(w, n int) {
		for i := range n {
			out = append(out, cell{writer{device, w}, namespace, i})
		}
	}
	for w := range writers {
		switch {
		case namespace == ownNamespace:
			add(w, ownCells)
		case namespace == groupNamespace:
			add(w, groupCells)
		case w == 0:
			add(w, sharedCells)
		}
	}
	return out
}

// afterKill compares a device's vault, as a kill left it, with what the device
// said, and settles what became of the writes that were under way. The device
// does not run.
func (m *model) afterKill(device, devices int, v view, c *checks) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, namespace := range []string{ownNamespace, groupNamespace} {
		for _, cell := range cellsOf(device, namespace) {
			found, err := find(v, cell)
			if err == nil {
				err = m.settleCell(cell, func(o *op) error { return o.is(cell, found) })
			}
			c.that(err == nil, "device %d after a kill: %v: %v", device, cell, err)
		}
	}
	for _, cell := range cellsOf(device, sharedNamespace) {
		n, err := newestBy(v, cell)
		if err == nil {
			err = m.settleCell(cell, func(o *op) error {
				if want := number(o); n != want {
					return fmt.Errorf("the newest version is that of write %d, not %d", n, want)
				}
				return nil
			})
		}
		c.that(err == nil, "device %d after a kill: %v: %v", device, cell, err)
	}
	for w := range writers {
		if w := (writer{device, w}); m.under[w] != nil { // not settled: it did not happen
			m.under[w] = nil
			m.cut[0]++
		}
	}
	for other := range devices {
		if other != device {
			m.foreign(device, other, v, c)
		}
	}
}

func number(o *op) uint64 {
	if o == nil {
		return 0
	}
	return o.n
}

// settleCell compares a cell with its last write, and with the one under way,
// which is settled if it is that one.
func (m *model) settleCell(c cell, is func(*op) error) error {
	err := is(m.cells[c])
	if under := m.under[c.writer]; under != nil && under.cell == c {
		uerr := is(under)
		if uerr == nil {
			m.settle(under)
			m.under[c.writer] = nil
			m.cut[1]++
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w; %w", err, uerr)
		}
	}
	return err
}

// newestBy returns the number of a writer's newest version of a shared record.
func newestBy(v view, c cell) (n uint64, err error) {
	err = v.history(c.names()[0], func(x version) bool {
		if x.id.writer == c.writer {
			n = x.id.n
		}
		return n == 0
	})
	return n, err
}

// foreign checks what a device holds of another's groups: whole, made by a write
// that the other has begun, and not older than what was there before.
func (m *model) foreign(device, other int, v view, c *checks) {
	if m.seen[device] == nil {
		m.seen[device] = make(map[cell]uint64)
	}
	for _, cell := range cellsOf(other, groupNamespace) {
		found, err := find(v, cell)
		var n uint64
		if err == nil {
			n, err = cell.whole(found)
		}
		if err == nil && n > m.tried[cell.writer] {
			err = fmt.Errorf("write %d is there, and write %d was the last", n, m.tried[cell.writer])
		}
		if before := m.seen[device][cell]; err == nil && n != 0 && n < before {
			err = fmt.Errorf("write %d is there, and write %d was before", n, before)
		}
		m.seen[device][cell] = max(n, m.seen[device][cell])
		c.that(err == nil, "device %d after a kill: %v: %v", device, cell, err)
	}
}

// atEnd compares a vault that is in step with what all devices said. keep says
// of each device whether it sends every write.
func (m *model) atEnd(name string, keep []bool, v view, c *checks) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for device := range keep {
		for _, namespace := range []string{ownNamespace, groupNamespace} {
			for _, cell := range cellsOf(device, namespace) {
				found, err := find(v, cell)
				if err == nil {
					err = m.cells[cell].is(cell, found)
				}
				c.that(err == nil, "%s: %v: %v", name, cell, err)
			}
		}
	}
	for i := range sharedCells {
		m.sharedAtEnd(name, i, keep, v, c)
	}
}

// sharedAtEnd checks a shared record: the last write of each device is in its
// history, and every write of those that send every one; no write is there
// twice, and none that was not made; the versions shown are last writes, and
// there is one.
func (m *model) sharedAtEnd(name string, record int, keep []bool, v view, c *checks) {
	cellOf := func(device int) cell { return cell{writer{device, 0}, sharedNamespace, record} }
	have := make(map[int][]uint64) // newest first
	live := make(map[int]uint64)
	written, lives := 0, 0
	err := v.history(cellOf(0).names()[0], func(x version) bool {
		d := x.id.writer.device
		have[d] = append(have[d], x.id.n)
		if x.live {
			lives++
			live[d] = x.id.n
		}
		return true
	})
	c.that(err == nil, "%s: shared record %d: %v", name, record, err)
	for d := range keep {
		cell := cellOf(d)
		last := number(m.cells[cell])
		if last != 0 {
			written++
		}
		got, want := slices.Clone(have[d]), m.versions[cell]
		slices.Reverse(got)
		ok := slices.IsSorted(got) && len(slices.Compact(slices.Clone(got))) == len(got)
		c.that(ok, "%s: %v: versions twice, or in another order: %v", name, cell, got)
		newest := uint64(0)
		if len(got) > 0 {
			newest = got[len(got)-1]
		}
		c.that(newest == last, "%s: %v: the newest version is that of write %d, not %d", name, cell, newest, last)
		stray := slices.IndexFunc(got, func(n uint64) bool { _, made := slices.BinarySearch(want, n); return !made })
		c.that(stray < 0, "%s: %v: a version of a write that was not made: %v", name, cell, got)
		if keep[d] {
			c.that(slices.Equal(got, want), "%s: %v: %d versions of %d writes", name, cell, len(got), len(want))
		}
		if n, shown := live[d]; shown {
			c.that(n == last, "%s: %v: shows write %d, and %d was the last", name, cell, n, last)
		}
	}
	c.that(written == 0 || lives > 0, "%s: shared record %d shows nothing", name, record)
}
