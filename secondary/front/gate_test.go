package front_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kistvault/kist/secondary/front"
)

// Connections that say nothing give way to those that come after, the oldest first;
// who has asked stays.
func TestGate(t *testing.T) {
	asked := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			asked <- struct{}{}
			<-asked
		}
	}))
	s.Config.ConnState = front.NewGate(3).ConnState
	s.Start()
	defer s.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	long := dial()
	io.WriteString(long, "GET /long HTTP/1.0\r\n\r\n")
	<-asked
	var silent []net.Conn
	for range 8 {
		silent = append(silent, dial())
	}
	for _, c := range silent[:5] {
		if _, err := c.Read(make([]byte, 1)); err == nil || !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("a silent connection: %v, want it to be closed", err)
		}
	}
	asked <- struct{}{}
	for _, c := range append(silent[5:], long) {
		if c != long {
			io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		}
		if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
			t.Errorf("who asks: %q, %v", b, err)
		}
	}
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout()
}
