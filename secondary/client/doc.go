// Package client connects a device to its secondary: it dials, signs in, and
// carries the messages of package wire.
//
// Sign-in proves the secondary first. Until the pinned key has signed what both
// sides said, bound to this connection, nothing is sent that names a vault, a
// device or an invite: whoever else answers learns that somebody came, and the
// address that they asked for.
//
// A [Conn] has two goroutines, one that reads and one that writes and pings.
// Both have ended when Close returns. What is sent and received in a session,
// and when, is the caller's; a [Messenger] is all that the caller needs, so that
// tests can do without a network.
package client
