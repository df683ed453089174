// Package keys holds the identities of a vault: what is derived from a key
// file's root and from a device's seed, how statements are signed and checked,
// and the certificates that admit devices.
//
// It opens nothing. A sealed blob needs package seal, a key file package
// keyfile; the secondary imports this package and neither of those, so the
// import graph shows that it cannot read a record.
//
// # The tree of keys
//
//	root                    32 random bytes, in the key file and nowhere else
//	├── authority sign      signs control commits and certificates
//	├── authority auth      signs in at the secondary for owner actions
//	├── vault id            hash of the two authority public keys
//	├── tag secret          names of namespaces → tags
//	└── epoch secret 1, 2…
//	    └── namespace secret    one for each epoch and tag: seals its blobs
//
//	device seed             32 random bytes, on that device and nowhere else
//	├── device sign         signs the device's commits
//	├── device auth         signs in at the secondary
//	├── device KEM          receives grants
//	├── local key           indexes that never leave the device
//	└── device id           hash of the three public keys
//
// Devices hold the tag secret and epoch secrets, never the root. All labels of
// the derivation are in derive.go and in no other place.
//
// # Secrets
//
// Every secret has a type of its own: [Root], [TagSecret], [EpochSecret],
// [NamespaceSecret], [DeviceSeed], [LocalKey], [SigningKey]. None of them prints
// itself: fmt with any verb, log/slog and the text, JSON and binary encoders
// give a fixed word or an error. The bytes are behind pointers, so that a
// struct that holds a secret in an unexported field does not print it either.
// Copies of a secret share that memory; nothing ever writes to it. The zero
// value of a secret type holds nothing, and using it panics: keys derived from
// an empty secret would be known to everybody.
//
// Values of this package are safe for concurrent use.
package keys
