package porttest

import (
	"net"
	"testing"
)

// A server listens there again and again, one at a time, and nobody else gets the port
// meanwhile.
func TestKeep(t *testing.T) {
	address, release, err := Keep()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for range 3 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := net.Listen("tcp", address); err == nil {
			second.Close()
			t.Error("two servers listen at it")
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []net.Conn{s, c} { // the server first: the one that waits
			c.Close()
		}
		l.Close()
		for range 200 {
			other, release, err := Keep()
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if other == address {
				t.Error("it is kept twice")
			}
		}
	}
}
