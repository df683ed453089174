package main

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	gosync "sync"
	"time"
)

// usage is what a process holds: anonymous memory, as the system says, and
// objects in the heap, dead ones too.
type usage struct{ anon, heap int64 }

// watchMemory samples a process's memory until it is stopped, and returns the
// highest of each; 0 where the system does not tell. pid 0 is this process, and
// only of it is the heap known.
func watchMemory(pid int) (stop func() usage) {
	var peak usage
	sample := func() {
		peak.anon = max(peak.anon, rssAnon(pid))
		if pid == 0 {
			peak.heap = max(peak.heap, heap())
		}
	}
	done := make(chan struct{})
	var finished gosync.WaitGroup
	finished.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			sample()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() usage {
		close(done)
		finished.Wait()
		sample()
		return peak
	}
}

func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

func rssAnon(pid int) int64 {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", who))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// cpuTime returns how long a process has run on all cores, to a hundredth of a second;
// 0 where the system does not tell. pid 0 is this process.
func cpuTime(pid int) time.Duration {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", who))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100)
}
