package front_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kistvault/kist/secondary/front"
)

// Connections that are no sessions give way to those that come after, the oldest first,
// whatever they have asked; a session stays, and so does who comes and asks.
func TestGate(t *testing.T) {
	session := make(chan net.Conn, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/session" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			session <- c
		}
	}))
	s.Config.ConnState = front.NewGate(3).ConnState
	s.Start()
	defer s.Close()
	dial := func(say string) net.Conn {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, say)
		return c
	}
	stays := dial("GET /session HTTP/1.1\r\nHost: a\r\n\r\n")
	taken := <-session
	defer taken.Close()

	idle := dial("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(idle), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	old := []net.Conn{idle, dial("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"), dial("GET / HT"), dial(""), dial("")}
	last := []net.Conn{dial(""), dial(""), dial("")}
	for i, c := range old {
		if _, err := c.Read(make([]byte, 1)); err == nil || !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("connection %d: %v, want it to be closed", i, err)
		}
	}
	for _, c := range last {
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
			t.Errorf("who asks: %q, %v", b, err)
		}
	}
	io.WriteString(taken, "x")
	if _, err := stays.Read(make([]byte, 1)); err != nil {
		t.Errorf("the session: %v", err)
	}
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout()
}
