//go:build !linux

package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Keep returns an address of this machine, HOST:PORT, that is free, and below those that
// systems take for outgoing connections. On Linux it is kept, too.
func Keep() (address string, release func(), err error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, func() {}, l.Close()
		}
	}
	return "", nil, errors.New("no free port")
}
