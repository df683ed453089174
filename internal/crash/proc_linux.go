package main

import (
	"os"
	"syscall"
)

// attributes gives a child a process group of its own, and has the kernel kill
// it when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(p *os.Process) error {
	return groupError(syscall.Kill(-p.Pid, syscall.SIGKILL))
}

func groupError(err error) error {
	if err == syscall.ESRCH {
		return os.ErrProcessDone
	}
	return err
}
