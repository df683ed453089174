package peer

import (
	"errors"
	"net"
	"syscall"
)

// user returns the user of the other side.
func user(conn *net.UnixConn) (uid int, ok bool, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var cred *syscall.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, cerr); err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
