package keyfile

// Limits of what is read here. SPEC.md, "Limits".
const (
	// MaxContent is the length of a key file's text in bytes.
	MaxContent = 8 << 10

	// MaxFile is the length of a key file in bytes: the armored content,
	// and a header with maxRecipients recipients of the longest kind, some
	// 2.1 KiB each.
	MaxFile = 64 << 10

	// MaxDeviceFile is the length of a device file in bytes: 16,000 epochs.
	MaxDeviceFile = 1 << 20

	// MaxURL is the length of a secondary's address in bytes. Chosen
	// arbitrarily; maxServers of them fit into a key file.
	MaxURL = 255

	maxServers    = 16
	maxRecipients = 16

	// maxLogSize bounds sizes of logs, as everywhere: 2⁴⁰ commits.
	maxLogSize = 1<<40 - 1

	// WorkFactor is the scrypt work factor of key files that are written, as
	// a power of two: about 1 s and 256 MiB on a laptop.
	WorkFactor = 18

	// minWorkFactor and maxWorkFactor are what is accepted. Under 10 the
	// passphrase is as good as unprotected; over 20 opening takes more than
	// 1 GiB and would be a way to stop a device.
	minWorkFactor = 10
	maxWorkFactor = 20

	// weakWorkFactor is where a person is warned: below it, guessing a
	// passphrase costs less than it did when scrypt was new.
	weakWorkFactor = 17
)
