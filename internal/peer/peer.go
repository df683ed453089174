// Package peer asks the kernel who is at the other end of a Unix socket.
package peer

import (
	"fmt"
	"net"
	"os"
)

// Check returns an error unless the other side is a process of this process's own
// user, or of one of also. Where the system does not tell (all but Linux), it
// returns nil: the modes of the socket and its directory keep others out there.
func Check(conn *net.UnixConn, also ...int) error {
	uid, ok, err := user(conn)
	if err != nil || !ok || uid == os.Getuid() {
		return err
	}
	for _, a := range also {
		if uid == a {
			return nil
		}
	}
	return fmt.Errorf("the other side belongs to user %d", uid)
}
