package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A device has writers, goroutines that each make one write after the other, so
// that the store has calls to join. Each has records of its own, which nobody
// else writes; the first writer of each device also writes the records that all
// devices share.
const writers = 2

// Numbers of the records. Few enough to be written again and again, so that what
// is lost shows, and that changes replace and follow one another.
const (
	ownCells    = 40 // of a writer: one record each
	groupCells  = 6  // of a writer: groupSize records each, written in transactions
	groupSize   = 4
	sharedCells = 12 // of all devices: one record each
)

// Namespaces. A commit is of one namespace, so these also make several commits.
const (
	ownNamespace    = "own"
	groupNamespace  = "groups"
	sharedNamespace = "shared"
)

// A writer is a goroutine of a device.
type writer struct{ device, number int }

// A cell is what one write is about: a record, or a group of records that are
// written in one transaction. The writer is part of it: a cell in the shared
// namespace is one writer's line in the record's history.
type cell struct {
	writer    writer
	namespace string
	number    int
}

// names returns the names of the cell's records.
func (c cell) names() []string {
	switch c.namespace {
	case sharedNamespace:
		return []string{fmt.Sprintf("record %d", c.number)}
	case groupNamespace:
		names := make([]string, groupSize)
		for i := range names {
			names[i] = fmt.Sprintf("device %d/%d/group %d/%d", c.writer.device, c.writer.number, c.number, i)
		}
		return names
	}
	return []string{fmt.Sprintf("device %d/%d/record %d", c.writer.device, c.writer.number, c.number)}
}

func (c cell) String() string {
	return fmt.Sprintf("%s %d of writer %d of device %d", c.namespace, c.number, c.writer.number, c.writer.device)
}

// An op is a write.
type op struct {
	cell   cell
	n      uint64 // counts the writer's, from 1, over all its device's lives
	delete bool
	size   int // of each value
}

// has reports whether the i-th record of the cell exists after the write. Every
// third transaction takes one record of its group away.
func (o *op) has(i int) bool {
	if o.delete {
		return false
	}
	return !(o.cell.namespace == groupNamespace && i == groupSize-1 && o.n%3 == 0)
}

// value returns what the write puts into the i-th record of its cell: a line
// that says which write it is, and noise that follows from it.
func (o *op) value(i int) []byte {
	return makeValue(valueID{o.cell.writer, o.n, i}, o.size)
}

// minValue is the least size of a value: the line fits.
const minValue = 48

// valueID is what the line of a value says.
type valueID struct {
	writer writer
	n      uint64
	index  int
}

func makeValue(id valueID, size int) []byte {
	b := make([]byte, 0, max(size, minValue)+8)
	b = fmt.Appendf(b, "%d %d %d %d\n", id.writer.device, id.writer.number, id.n, id.index)
	noise := rand.NewPCG(uint64(id.writer.device)<<32|uint64(id.writer.number), id.n<<8|uint64(id.index))
	for len(b) < max(size, minValue) {
		b = binary.BigEndian.AppendUint64(b, noise.Uint64())
	}
	return b[:max(size, minValue)]
}

// parseValue returns which write put a value, and checks all of it.
func parseValue(b []byte) (valueID, error) {
	var id valueID
	line, _, ok := bytes.Cut(b, []byte("\n"))
	if ok {
		_, err := fmt.Sscanf(string(line), "%d %d %d %d", &id.writer.device, &id.writer.number, &id.n, &id.index)
		ok = err == nil
	}
	if !ok || !bytes.Equal(b, makeValue(id, len(b))) {
		return id, fmt.Errorf("a value of %d bytes that nobody wrote", len(b))
	}
	return id, nil
}

// A device prints a line before each write and one after it:
//
//	try WRITER N NAMESPACE CELL delete|put SIZE
//	ack WRITER N
//
// and "bad TEXT" for what must not happen.

func (o *op) try() string {
	what := "put"
	if o.delete {
		what = "delete"
	}
	return fmt.Sprintf("try %d %d %s %d %s %d", o.cell.writer.number, o.n, o.cell.namespace, o.cell.number, what, o.size)
}

func (o *op) ack() string { return fmt.Sprintf("ack %d %d", o.cell.writer.number, o.n) }

// parseLine parses a line of a device; the op of an ack has its writer and n
// alone.
func parseLine(device int, line string) (o op, ack bool, err error) {
	bad := fmt.Errorf("device %d said %q", device, line)
	f := strings.Fields(line)
	if len(f) < 3 {
		return o, false, bad
	}
	number, err1 := strconv.Atoi(f[1])
	n, err2 := strconv.ParseUint(f[2], 10, 64)
	o = op{cell: cell{writer: writer{device, number}}, n: n}
	switch {
	case err1 != nil || err2 != nil:
		return o, false, bad
	case f[0] == "ack" && len(f) == 3:
		return o, true, nil
	case f[0] != "try" || len(f) != 7:
		return o, false, bad
	}
	o.cell.namespace = f[3]
	o.delete = f[5] == "delete"
	o.cell.number, err1 = strconv.Atoi(f[4])
	o.size, err2 = strconv.Atoi(f[6])
	if err1 != nil || err2 != nil {
		return o, false, bad
	}
	return o, false, nil
}

// nextOp chooses a writer's next write.
func nextOp(r *rand.Rand, w writer, n uint64) op {
	o := op{cell: cell{writer: w}, n: n, size: minValue + r.IntN(400)}
	switch p := r.IntN(100); {
	case p < 20:
		o.cell.namespace, o.cell.number = groupNamespace, r.IntN(groupCells)
		o.delete = r.IntN(10) == 0
		if r.IntN(20) == 0 {
			o.size = 20 << 10
		}
	case p < 30 && w.number == 0:
		// No deletes: every last write stays in sight.
		o.cell.namespace, o.cell.number = sharedNamespace, r.IntN(sharedCells)
	default:
		o.cell.namespace, o.cell.number = ownNamespace, r.IntN(ownCells)
		o.delete = r.IntN(5) == 0
		if r.IntN(200) == 0 {
			o.size = 64<<10 + 1 + r.IntN(200<<10) // a file of its own
		}
	}
	return o
}
