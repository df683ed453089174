package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Caller is the client whose command is run: what it asked for, and its
// streams.
type Caller struct {
	Call
	Stdin          *Input
	Stdout, Stderr *Output

	ctx  context.Context // ends with the command's
	conn net.Conn

	sendMu sync.Mutex // a frame is written whole

	writeMu sync.Mutex // one write waits for its answer
	wrote   chan []byte

	askMu sync.Mutex // one question waits for its answer
	told  chan []byte
}

func newCaller(ctx context.Context, conn net.Conn, call *Call) *Caller {
	c := &Caller{Call: *call, ctx: ctx, conn: conn, wrote: make(chan []byte, 1), told: make(chan []byte, 1)}
	c.Stdin = &Input{c: c, data: make(chan input, 1)}
	c.Stdout = &Output{c: c, kind: kindOut, terminal: call.Terminal[1]}
	c.Stderr = &Output{c: c, kind: kindErr, terminal: call.Terminal[2]}
	return c
}

func (c *Caller) send(k kind, payload []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	_, err := c.conn.Write(appendFrame(make([]byte, 0, headerSize+len(payload)), k, payload))
	return err
}

// receive takes what the client sends until the connection ends, and returns why
// the command should end, too. Each answer has a place to wait in; one for
// which there is no room is a fault.
func (c *Caller) receive(cancel context.CancelCauseFunc) error {
	defer close(c.wrote)
	for {
		k, payload, err := readFrame(c.conn)
		if err != nil {
			return ErrInterrupted // the client is gone
		}
		ok := true
		switch k {
		case kindInput, kindEnd:
			ok = c.Stdin.take(input{payload, k == kindEnd})
		case kindWrote:
			ok = offer(c.wrote, payload)
		case kindTold:
			ok = offer(c.told, payload)
		case kindCancel:
			cause := ErrInterrupted
			if len(payload) == 1 && payload[0] == 1 {
				cause = ErrTerminated
			}
			cancel(cause)
		default:
			ok = false
		}
		if !ok {
			return errProtocol
		}
	}
}

// offer puts a value into a channel if there is room.
func offer[T any](c chan T, v T) bool {
	select {
	case c <- v:
		return true
	default:
		return false
	}
}

// Ask has the client do something, and returns what it answers. It is for what
// needs the person's own terminal. what and with are at most 32 KiB together.
func (c *Caller) Ask(ctx context.Context, what string, with []byte) ([]byte, error) {
	b, err := json.Marshal(question{what, with})
	if err == nil && len(b) > maxData {
		err = fmt.Errorf("too much to ask the client: %d bytes", len(b))
	}
	if err != nil {
		return nil, err
	}
	c.askMu.Lock()
	defer c.askMu.Unlock()
	if err := c.send(kindAsk, b); err != nil {
		return nil, err
	}
	select {
	case b = <-c.told:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%w: %v", errProtocol, err)
	}
	if a.Err != "" {
		err = errors.New(a.Err)
	}
	return a.With, err
}

// input is what came of standard input: bytes, or its end.
type input struct {
	data []byte
	end  bool
}

// An Input is a client's standard input. It is read when somebody reads here, and
// never beforehand: what a command leaves is left for the client's next one.
type Input struct {
	c    *Caller
	data chan input
	mu   sync.Mutex
	rest []byte
	err  error
}

func (in *Input) take(i input) bool { return offer(in.data, i) }

// Read reads from the client's standard input. It ends with the command's
// context.
func (in *Input) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if len(in.rest) == 0 && in.err == nil {
		in.fetch(min(len(p), maxData))
	}
	if len(in.rest) == 0 {
		return 0, in.err
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// fetch asks for up to n bytes.
func (in *Input) fetch(n int) {
	if in.err = in.c.send(kindWant, binary.BigEndian.AppendUint32(nil, uint32(n))); in.err != nil {
		return
	}
	select {
	case i := <-in.data:
		if !i.end {
			in.rest = i.data
			return
		}
		told, err := parseError(i.data)
		if in.err = errors.Join(told, err); in.err == nil {
			in.err = io.EOF
		}
	case <-in.c.ctx.Done():
		in.err = context.Cause(in.c.ctx)
	}
}

// IsTerminal reports whether it is a terminal.
func (in *Input) IsTerminal() bool { return in.c.Terminal[0] }

// An Output is a client's standard output or error.
type Output struct {
	c        *Caller
	kind     kind
	terminal bool
}

// Write returns when the client has written, or cannot.
func (o *Output) Write(p []byte) (n int, err error) {
	o.c.writeMu.Lock()
	defer o.c.writeMu.Unlock()
	for len(p) > 0 {
		part := p[:min(len(p), maxData)]
		if err := o.c.send(o.kind, part); err != nil {
			return n, err
		}
		b, ok := <-o.c.wrote // closed when the client is gone
		if !ok {
			return n, fmt.Errorf("writing: %w", net.ErrClosed)
		}
		told, err := parseError(b)
		if told != nil || err != nil {
			return n, errors.Join(told, err)
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// IsTerminal reports whether it is a terminal.
func (o *Output) IsTerminal() bool { return o.terminal }

// Width returns the terminal's columns, 0 if they are not known.
func (o *Output) Width() int { return o.c.Width }
