package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/kistvault/kist/internal/peer"
)

// A Conn is a connection with an agent that has not been asked for anything yet.
type Conn struct {
	Info
	conn *net.UnixConn
	mu   sync.Mutex // a frame is written whole
}

// Dial finds the agent that serves dir. program is this program's version. It
// returns ErrNone where there is none; ErrVersion, ErrSilent and ErrUnsafe say
// that there is one which cannot be used, and come with an Info.
func Dial(dir, program string) (*Conn, Info, error) {
	p := readPlace(dir)
	if p == nil {
		return nil, Info{}, ErrNone
	}
	info := Info{PID: p.PID}
	switch err := checkDir(filepath.Dir(p.Socket)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, info, ErrNone
	case err != nil:
		return nil, info, err
	}
	nc, err := net.DialTimeout("unix", p.Socket, patience)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, info, ErrNone // it died
	case err != nil:
		return nil, info, fmt.Errorf("%w: %v", ErrSilent, err)
	}
	c := &Conn{conn: nc.(*net.UnixConn)}
	if err = peer.Check(c.conn); err != nil {
		err = fmt.Errorf("%w: %v", ErrUnsafe, err)
	} else {
		err = c.greet(program)
	}
	if c.Info == (Info{}) {
		c.Info = info
	}
	if err != nil {
		c.Close()
		return nil, c.Info, err
	}
	return c, c.Info, nil
}

// greet reads what the agent begins with.
func (c *Conn) greet(program string) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	fail := func(err error) error {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrSilent
		case errors.Is(err, errProtocol):
			return fmt.Errorf("%w: %v", ErrVersion, err)
		}
		return ErrNone // it is just ending
	}
	var g [len(greeting)]byte
	if _, err := io.ReadFull(c.conn, g[:]); err != nil {
		return fail(err)
	}
	if string(g[:]) != greeting {
		return ErrVersion
	}
	k, payload, err := readFrame(c.conn)
	if err != nil {
		return fail(err)
	}
	if k != kindHello || json.Unmarshal(payload, &c.Info) != nil || c.Program != program {
		return ErrVersion
	}
	return c.conn.SetReadDeadline(time.Time{})
}

// Close ends the connection. A command that runs is cancelled.
func (c *Conn) Close() error { return c.conn.Close() }

// Streams are what a client lends to its command.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Answer does what Caller.Ask asks for. Nil: nothing can be asked.
	Answer func(ctx context.Context, what string, with []byte) ([]byte, error)
}

// Run has the agent run a command and returns its exit status. It closes the
// connection. The end of ctx cancels the command, with its cause where that is
// ErrTerminated, and Run waits for the command all the same. An error, ErrLost
// among them, says that the command's end is not known.
func (c *Conn) Run(ctx context.Context, call Call, s Streams) (int, error) {
	b, err := call.marshal()
	if err != nil {
		return 0, errors.Join(err, c.Close())
	}
	if err := c.send(kindCall, b); err != nil {
		return 0, errors.Join(fmt.Errorf("%w: %v", ErrLost, err), c.Close())
	}
	// What answers questions and reads input runs beside the reading of frames.
	inner, cancel := context.WithCancel(ctx)
	var answering sync.WaitGroup
	wants := make(chan int, 1)
	go c.feed(s.In, wants) // may hang in a read as long as the process lives
	stop := context.AfterFunc(ctx, func() {
		why := byte(0)
		if errors.Is(context.Cause(ctx), ErrTerminated) {
			why = 1
		}
		c.send(kindCancel, []byte{why})
	})
	defer func() {
		stop()
		cancel()
		close(wants)
		c.Close()
		answering.Wait()
	}()
	for {
		k, payload, err := readFrame(c.conn)
		if err != nil {
			return 0, fmt.Errorf("%w: %v", ErrLost, err)
		}
		switch {
		case k == kindOut:
			_, err = s.Out.Write(payload)
			c.send(kindWrote, appendError(nil, err))
		case k == kindErr:
			_, err = s.Err.Write(payload)
			c.send(kindWrote, appendError(nil, err))
		case k == kindWant && len(payload) == 4:
			if !offer(wants, int(min(binary.BigEndian.Uint32(payload), maxData))) {
				return 0, fmt.Errorf("%w: %w", ErrLost, errProtocol)
			}
		case k == kindAsk:
			answering.Go(func() { c.send(kindTold, s.answer(inner, payload)) })
		case k == kindExit && len(payload) == 4:
			return int(binary.BigEndian.Uint32(payload)), nil
		default:
			return 0, fmt.Errorf("%w: %w", ErrLost, errProtocol)
		}
	}
}

// A send that fails shows again in the next read of a frame.
func (c *Conn) send(k kind, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(appendFrame(make([]byte, 0, headerSize+len(payload)), k, payload))
	return err
}

// feed reads standard input as far as it is wanted.
func (c *Conn) feed(in io.Reader, wants <-chan int) {
	b := make([]byte, maxData)
	for n := range wants {
		got, err := in.Read(b[:n])
		for got == 0 && err == nil {
			got, err = in.Read(b[:n])
		}
		switch {
		case got > 0: // an error with it comes again with the next read
			c.send(kindInput, b[:got])
		case err == io.EOF:
			c.send(kindEnd, nil)
		default:
			c.send(kindEnd, appendError(nil, err))
		}
	}
}

// answer does what was asked for.
func (s *Streams) answer(ctx context.Context, payload []byte) []byte {
	var q question
	var a answer
	err := json.Unmarshal(payload, &q)
	switch {
	case err != nil:
	case s.Answer == nil:
		err = errors.New("nothing can be asked here")
	default:
		a.With, err = s.Answer(ctx, q.What, q.With)
	}
	if err != nil {
		a.Err = err.Error()
	}
	b, err := json.Marshal(a)
	if err != nil || len(b) > maxData {
		b, _ = json.Marshal(answer{Err: "the answer is too long"})
	}
	return b
}
