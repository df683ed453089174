// Package vaulttest runs a secondary and its devices within one test: offline,
// conflicts, crashes and bad networks in milliseconds.
//
//	s := vaulttest.NewSecondary(t)
//	v := s.NewVault(t)
//	laptop := v.Device(t, "laptop", vault.Config{})
//	phone := v.Device(t, "phone", vault.Config{})
//
// A [Secondary] is the real server, with its store in a directory of the test. A
// [Device] is a real vault, admitted and empty. Between each device and the
// secondary is a [Network] that the test can slow down, break, stall and take
// away, at any frame that it chooses. Nothing is simulated but the wire: sign-in,
// WebSocket, deadlines and both drivers run as they do on TCP.
//
// There are no sockets, and nothing waits for anything but channels and timers.
// So all of it works in a bubble of testing/synctest, where hours of backoff take
// no time, and a [testing/synctest.Wait] returns when both sides have nothing
// left to do. What runs in a bubble must be made there.
//
//	synctest.Test(t, func(t *testing.T) {
//		s := vaulttest.NewSecondary(t)
//		…
//	})
//
// Stores are written without fsync. Nothing survives the test, and nothing is
// global: any number of secondaries may stand side by side.
//
// Devices cannot be revoked yet, and so not in tests either.
package vaulttest
