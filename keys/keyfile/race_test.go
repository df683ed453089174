//go:build race

package keyfile_test

func init() { raceEnabled = true }
