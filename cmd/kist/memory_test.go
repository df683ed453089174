package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// inMemory looks for a text in all that a process may write to in its memory.
func inMemory(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: inmemory NAME TEXT")
	}
	if runtime.GOOS != "linux" {
		ts.Logf("only Linux shows a process's memory: nothing was looked at")
		return
	}
	pid := strings.TrimSpace(ts.ReadFile(args[0] + ".pid"))
	found, size, err := searchMemory(pid, []byte(args[1]))
	ts.Check(err)
	ts.Logf("%d bytes of process %s", size, pid)
	if size < 1<<20 {
		ts.Fatalf("only %d bytes of its memory could be read", size)
	}
	if found == neg {
		ts.Fatalf("%q is in the memory of %s: %v", args[1], args[0], found)
	}
}

func searchMemory(pid string, text []byte) (found bool, size int64, err error) {
	maps, err := os.Open("/proc/" + pid + "/maps")
	if err != nil {
		return false, 0, err
	}
	defer maps.Close()
	mem, err := os.Open("/proc/" + pid + "/mem")
	if err != nil {
		return false, 0, err
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return false, size, err
		}
		if !strings.HasPrefix(mode, "rw") || strings.HasSuffix(lines.Text(), "[vvar]") {
			continue
		}
		const piece = 1 << 20
		overlap := make([]byte, 0, len(text))
		for at := int64(from); at < int64(to); at += piece {
			b := make([]byte, min(piece, int64(to)-at))
			n, err := mem.ReadAt(b, at)
			if err != nil && err != io.EOF {
				break // it was never touched, or has gone
			}
			size += int64(n)
			whole := append(overlap, b[:n]...)
			if bytes.Contains(whole, text) {
				return true, size, nil
			}
			overlap = append(overlap[:0], whole[max(0, len(whole)-len(text)):]...)
		}
	}
	return false, size, lines.Err()
}
