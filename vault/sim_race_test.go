//go:build race

package vault

// With the race detector the simulation is run for itself; here it is a sample.
func init() { *simSeeds, simReplayed = 2, simReplayed[:1] }
