// Package attacks holds, as tests, what a secondary that lies, a device that was
// taken over, and a stranger may try against a vault: one test for each family of
// attacks, each with many lies of package lying, told to devices in a scene that
// honest ones have made.
//
// A test is named after its family: A are keys, B records, C the log, D sign-in and
// operation. docs/ATTACKS.md lists them, and what is tested elsewhere.
package attacks
