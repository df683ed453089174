// Package vectors runs test vectors of others against this repository:
// Wycheproof's for the chunked encryption below package seal, and age's from
// CCTV for the key files of package keyfile. It is a module of its own, so that
// who uses kist does not download them.
//
//	cd internal/vectors && go test ./...
package vectors
