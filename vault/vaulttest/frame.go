package vaulttest

import (
	"fmt"
	"math"
	"time"

	"github.com/kistvault/kist/secondary/wire"
)

// Direction is the way that a frame goes.
type Direction int

const (
	Up   Direction = iota // from the device to the secondary
	Down                  // from the secondary to the device
)

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Handshake is the type of the first frame of each connection in each direction:
// the HTTP request that opens the WebSocket, and its answer.
const Handshake wire.Type = 0

// A Frame is one message on its way, as the network sees it.
type Frame struct {
	Dir  Direction
	Conn int       // number of the connection, from 1; 0 if it is not counted
	N    int       // number of the frame in its direction, from 1, over all connections
	Type wire.Type // what the frame holds, or [Handshake]

	// Size is how many bytes the frame took on the wire, its WebSocket headers
	// included. It is 0 while the frame is still under way, as in a fault hook.
	Size int
}

func (f Frame) String() string {
	name := f.Type.String()
	if f.Type == Handshake {
		name = "handshake"
	}
	return fmt.Sprintf("connection %d, %v %d: %s, %d bytes", f.Conn, f.Dir, f.N, name, f.Size)
}

// A Fault is what becomes of a frame. The zero value is that it arrives.
//
// The connections are streams, as over TCP: a frame that is lost is lost with all
// that comes after it. So there is no fault that leaves out a single one.
type Fault struct {
	// Delay holds the frame up, and those behind it.
	Delay time.Duration
	// Duplicate has the frame arrive twice.
	Duplicate bool
	// Cut breaks the connection: both ends are told, and nothing more arrives at
	// either.
	Cut bool
	// Stall makes the connection half open: nothing more arrives at either end,
	// and nobody is told.
	Stall bool
	// Bytes is how much of the frame arrives before Cut or Stall; 0 nothing of
	// it, [Whole] all.
	Bytes int
}

// Whole is the Bytes of a frame that arrives as a whole.
const Whole = math.MaxInt

// CutAfter breaks the connection when frame n in this direction has arrived.
func CutAfter(dir Direction, n int) func(Frame) Fault { return CutInside(dir, n, Whole) }

// CutInside breaks the connection when that many bytes of frame n in this
// direction have arrived.
func CutInside(dir Direction, n, bytes int) func(Frame) Fault {
	return at(dir, n, Fault{Cut: true, Bytes: bytes})
}

// StallAfter makes the connection go dead without a word when frame n in this
// direction has arrived.
func StallAfter(dir Direction, n int) func(Frame) Fault {
	return at(dir, n, Fault{Stall: true, Bytes: Whole})
}

// Duplicate has frame n in this direction arrive twice.
func Duplicate(dir Direction, n int) func(Frame) Fault { return at(dir, n, Fault{Duplicate: true}) }

func at(dir Direction, n int, fault Fault) func(Frame) Fault {
	return func(f Frame) Fault {
		if f.Dir == dir && f.N == n {
			return fault
		}
		return Fault{}
	}
}

// First has a fault happen to the first frame with this message that comes, and
// to no other.
func First(dir Direction, message wire.Type, fault Fault) func(Frame) Fault {
	done := false
	return func(f Frame) Fault {
		if done || f.Dir != dir || f.Type != message {
			return Fault{}
		}
		done = true
		return fault
	}
}
