//go:build linux && race

package stress

// The race detector sees this process alone, the clients: it takes no crowd of them.
func init() { *signIns, *silent, *idle = 2000, 1000, 300 }
