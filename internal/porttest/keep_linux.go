// Package porttest keeps ports for servers that are stopped and started again, in tests
// and in the programs that try kistd.
package porttest

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Keep returns an address of this machine, HOST:PORT, at which a server can listen as
// often as wanted. Up to release, or the end of this process, no port that the system
// chooses, for a connection or another caller of Keep, is this one, whether the server
// runs or not.
func Keep() (address string, release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("socket: %w", err)
	}
	release = sync.OnceFunc(func() { unix.Close(fd) })
	// Bound without SO_REUSEADDR, which finds a port that nobody else has, and given it
	// afterwards, so that a server may listen there too: as each does that Go runs.
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	var at unix.Sockaddr
	if err == nil {
		at, err = unix.Getsockname(fd)
	}
	if err != nil {
		release()
		return "", nil, fmt.Errorf("keeping a port: %w", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port), release, nil
}
