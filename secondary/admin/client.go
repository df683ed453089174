package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/kistvault/kist/internal/peer"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
)

// ErrSilent: no server answers on the socket.
var ErrSilent = errors.New("no server answers")

// A Client asks the server of one data directory. It is safe for concurrent use.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path. It connects with its first
// question.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrSilent, err)
		}
		if os.Getuid() == root {
			return c, nil // the server is another's
		}
		if err := peer.Check(c.(*net.UnixConn)); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), c.Close())
		}
		return c, nil
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// request sends a question and returns its good answer, to be closed.
func (c *Client) request(ctx context.Context, method, what string, question any) (*http.Response, error) {
	var body io.Reader
	if question != nil {
		b, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	return c.send(ctx, method, what, body)
}

// send is request with any body.
func (c *Client) send(ctx context.Context, method, what string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://kistd/"+what, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var no refusal
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxQuestion)).Decode(&no); err != nil {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	known := no.known()
	switch resp.StatusCode {
	case http.StatusConflict:
		known = engine.ErrExists
	case http.StatusUnsupportedMediaType:
		known = archive.ErrDamaged
	}
	if known != nil {
		return nil, refused{known, no.Error}
	}
	return nil, errors.New(no.Error)
}

// refused is an error of the server that has a code.
type refused struct {
	known error
	text  string
}

func (r refused) Error() string { return r.text }
func (r refused) Unwrap() error { return r.known }

// ask asks one question.
func ask[A any](ctx context.Context, c *Client, what string, question any) (answer A, err error) {
	resp, err := c.request(ctx, http.MethodPost, what, question)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("asking the server: %w", err)
	}
	return answer, nil
}
