// Package commitlog defines the log of a vault: commits, the changes in them,
// the Merkle tree over them, and the checks that make a commit part of it.
//
// The package is pure. It does no I/O, starts no goroutine and holds no key
// that opens anything: the secondary and every device run the same code over
// the same ciphertext, so they agree on what is in the log and on what is live.
//
// # Model
//
// A commit is the atomic, signed unit. It has a header of 216 bytes and a
// change list; the blobs and objects that the list names by hash travel and are
// stored beside it. The secondary gives a commit its commit ID, its place in
// the log: 1, 2, 3, … without gaps. A change is addressed by (commit ID, index)
// and names the changes that it supersedes; a change is live while no later one
// supersedes it. Liveness depends on change lists alone, never on what a blob
// says.
//
//	header ‖ change list          signed: the header, which holds the list's hash
//	leaf = SHA-256(00 ‖ header)   one leaf a commit in the RFC 6962 tree
//
// Start with [ParseCommit], [Check] and [State]; [Build] makes a commit.
// Formats are in docs/SPEC.md, sections "Commits" and "Control log".
package commitlog
