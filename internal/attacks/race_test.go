//go:build race

package attacks_test

// The race detector makes everything slower by much: it is given a sample.
func init() { raceEnabled = true }
