package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kistvault/kist/commitlog/store"
)

// The admin socket carries one question and one answer a connection, a line
// each: "invite" is answered with "ok INVITE" or "error TEXT". Its mode, 0600 in
// a directory of mode 0700, says who may ask.

// maxSocketPath is the longest path that a Unix socket can have on every system
// (sockaddr_un: 104 bytes with the final zero on the smallest).
const maxSocketPath = 103

// adminTime bounds one question and its answer.
const adminTime = 10 * time.Second

// admin answers on the admin socket.
type admin struct {
	listener net.Listener
	finished sync.WaitGroup
}

// listenAdmin answers questions at path until Close. The data directory is
// locked: a socket that is there has been left by a server that is no more.
func listenAdmin(ctx context.Context, path string, answer func(ctx context.Context, question string) (string, error)) (*admin, error) {
	if len(path) > maxSocketPath {
		return nil, usagef("the data directory's path is too long: %s has more than %d bytes", path, maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	a := &admin{listener: l}
	a.finished.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.finished.Go(func() { serveAdmin(ctx, c, answer) })
		}
	})
	return a, nil
}

func serveAdmin(ctx context.Context, c net.Conn, answer func(context.Context, string) (string, error)) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(adminTime))
	question, err := bufio.NewReader(io.LimitReader(c, 256)).ReadString('\n')
	if err != nil {
		return
	}
	text, err := answer(ctx, strings.TrimSuffix(question, "\n"))
	if err != nil {
		fmt.Fprintf(c, "error %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Fprintf(c, "ok %s\n", text)
}

// Close stops answering and removes the socket.
func (a *admin) Close() error {
	err := a.listener.Close()
	a.finished.Wait()
	return err
}

// adminCall asks the server whose socket is at path.
func adminCall(ctx context.Context, path, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		// Locked, and nobody listens: a server that starts, stops, or is stuck.
		return "", fmt.Errorf("data directory: %w, and no server answers: %v", store.ErrInUse, err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err := fmt.Fprintln(c, question); err != nil {
		return "", fmt.Errorf("asking the server: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(c, 8<<10)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("asking the server: %w", err)
	}
	line = strings.TrimSuffix(line, "\n")
	if text, ok := strings.CutPrefix(line, "ok "); ok {
		return text, nil
	}
	return "", fmt.Errorf("the server says: %s", strings.TrimPrefix(line, "error "))
}
