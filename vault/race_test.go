//go:build race

package vault_test

// The race detector makes everything slower by much: it is given a sample.
func init() { sample = 8 }
