package vault

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// onAllCores calls fn for 0 to n−1, on all cores, and returns when all calls have.
func onAllCores(n int, fn func(i int)) {
	if n == 1 {
		fn(0)
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	wg.Wait()
}
