package lying

import (
	"fmt"

	"github.com/kistvault/kist/secondary/wire"
)

// A Mutation is one way to lie, with a name that says which.
type Mutation struct {
	Name string
	// Begin returns what it does to one connection. Nil: nothing.
	Begin func() Lie
}

// A Lie is what one connection's frames become. Frames are the function's own.
type Lie struct {
	// Up takes a frame of the device, and returns what the honest session gets in
	// its place and what the device is answered at once. Nil: the frame passes.
	Up func(frame []byte) (pass, answer [][]byte)
	// Down takes a frame to the device and returns what is sent in its place. A nil
	// frame breaks the connection. Nil: the frame passes.
	Down func(frame []byte) [][]byte
}

// Named returns the mutation under another name.
func (m Mutation) Named(format string, args ...any) Mutation {
	m.Name = fmt.Sprintf(format, args...)
	return m
}

// All is the n of every frame.
const All = 0

// Frames is the mutation that f makes of frame n of a type, counted from 1 over a
// connection, or of [All].
func Frames(name string, t wire.Type, n int, f func(frame []byte) [][]byte) Mutation {
	return Mutation{Name: fmt.Sprintf("%s: %v %d", name, t, n), Begin: func() Lie {
		count := 0
		return Lie{Down: func(frame []byte) [][]byte {
			if wire.Type(frame[0]) == t {
				if count++; count == n || n == All {
					return f(frame)
				}
			}
			return [][]byte{frame}
		}}
	}}
}

// Drop leaves a message out.
func Drop(t wire.Type, n int) Mutation {
	return Frames("drop", t, n, func([]byte) [][]byte { return nil })
}

// Repeat says a message twice.
func Repeat(t wire.Type, n int) Mutation {
	return Frames("repeat", t, n, func(f []byte) [][]byte { return [][]byte{f, f} })
}

// HangUp breaks the connection in the place of a message.
func HangUp(t wire.Type, n int) Mutation {
	return Frames("hang up", t, n, func([]byte) [][]byte { return [][]byte{nil} })
}

// Insert says something before a message.
func Insert(name string, t wire.Type, n int, what ...wire.Message) Mutation {
	return Frames("insert "+name, t, n, func(f []byte) [][]byte { return append(encode(what), f) })
}

// Silence says nothing from a message on, and keeps the connection.
func Silence(t wire.Type, n int) Mutation {
	return Mutation{Name: fmt.Sprintf("silence: %v %d", t, n), Begin: func() Lie {
		count := 0
		return Lie{Down: func(frame []byte) [][]byte {
			if wire.Type(frame[0]) == t {
				count++
			}
			if count >= n {
				return nil
			}
			return [][]byte{frame}
		}}
	}}
}

// Late says a message after the one that follows it.
func Late(t wire.Type, n int) Mutation {
	return Mutation{Name: fmt.Sprintf("late: %v %d", t, n), Begin: func() Lie {
		var held []byte
		count := 0
		return Lie{Down: func(frame []byte) [][]byte {
			if held != nil {
				out := [][]byte{frame, held}
				held = nil
				return out
			}
			if wire.Type(frame[0]) == t {
				if count++; count == n {
					held = frame
					return nil
				}
			}
			return [][]byte{frame}
		}}
	}}
}

// Replace says what f makes of a message in its place.
func Replace[M wire.Message](name string, n int, f func(m M) []wire.Message) Mutation {
	var m M
	return Frames(name, typeOf(m), n, func(frame []byte) [][]byte { return encode(f(decode(frame).(M))) })
}

// Change changes a message in place: a field of it.
func Change[M wire.Message](name string, n int, f func(m M)) Mutation {
	return Replace(name, n, func(m M) []wire.Message {
		f(m)
		return []wire.Message{m}
	})
}

// Answer answers a message of the device without asking the honest session: what f
// returns, or, if that is nil, leaves it to the session.
func Answer[M wire.Message](name string, f func(m M) []wire.Message) Mutation {
	var m M
	t := typeOf(m)
	return Mutation{Name: fmt.Sprintf("%s: %v", name, t), Begin: func() Lie {
		return Lie{Up: func(frame []byte) (pass, answer [][]byte) {
			if wire.Type(frame[0]) == t {
				if a := f(decode(frame).(M)); a != nil {
					return nil, encode(a)
				}
			}
			return [][]byte{frame}, nil
		}}
	}}
}

// At is the mutation that f makes of the frame that is the n-th to the device, from
// 0, over a connection.
func At(name string, n int, f func(frame []byte) [][]byte) Mutation {
	return Mutation{Name: fmt.Sprintf("%s: frame %d", name, n), Begin: func() Lie {
		count := 0
		return Lie{Down: func(frame []byte) [][]byte {
			if count++; count-1 == n {
				return f(frame)
			}
			return [][]byte{frame}
		}}
	}}
}

// Flip changes bits of one byte of a frame. See [At].
func Flip(n, offset int, mask byte) Mutation {
	return At(fmt.Sprintf("flip byte %d, bits %02x", offset, mask), n, func(frame []byte) [][]byte {
		if offset < len(frame) {
			frame[offset] ^= mask
		}
		return [][]byte{frame}
	})
}

// Both joins lies about what the device says with such about what it is told: what
// first makes of a frame goes on to second.
func Both(name string, first, second Mutation) Mutation {
	return Mutation{Name: name, Begin: func() Lie {
		a, b := begin(first), begin(second)
		return Lie{
			Up: func(frame []byte) (pass, answer [][]byte) {
				passed, answer := a.up(frame)
				for _, f := range passed {
					p, more := b.up(f)
					pass, answer = append(pass, p...), append(answer, more...)
				}
				return pass, answer
			},
			Down: func(frame []byte) (out [][]byte) {
				for _, f := range a.down(frame) {
					if f == nil {
						return append(out, nil)
					}
					out = append(out, b.down(f)...)
				}
				return out
			},
		}
	}}
}

func begin(m Mutation) Lie {
	if m.Begin == nil {
		return Lie{}
	}
	return m.Begin()
}

func (l Lie) up(frame []byte) (pass, answer [][]byte) {
	if l.Up == nil {
		return [][]byte{frame}, nil
	}
	return l.Up(frame)
}

func (l Lie) down(frame []byte) [][]byte {
	if l.Down == nil {
		return [][]byte{frame}
	}
	return l.Down(frame)
}

// typeOf returns the type of a message type's pointer, which may be nil.
func typeOf(m wire.Message) wire.Type { return m.Type() }

func decode(frame []byte) wire.Message {
	m, err := wire.Parse(frame)
	if err != nil {
		panic("an honest frame that is none: " + err.Error())
	}
	return m
}

// encode returns the frames of messages. One that cannot be encoded is a mistake of
// the test: what the format rules out is changed as bytes, by [Frames].
func encode(ms []wire.Message) (out [][]byte) {
	for _, m := range ms {
		frame, err := wire.Append(nil, m)
		if err != nil {
			panic("a lie that cannot be told: " + err.Error())
		}
		out = append(out, frame)
	}
	return out
}
