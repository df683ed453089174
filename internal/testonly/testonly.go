// Package testonly holds switches that only tests may turn. Programs never set
// them, from no flag and no environment variable; a test in this package reads
// the repository's source and fails if one does.
//
// A test sets a switch in its own process. A test that runs a program as a
// child runs its own test binary again (testscript does), and sets the switch
// in TestMain before the program's run function is called.
package testonly

// ScryptWorkFactor replaces the scrypt work factor of key files that are
// written, as a power of two: 10 makes a test's key file cost a millisecond. 0
// leaves the default of package keyfile. It is set before anything else runs,
// in TestMain, and not changed while tests run.
//
// What is accepted when a key file is opened does not depend on it.
var ScryptWorkFactor int

// ShallowOpen has stores that are small enough to be read as a whole when they are
// opened treated like large ones, so that tests can see what is found when it is
// read. It is set before a store is opened.
var ShallowOpen bool

// BetweenRooms, if not nil, is called by a vault that changes over to another log, when
// the first half of that is durable and the second has not begun. What it returns is as if
// the second half had failed.
var BetweenRooms func(dir string) error
