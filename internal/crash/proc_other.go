//go:build !linux

package main

import (
	"os"
	"syscall"
)

// attributes: devices end when their stdin does; a kistd outlives a parent that
// is itself killed.
func attributes() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) error { return p.Kill() }
