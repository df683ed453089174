package agent

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// checkPeer asks the kernel whether the other side is a process of the user.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	switch {
	case err != nil:
		return err
	case cerr != nil:
		return cerr
	case int(cred.Uid) != os.Getuid():
		return fmt.Errorf("the other side belongs to user %d", cred.Uid)
	}
	return nil
}
