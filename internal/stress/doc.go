// Package stress has tests of kistd as a process among hostile things: disks that are
// full or fail, too few file descriptors, kills, and peers that are slow, silent,
// gone, many, or talk nonsense. Beside each of them devices of honest people sync, and
// what they wrote has to be right. The package itself is empty.
//
// The tests need Linux: full disks are file systems in memory in a namespace of their
// own, system calls fail by strace. What is bounded is memory, descriptors and
// goroutines; nothing is said of speed.
//
//	go test ./internal/stress
//	go test ./internal/stress -stress.n=1000000 -stress.long -timeout 24h
//
// Where strace is not to be had or may not be used, the tests that need it are
// skipped, and fail with -stress.all or KIST_STRESS_ALL=1, as in .ci/run.
package stress
