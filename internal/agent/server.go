package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/kistvault/kist/internal/peer"
)

// A Server is the agent of one directory.
type Server struct {
	dir   string
	place place
	hello []byte // greeting and hello frame
	ln    *net.UnixListener
}

// Listen makes the socket of the agent of dir, and says in dir where it is.
// program is this program's version: a client of another does not use it. The caller
// holds what only one process can hold for dir, and calls Serve or Close.
func Listen(dir, program string) (*Server, error) {
	path, err := newSocketPath(dir)
	if err != nil {
		return nil, err
	}
	hello, err := json.Marshal(Info{PID: os.Getpid(), Program: program})
	if err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // close does it, when nobody can find it any more
	s := &Server{
		dir: dir, place: place{Socket: path, PID: os.Getpid()}, ln: ln,
		hello: appendFrame([]byte(greeting), kindHello, hello),
	}
	if err = os.Chmod(path, 0o600); err == nil {
		err = s.place.write(dir)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close takes the socket away. Nobody finds the agent any more.
func (s *Server) Close() error {
	err := os.Remove(s.place.Socket)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(s.place.remove(s.dir), s.ln.Close(), err)
}

// Serve runs commands with run, each in a goroutine of its own, until ctx ends,
// which closes the server. run returns the exit status; its context ends with the
// client, by the client's wish, or, with the cause ErrEnded, with ctx. Serve
// returns when all of them have returned.
func (s *Server) Serve(ctx context.Context, run func(context.Context, *Caller) int) error {
	inner, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	closed := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		closed <- s.Close() // first: who comes now is not to be turned away half done
		end(ErrEnded)
	})
	slots := make(chan struct{}, maxClients)
	for {
		conn, err := s.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil { // too many open files, which passes
			time.Sleep(acceptPause)
			continue
		}
		if peer.Check(conn) != nil {
			conn.Close()
			continue
		}
		running.Go(func() {
			defer conn.Close()
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-inner.Done():
				return
			}
			s.serve(inner, conn, run)
		})
	}
	err := <-closed
	running.Wait()
	return err
}

const acceptPause = 100 * time.Millisecond

// serve runs the command of one client. It returns when the command has ended,
// and both goroutines that it starts.
func (s *Server) serve(outer context.Context, conn *net.UnixConn, run func(context.Context, *Caller) int) {
	// A client that is there and says nothing has no place to hold.
	if conn.SetDeadline(time.Now().Add(patience)) != nil {
		return
	}
	if _, err := conn.Write(s.hello); err != nil {
		return
	}
	k, payload, err := readFrame(conn)
	if err != nil || k != kindCall {
		return
	}
	call, err := parseCall(payload)
	if err != nil || conn.SetDeadline(time.Time{}) != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(outer)
	c := newCaller(ctx, conn, call)
	read := make(chan struct{})
	go func() {
		defer close(read)
		cancel(c.receive(cancel))
	}()
	// When the agent ends, a client that takes nothing must not hold it up, not
	// even one whose command was interrupted before.
	stop := context.AfterFunc(outer, func() { conn.SetDeadline(time.Now().Add(patience)) })
	code := runSafely(ctx, c, run)
	stop()
	c.send(kindExit, binary.BigEndian.AppendUint32(nil, uint32(code)))
	conn.Close()
	<-read
	cancel(nil)
}

// runSafely runs a command. One that panics ends as it would have ended alone,
// and the others go on.
func runSafely(ctx context.Context, c *Caller, run func(context.Context, *Caller) int) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(c.Stderr, "panic: %v\n\n%s", r, debug.Stack())
			code = 2
		}
	}()
	return run(ctx, c)
}
